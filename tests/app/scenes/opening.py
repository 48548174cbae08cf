"""What scenes share: how forms are opened and scrolled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from ..driver import SLOW, App
from ..world import World

Scene = Callable[[App, World], None]
SCENES: dict[str, Scene] = {}


def scene(take: Scene) -> Scene:
    """A screen, under its function's name."""
    SCENES[take.__name__] = take
    return take


def open_selected(app: App, dataset: Any, *indices: int) -> None:
    """The form to segment, with some photos selected."""
    app.open(dataset.name)
    app.expect_drawn()
    for index in indices:
        app.select(index)
    app.start("Segment my object")


def form_of(app: App, world: World, label: str, button: str | None) -> None:
    """An operator's form on the album, until its button can be pressed."""
    app.open(world.album.name)
    app.start(label)
    if button:
        expect(app.button(button)).to_be_enabled(timeout=SLOW)


def end_of_form(app: App) -> None:
    """Scroll an open form to its end."""
    app.form.locator("> *").last.hover()
    app.page.evaluate(
        """() => { for (const e of document.querySelectorAll(
        "[data-cy=operators-prompt-modal], [data-cy=operators-prompt-modal] *"))
        if (e.scrollHeight > e.clientHeight + 1) e.scrollTop = e.scrollHeight; }"""
    )
