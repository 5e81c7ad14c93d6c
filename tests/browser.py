"""A real browser for tests: the system's chromium, headless, with what it complained of and asked for."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
WAIT_MS = 10_000


def chromium() -> str:
    """Its path; without one the test is skipped and says so."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    return found


@contextmanager
def browsing() -> Generator[Browser, None, None]:
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """A page, and what went wrong in it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("console", lambda each: self.complaints.append(each.text) if each.type == "error" else None)
        self.page.on("pageerror", lambda each: self.complaints.append(str(each)))
        self.page.on("request", lambda each: self._note(each.url))

    def _note(self, url: str) -> None:
        self.requests.append(url)
        if urlsplit(url).scheme not in {"data", "blob"} and urlsplit(url).hostname != "127.0.0.1":
            self.strangers.append(url)

    def open(self, path: str) -> None:
        """Go there and wait until it is drawn."""
        self.page.goto(self.url + path)
        self.settled()

    def settled(self) -> None:
        self.page.wait_for_selector("#view[aria-busy=false]")

    def sign_in(self, key: str) -> None:
        self.page.goto(self.url)
        self.page.fill("input[name=key]", key)
        self.page.click(".sign-in button")
        self.page.wait_for_selector("nav")
        self.settled()

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]
