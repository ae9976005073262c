"""The page, in a real browser."""

import pytest
from playwright.sync_api import expect

from tests.bundles import ALPHABET, LETTERS, letter, make_bundle, png

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def page(browser, service):
    page = browser.new_page()
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(service.address)
    yield page
    page.close()


def draw_a_one(page):
    box = page.locator("#pad").bounding_box()
    across, top, bottom = box["x"] + box["width"] / 2, box["y"] + 50, box["y"] + box["height"] - 50
    page.mouse.move(across, top)
    page.mouse.down()
    page.mouse.move(across, bottom, steps=10)
    page.mouse.up()


def test_a_digit_that_is_drawn_is_read_and_can_be_corrected(page, service):
    draw_a_one(page)
    expect(page.locator("#answer strong")).to_have_text("1")
    assert page.locator("#seen").get_attribute("src").startswith("data:image/png;base64,")
    assert page.locator("#bars li").count() == 10
    page.get_by_role("button", name="7", exact=True).click()
    expect(page.locator("#answer")).to_have_text("Thank you: a 7.")
    assert service.metric('neocog_feedback_total{label="7"}') >= 1
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#answer")).to_have_text("")
    assert page.said == []  # nothing was blocked by the content security policy, nothing failed


def test_the_page_has_the_labels_of_the_bundle(browser, serve, tmp_path):
    make_bundle(tmp_path / "bundle", labels=ALPHABET, images=LETTERS)
    service = serve(bundle=tmp_path / "bundle", journal=f"sqlite:///{tmp_path}/journal.db")
    (tmp_path / "q.png").write_bytes(png(letter("Q")))
    page = browser.new_page()
    page.goto(service.address)
    page.locator("#file").set_input_files(tmp_path / "q.png")
    expect(page.locator("#answer strong")).to_have_text("Q")
    expect(page.locator("#title")).to_have_text(f"Draw one of {' '.join(ALPHABET)}")
    assert page.locator("#bars li").count() == 24
    page.get_by_role("button", name="O", exact=True).click()
    expect(page.locator("#answer")).to_have_text("Thank you: a O.")
    page.close()


def test_what_is_no_digit_is_answered_in_words(page, tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    page.locator("#file").set_input_files(tmp_path / "x.png")
    expect(page.locator("#answer")).to_contain_text("not an image in a format read here")


def test_the_page_may_do_little_and_nobody_may_frame_it(client):
    for path in ("/", "/page.js", "/page.css"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_other_origins_are_let_in_only_when_named(client, bundle_folder):
    from tests.service.conftest import in_process

    asked = {"Origin": "https://shop.example"}
    assert "access-control-allow-origin" not in client.get("/version", headers=asked).headers
    with in_process(bundle_folder, cors_origins="https://shop.example") as open_one:
        answer = open_one.get("/version", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert (
            "access-control-allow-origin"
            not in open_one.get("/version", headers={"Origin": "https://x.example"}).headers
        )
