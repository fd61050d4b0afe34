"""Debian's Chromium without a screen, and where its pictures go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.engines.environments import REPOSITORY, ensure_browser

BROWSER_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
ARTIFACTS_VARIABLE = "LLM_OPERATOR_ARTIFACTS"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that calls nobody by itself."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(ensure_browser()), args=list(BROWSER_FLAGS))
        yield browser
        browser.close()


def keep_picture(page: Page, name: str) -> Path:
    """A picture of what the page shows, in the folder that the variable names; by default .state/screenshots."""
    folder = Path(os.environ.get(ARTIFACTS_VARIABLE) or REPOSITORY / ".state" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")
    return folder / f"{name}.png"
