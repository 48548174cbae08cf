"""Drives the real App: the few clicks that the tests are made of."""

from __future__ import annotations

import os
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

# The first form after a start imports torch in the server: generous, since nothing waits in vain.
SLOW = 120_000
FAST = 30_000


class App:
    """One browser tab on the App."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self._shots = os.environ.get("PERSAM_SCREENSHOTS")
        self._count = 0

    def open(self, dataset: str) -> None:
        self.page.goto(f"{self.url}/datasets/{dataset}")
        self.looker().first.wait_for(timeout=SLOW)

    def reload(self) -> None:
        self.page.reload()
        self.looker().first.wait_for(timeout=SLOW)

    def shot(self, name: str) -> None:
        """A screenshot, where PERSAM_SCREENSHOTS names a folder."""
        if self._shots:
            Path(self._shots).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{self._shots}/{name}.png")

    # The grid ----------------------------------------------------------------------------------

    def looker(self, index: int | None = None) -> Locator:
        found = self.page.locator("[data-cy=looker]")
        return found if index is None else found.nth(index)

    def select(self, index: int, down: bool = False) -> None:
        """Click the tick (or thumb) in a photo's corner; ``down`` is Alt+click."""
        self.looker(index).hover()
        self.looker(index).click(position={"x": 18, "y": 18}, modifiers=["Alt"] if down else [])

    def expect_photos(self, count: int) -> None:
        expect(self.page.locator("[data-cy=entry-counts]")).to_contain_text(
            re.compile(rf"^{count}\b"), timeout=FAST
        )

    def open_photo(self, index: int) -> Locator:
        self.looker(index).click()
        modal = self.page.locator("[data-cy=modal]")
        modal.wait_for(timeout=FAST)
        return modal

    # Operators ---------------------------------------------------------------------------------

    @property
    def form(self) -> Locator:
        return self.page.locator("[data-cy=operators-prompt-modal]")

    def start(self, label: str) -> Locator:
        """Open an operator's form through the operator browser."""
        search = self.page.locator("[data-cy=operators-browser-search]")
        self.page.keyboard.press("`")
        search.wait_for(timeout=FAST)
        search.fill(label)
        browser = self.page.locator("[data-cy=operators-browser]")
        browser.get_by_text(label, exact=True).first.click()
        self.form.wait_for(timeout=SLOW)
        return self.form

    def submit(self, label: str) -> None:
        button = self.form.locator("button", has_text=re.compile(rf"^{label}$")).first
        expect(button).to_be_enabled(timeout=FAST)
        button.click()

    def close_form(self) -> None:
        """Finish the dialog of an operator that is done."""
        button = self.form.locator("button", has_text=re.compile("^(Done|Close)$")).first
        button.wait_for(timeout=SLOW)
        button.click()
        expect(self.form).to_have_count(0, timeout=FAST)

    # The panel ---------------------------------------------------------------------------------

    def open_panel(self, name: str) -> Locator:
        self.page.mouse.move(900, 700)  # off the buttons, whose tooltips would be in the way
        self.page.locator("[data-cy=new-panel-btn]").first.click()
        self.page.locator(f"[data-cy='new-panel-option-{name}']").click()
        return self.panel(name)

    def panel(self, name: str) -> Locator:
        """An open panel beside the grid."""
        panel = self.page.locator(f"[data-cy='panel-content-{name}']").first
        panel.wait_for(timeout=SLOW)
        return panel
