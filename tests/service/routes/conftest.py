"""A real browser, and a real PostgreSQL."""

import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.journal.conftest import database, postgres  # noqa: F401 - fixtures


@pytest.fixture(scope="module")
def browser():
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=120_000)
        expect.set_options(timeout=120_000)  # passes only where it never comes true, however busy the machine is
        yield browser
        browser.close()
