"""GET /drift, and the gauge on the page."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from journal import tables
from journal.database import Database, engine
from journal.writer import Journal
from service.drift import EVERY, Drift
from tests.service.conftest import in_process
from tests.waiting import until

UNKNOWN = {"status": "unknown"}


def summary(version, **changes):
    return {
        "model_version": version, "status": "risk", "predictions": 5000, "labels": 40, "reference_error": 0.004,
        "error": None, "estimated_accuracy": {"mean": 0.953, "low": 0.94, "high": 0.966, "count": 5000},
        "evidence": {"class": -1.5, "confidence": 2.5, "feature 1": 0.2}, "alarms": [], "updated": time.time(),
    } | changes  # fmt: skip


def watched(url, version, text):
    """Writes what watch would."""
    Database(url).migrate()
    made = engine(url)
    with made.begin() as connection:
        connection.execute(sa.delete(tables.watch))
        row = {"model_version": version, "prediction_cursor": "", "label_cursor": "", "state": b"", "updated": 1.0}
        connection.execute(sa.insert(tables.watch).values(**row, summary=text))
    made.dispose()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/journal.db"


@pytest.fixture
def open_one(bundle_folder, url):
    with in_process(bundle_folder, journal=url) as client:
        yield client


@pytest.fixture
def version(open_one):
    return open_one.get("/version").json()["version"]


def test_without_a_journal_or_a_watch_it_is_unknown(client, open_one):
    for one in (client, open_one):
        for _ in range(3):
            assert one.get("/drift").json() == UNKNOWN


def test_it_is_what_watch_last_said_of_this_model(open_one, url, version):
    said = summary(version)
    watched(url, version, json.dumps(said))
    until(lambda: open_one.get("/drift").json() == said)


@pytest.mark.parametrize("text", ["", "[]", '{"status": 3}', "{"])
def test_what_is_no_summary_is_unknown(bundle_folder, url, text):
    with in_process(bundle_folder, journal=url) as first:
        version = first.get("/version").json()["version"]
    watched(url, version, text)
    with in_process(bundle_folder, journal=url) as client:
        for _ in range(20):
            assert client.get("/drift").json() == UNKNOWN


def test_another_models_summary_is_not_shown(open_one, url):
    watched(url, "another", json.dumps(summary("another")))
    for _ in range(20):
        assert open_one.get("/drift").json() == UNKNOWN


def test_the_journal_is_asked_once_in_ten_seconds(open_one, url, version, monkeypatch):
    now = [time.monotonic()]
    monkeypatch.setattr("service.drift.monotonic", lambda: now[0])
    first, second = summary(version), summary(version, status="harm")
    watched(url, version, json.dumps(first))
    until(lambda: open_one.get("/drift").json() == first)
    watched(url, version, json.dumps(second))
    now[0] += EVERY - 0.1
    for _ in range(20):
        assert open_one.get("/drift").json() == first
    now[0] += 0.1
    until(lambda: open_one.get("/drift").json() == second)


def test_a_silent_database_changes_nothing(serve, postgres, database):
    service = serve(journal=database)
    version = service.http.get("/version").json()["version"]
    said = summary(version)
    watched(database, version, json.dumps(said))
    with postgres.silent():
        for _ in range(5):
            assert service.http.get("/drift").json() == UNKNOWN


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_shows_a_gauge_once_something_is_known(browser, serve, url):
    service = serve(journal=url)
    page, failed = browser.new_page(), []
    page.on("console", lambda message: failed.append(message.text))
    page.on("pageerror", lambda error: failed.append(str(error)))
    version = service.http.get("/version").json()["version"]
    watched(url, version, json.dumps(summary(version)))
    with page.expect_response("**/drift") as first:
        page.goto(service.address)
        assert page.locator("#drift").is_hidden()
    assert first.value.json() == UNKNOWN
    expect(page.locator("#drift")).to_be_visible()
    expect(page.locator("#status")).to_have_text("The model is probably wrong more often than it was.")
    expect(page.locator("#accuracy")).to_have_text("95.3 %")
    expect(page.locator("#range")).to_have_text("(94.0 to 96.6 %)")
    expect(page.locator("#odds")).to_have_text("316 to 1, by confidence")
    assert page.locator("#evidence").evaluate("bar => bar.value") == 2.5
    assert failed == []
    page.close()


def test_after_a_new_bundle_the_old_ones_summary_is_gone_at_once(url):
    said = summary("old")
    watched(url, "old", json.dumps(said))
    journal = Journal(url, 10)
    bundles = SimpleNamespace(current=SimpleNamespace(manifest=SimpleNamespace(version="old")))

    async def asked():
        drift = Drift(journal, bundles)
        while json.loads(drift.summary()) != said:
            await asyncio.sleep(0.01)
        bundles.current.manifest.version = "new"
        return json.loads(drift.summary())

    assert asyncio.run(asyncio.wait_for(asked(), 120)) == UNKNOWN
    journal.close(within=30)
