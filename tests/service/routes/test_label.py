"""/label: who may label, what is asked and why, and what is kept."""

import base64
import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from journal import tables
from journal.database import Database
from journal.ids import first_id, golden_id
from journal.rows import ASKED, LabelRow
from service.callers import Callers
from tests.bundles import DIGITS, png
from tests.journal.test_writer import row, rows
from tests.service.conftest import Service, in_process

pytestmark = pytest.mark.slow

PICTURES = [png(digit) for digit in DIGITS]
KEYS = ["anna", "bert", "carl"]
DIGESTS = [hashlib.sha256(key.encode()).hexdigest() for key in KEYS]
SETTINGS = {"labeller_keys": ",".join(DIGESTS), "caller_secret": "secret"}
PEOPLE = {key: Callers("secret").hashed(digest) for key, digest in zip(KEYS, DIGESTS, strict=True)}


def prediction(version, digit, margin, place=0):
    """A prediction of `digit`, a bit different from the others. Its id is fixed: audits are drawn by it."""
    prob = np.zeros(10, np.float32)
    prob[digit], prob[(digit + 1) % 10] = (1 + margin) / 2, (1 - margin) / 2
    image = DIGITS[digit].copy()
    image[0, place % 28] = 1 + place // 28 % 255
    return row(id=f"{int(first_id(1.7e9), 16) + place:032x}", model_version=version, digit=digit,
               confidence=float(prob.max()), probabilities=prob.tobytes(), image=image.tobytes())  # fmt: skip


def filled(url, version, count, margin=lambda place: (place * 7 % 97) / 97, first=0):
    """Writes `count` predictions of all classes. Returns them."""
    predictions = [prediction(version, place % 10, margin(place), place) for place in range(first, first + count)]
    database = Database(url)
    database.write(predictions)
    database.close()
    return predictions


@pytest.fixture
def open_one(bundle_folder, url):
    """A service with a journal, in this process."""
    with in_process(bundle_folder, journal=url, **SETTINGS) as client:
        yield client


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/journal.db"


@pytest.fixture
def version(open_one):
    return open_one.get("/version").json()["version"]


def following(client, who="anna", n=10):
    answer = client.get(f"/label/next?n={n}", headers={"X-API-Key": who})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def say(client, item, label, who="anna"):
    return client.post("/label", json={"token": item["token"], "label": label}, headers={"X-API-Key": who})


def labelled(client, url, count, who="anna"):
    """Answers `count` pictures with 3. Returns the rows of the journal."""
    done = 0
    while done < count:
        for item in following(client, who, min(10, count - done)):
            assert say(client, item, 3, who).status_code == 201
            done += 1
    return [kept for kept in rows(url, tables.feedback) if kept.by == PEOPLE[who]]


def test_nobody_may_label_where_no_key_is_set(client):
    for answer in (
        client.get("/label"), client.get("/label/next"), client.get("/label/stats"),
        client.post("/label", json={"token": "", "label": 1}),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["reason"]) == (403, "nobody-may-label")


def test_only_a_labellers_key_may_label(open_one):
    for key in ({}, {"X-API-Key": "mallory"}):
        for answer in (
            open_one.get("/label/next", headers=key), open_one.get("/label/stats", headers=key),
            open_one.post("/label", json={"token": "", "label": 1}, headers=key),
        ):  # fmt: skip
            assert (answer.status_code, answer.json()["reason"]) == (401, "unauthorized")
    assert open_one.get("/label").status_code == 200


def test_a_labellers_key_is_an_api_key_and_an_api_key_is_no_labellers(bundle_folder, url):
    callers = hashlib.sha256(b"caller").hexdigest()
    with in_process(bundle_folder, journal=url, api_keys=callers, **SETTINGS) as client:
        assert following(client) == []
        assert client.post("/predict", content=PICTURES[3], headers={"X-API-Key": "anna"}).status_code == 200
        assert client.get("/label/next", headers={"X-API-Key": "caller"}).status_code == 401
        assert client.get("/label/next", headers={"X-API-Key": "nobody"}).status_code == 401


def test_without_a_journal_there_is_nothing_to_label(bundle_folder):
    with in_process(bundle_folder, **SETTINGS) as client:
        answer = client.get("/label/next", headers={"X-API-Key": "anna"})
        assert (answer.status_code, answer.json()["reason"]) == (503, "no-journal")


def test_a_label_is_kept_with_who_why_and_how_long(open_one, url, version):
    predictions = {made.id: made for made in filled(url, version, 60)}
    items = following(open_one, n=30)
    by_id = {item["prediction_id"]: item for item in items}
    answer = say(open_one, items[0], 7)
    assert answer.status_code == 201
    said = answer.json()
    assert (said["prediction_id"], said["label"]) == (items[0]["prediction_id"], 7)
    (kept,) = rows(url, tables.feedback)
    assert (kept.prediction_id, kept.label, kept.by) == (items[0]["prediction_id"], 7, PEOPLE["anna"])
    assert (kept.role, kept.blind) == ("labeller", items[0]["blind"])
    assert kept.seconds == said["seconds"] >= 0
    for identity, made in predictions.items():
        if identity in by_id:
            item = by_id[identity]
            picture = Image.open(io.BytesIO(base64.b64decode(item["image"].partition(",")[2])))
            assert np.asarray(picture).tobytes() == made.image
            assert (item["prediction"] is None) == (item["probabilities"] is None) == item["blind"]
            assert item["blind"] or item["prediction"] == made.digit
    assert open_one.get("/label/next", headers={"X-API-Key": "anna"}).headers["cache-control"] == "no-store"


def test_of_ten_pictures_one_is_an_audit_and_of_twenty_one_is_golden(open_one, url, version):
    predictions = filled(url, version, 1000)
    kept = labelled(open_one, url, 100)
    counts = {why: sum(label.asked == why for label in kept) for why in ASKED}
    assert (counts["audit"], counts["golden"], counts["volunteered"]) == (10, 5, 0)
    assert counts["uncertain"] > counts["novel"] > counts["class"] > 15
    assert all(label.blind for label in kept if label.asked == "audit")
    assert {label.blind for label in kept if label.asked == "golden"} == {True, False}
    chosen = [label.blind for label in kept if label.asked in ("uncertain", "class", "novel")]
    assert 0.25 < np.mean(chosen) < 0.42
    others = [label.prediction_id for label in kept if label.asked != "golden"]
    assert len({*others}) == len(others)
    assert {*others} <= {made.id for made in predictions}


def test_audits_are_drawn_from_all_predictions_whatever_else_is_labelled(open_one, url, version):
    """The rest of the queue, and callers, name doubtful pictures first; the audits' share of these stays what it is."""
    doubtful = {made.id for made in filled(url, version, 1500, lambda place: 0.01 if place % 2 else 0.99)[1::2]}
    database = Database(url)
    for identity in sorted(doubtful)[::3]:
        database.feedback(LabelRow(identity, 1))  # a caller's
    database.close()
    kept = labelled(open_one, url, 200)
    audits = [label.prediction_id in doubtful for label in kept if label.asked == "audit"]
    others = [label.prediction_id in doubtful for label in kept if label.asked == "uncertain"]
    assert len(audits) == 20
    assert 0.25 < np.mean(audits) < 0.75
    assert np.mean(others) > 0.9


def test_what_is_labelled_or_skipped_is_not_shown_again(open_one, url, version):
    filled(url, version, 8)
    seen = []
    while items := following(open_one, n=3):
        for place, item in enumerate(items):
            assert say(open_one, item, None if place == 0 else 3).status_code == 201
            seen.append(item["prediction_id"])
        assert len(seen) < 30
    assert len([identity for identity in seen if identity not in {golden_id(version, p) for p in range(10)}]) == 8
    skipped = {kept.prediction_id for kept in rows(url, tables.feedback)}
    assert 0 < len(skipped) < 8 + 2  # a picture that is skipped leaves no label
    assert {item["prediction_id"] for item in following(open_one, "bert", 20)} & {*seen}  # who skipped nothing


def test_two_people_get_different_pictures_and_a_third_settles_what_they_dispute(open_one, url, version):
    predictions = filled(url, version, 400)
    anna, bert = (
        {item["prediction_id"] for item in following(open_one, who, 30) if item["asked"] == "uncertain"}
        for who in ("anna", "bert")
    )
    known = {made.id for made in predictions}
    assert not anna & bert & known
    disputed = min(anna & known)
    agreed = min(bert & known)
    database = Database(url)
    for who, label in (("anna", 1), ("bert", 2)):
        database.feedback(LabelRow(disputed, label, PEOPLE[who], "labeller", "uncertain"))
        database.feedback(LabelRow(agreed, 1, PEOPLE[who], "labeller", "uncertain"))
    assert disputed not in {item["prediction_id"] for item in following(open_one, "anna", 50)}
    shown = {item["prediction_id"]: item for item in following(open_one, "carl", 50)}
    assert agreed not in shown
    assert shown[disputed]["blind"]
    database.feedback(LabelRow(disputed, 2, PEOPLE["carl"], "labeller", "uncertain"))
    database.close()
    for who in KEYS:
        assert disputed not in {item["prediction_id"] for item in following(open_one, who, 50)}


def test_what_is_said_again_replaces_the_first_answer(open_one, url, version):
    filled(url, version, 40)
    item = following(open_one)[0]
    assert [say(open_one, item, label).status_code for label in (1, 2)] == [201, 201]
    assert {(kept.prediction_id, kept.label) for kept in rows(url, tables.feedback)} == {
        (item["prediction_id"], 1), (item["prediction_id"], 2)
    }  # fmt: skip


def test_a_ticket_cannot_be_forged_lent_or_kept(open_one, url, version, monkeypatch):
    filled(url, version, 40)
    item = following(open_one)[0]
    token = item["token"]
    raw = base64.urlsafe_b64decode(token)
    forged = base64.urlsafe_b64encode(raw.replace(item["asked"].encode(), b"audit") + b" ").decode()
    for sent, said in (
        (forged, "this service did not sign it"), ("", "this service did not sign it"),
        ("äö", "this service did not sign it"), ("a" * 1025, "String should have at most 1024 characters"),
    ):  # fmt: skip
        answer = say(open_one, {"token": sent}, 1)
        assert (answer.status_code, answer.json()["detail"]) == (400, f"token: {said}")
    lent = say(open_one, item, 1, "bert")
    assert (lent.status_code, lent.json()["detail"]) == (400, "token: the picture was shown to somebody else")
    import time

    now = time.time()
    monkeypatch.setattr("service.labelling.time.time", lambda: now + 3601)
    late = say(open_one, item, 1)
    assert (late.status_code, late.json()["detail"]) == (400, "token: the picture was shown more than 60 minutes ago")
    monkeypatch.undo()
    assert rows(url, tables.feedback) == []
    assert say(open_one, item, 10).json()["detail"].startswith("label: 10 is not a label of the served model")
    assert say(open_one, item, 1).status_code == 201


def test_stats_tell_who_confirms_without_looking(open_one, url, version):
    filled(url, version, 300)
    right = {golden_id(version, place): place for place in range(10)}
    wrong = []

    def answers(who, label):
        for _ in range(8):
            for item in following(open_one, who):
                if item["prediction_id"] in right:
                    assert item["asked"] == "uncertain"  # nobody is told
                    wrong.extend([item["prediction"] == right[item["prediction_id"]]] * (not item["blind"]))
                assert say(open_one, item, label(item), who).status_code == 201

    answers("anna", lambda item: right.get(item["prediction_id"], 1))
    answers("bert", lambda item: 1 if item["blind"] else item["prediction"])
    assert wrong == [False] * len(wrong) != []
    stats = open_one.get("/label/stats", headers={"X-API-Key": "carl"}).json()
    anna, bert = (stats["people"][PEOPLE[who]] for who in ("anna", "bert"))
    assert anna["labels"] == bert["labels"] == 80
    assert anna["golden"] == anna["right"] == bert["golden"] == anna["asked"]["golden"] == 4
    assert bert["right"] <= 2
    assert stats["waiting"] == 300 - 2 * 76
    assert PEOPLE["carl"] not in stats["people"]


def test_only_predictions_of_the_served_model_wait(open_one, url, version):
    filled(url, "another", 20)
    assert following(open_one) == []
    mine = filled(url, version, 5, first=20)
    assert {item["prediction_id"] for item in following(open_one)} >= {made.id for made in mine}


def test_keys_of_labellers_need_a_secret(bundle_folder):
    from service.settings import Settings

    with pytest.raises(ValueError, match="digests with NEOCOG_CALLER_SECRET set"):
        Settings(labeller_keys=DIGESTS[0])


def test_a_silent_database_is_answered(bundle_folder, postgres, database):
    service = Service(bundle_folder, journal=database, **SETTINGS)
    try:
        assert service.http.get("/label/next", headers={"X-API-Key": "anna"}).json() == {"items": []}
        with postgres.silent():
            answer = service.http.get("/label/next", headers={"X-API-Key": "anna"})
            assert (answer.status_code, answer.json()["reason"]) == (503, "journal-unavailable")
            assert service.http.post("/predict", content=PICTURES[0]).status_code == 200
    finally:
        assert service.stop() == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_person_labels_with_one_key_a_picture(browser, serve, url):
    service = serve(journal=url, **SETTINGS)
    filled(url, service.http.get("/version").json()["version"], 200)
    page, failed = browser.new_page(), []
    page.on("console", lambda message: failed.append(message.text))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{service.address}/label")
    page.locator("#key").fill("anna")
    page.get_by_role("button", name="Start").click()
    count, pressed = page.locator("#count"), 0
    expect(page.locator("#picture")).to_be_visible()
    while "?" in page.locator("#answer").inner_text():  # a blind one: Enter confirms nothing
        page.keyboard.press("Enter")
        page.keyboard.press("4")
        pressed += 1
        expect(count).to_have_text(str(pressed))
        expect(page.locator("#said")).to_have_text("Kept: 4.")
    confirmed = page.locator("#answer strong").inner_text()
    page.keyboard.press("Enter")
    expect(count).to_have_text(str(pressed + 1))
    expect(page.locator("#said")).to_have_text(f"Kept: {confirmed}.")
    newest = max(rows(url, tables.feedback), key=lambda label: label.id)
    assert (str(newest.label), newest.by, newest.blind) == (confirmed, PEOPLE["anna"], False)

    first = page.locator("#picture").get_attribute("src")
    page.keyboard.press("x")
    expect(page.locator("#said")).to_have_text("Skipped.")
    assert page.locator("#picture").get_attribute("src") != first
    page.keyboard.press("u")
    expect(page.locator("#picture")).to_have_attribute("src", first)
    page.keyboard.press("5")
    expect(page.locator("#said")).to_have_text("Kept: 5.")
    assert len(rows(url, tables.feedback)) == pressed + 2
    for turn in range(pressed + 3, pressed + 13):  # past the first ten pictures
        page.keyboard.press("7")
        expect(count).to_have_text(str(turn))
        expect(page.locator("#said")).to_have_text("Kept: 7.")
    labels = rows(url, tables.feedback)
    assert len(labels) == pressed + 12
    assert "audit" in {label.asked for label in labels}
    assert service.metric('neocog_labels_total{asked="audit"}') >= 1
    page.reload()  # the key is known until the tab is closed
    expect(page.locator("#picture")).to_be_visible()
    assert failed == []  # nothing was blocked by the content security policy, nothing failed
    page.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_wrong_key_is_said_on_the_page(browser, serve, url):
    service = serve(journal=url, **SETTINGS)
    page = browser.new_page()
    page.goto(f"{service.address}/label")
    page.locator("#key").fill("mallory")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#said")).to_have_text("an API key is needed: X-API-Key, or Authorization: Bearer")
    page.locator("#key").fill("anna")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("Nothing waits for a label.")
    page.close()
