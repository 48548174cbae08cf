"""Drives the real App: the few clicks that the tests are made of."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

from playwright.sync_api import Locator, Page, TimeoutError, expect

# The first form after a start imports torch in the server: generous, since nothing waits in vain.
SLOW = 180_000
FAST = 60_000


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

    def expect_shown(self, field: str) -> None:
        """A field's labels are switched on: drawn over the photos."""
        box = self.page.locator(f"[data-cy='checkbox-{field}'] [data-testid=CheckBoxIcon]")
        expect(box).to_be_visible(timeout=FAST)

    def expect_drawn(self) -> None:
        """Every photo in sight is drawn, and nothing moves any more."""
        expect(self.page.locator("[data-cy=looker] canvas:not([canvas-loaded])")).to_have_count(0)
        before, now = b"", self.page.screenshot()
        deadline = time.monotonic() + FAST / 1000
        while before != now:
            assert time.monotonic() < deadline, "the page does not come to rest"
            self.page.wait_for_timeout(300)
            before, now = now, self.page.screenshot()

    def open_photo(self, index: int) -> Locator:
        self.looker(index).click()
        modal = self.page.locator("[data-cy=modal]")
        modal.wait_for(timeout=FAST)
        return modal

    def action(self, operator: str) -> Locator:
        """An operator's button over the grid or over an opened photo."""
        return self.page.locator(f"[data-item-id='@fiftyone-persam/persam/{operator}']").last

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

    def button(self, label: str) -> Locator:
        """A button of the form."""
        return self.form.locator("button", has_text=re.compile(rf"^{label}$")).first

    def submit(self, label: str) -> None:
        button = self.button(label)
        expect(button).to_be_enabled(timeout=FAST)
        button.click()
        try:
            expect(button).to_have_count(0, timeout=15_000)
        except AssertionError:  # the form was drawn anew in the moment of the click
            if button.count() and button.is_enabled():
                button.click()

    def schedule(self) -> None:
        """Queue the operator for a worker, in place of running it in the App's server."""
        self.form.locator("button.MuiButton-root").last.click()
        self.page.locator("[role=menuitem]", has_text="Schedule").click()
        self.submit("Schedule")
        expect(self.page.get_by_text("Operation successfully scheduled")).to_be_visible()

    def choose(self, shown: str, wanted: str) -> None:
        """Change a drop-down of the form from one value to another."""
        self.form.locator("[role=combobox]", has_text=shown).first.click()
        self.page.locator("[role=option]", has_text=wanted).first.click()

    def close_form(self) -> None:
        """Finish the dialog of an operator that is done."""
        button = self.page.locator("button", has_text=re.compile("^(Done|Close)$")).first
        button.wait_for(timeout=SLOW)
        button.click()
        expect(button).to_have_count(0)

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

    def click(self, button: Locator, shows: Locator) -> None:
        """Click until what the button leads to is there: a panel that renders may lose a click."""
        deadline = time.monotonic() + SLOW / 1000
        while not shows.is_visible():
            assert time.monotonic() < deadline, f"a click on {button} shows no {shows}"
            button.click()
            with contextlib.suppress(TimeoutError):
                shows.wait_for(timeout=20_000)

    def open_evaluation(self, key: str) -> Locator:
        """Open an evaluation's card in the Model Evaluation panel."""
        panel = self.panel("model_evaluation_panel_builtin")
        card = panel.get_by_text(key, exact=True).first
        opened = panel.get_by_role("row").first
        card.wait_for(timeout=FAST)
        deadline = time.monotonic() + FAST / 1000
        while not opened.is_visible():  # while the panel loads its list, a click may be lost
            assert time.monotonic() < deadline, f"the card of {key} does not open"
            if card.is_visible():
                card.click()
            with contextlib.suppress(TimeoutError):
                opened.wait_for(timeout=5_000)
        return panel

    def compare_evaluations(self, key: str, other: str) -> Locator:
        """Open one evaluation in the Model Evaluation panel, and compare it with another."""
        panel = self.open_evaluation(key)
        panel.get_by_role("combobox").filter(has_text="Select a comparison").click()
        self.page.get_by_role("option", name=other).click()
        return panel
