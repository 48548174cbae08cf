"""Every screen, to be looked at: ``python -m tests.app.gallery FOLDER [--only form review ...]``.

Takes each screen in two sizes and both themes, with few photos and with many, from the real App.
What sticks out of its box or scrolls sideways is printed as well; whether a screen reads well,
somebody has to see.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

# First of all: it sets where FiftyOne keeps its things, which FiftyOne reads while it is imported.
from .. import conftest  # noqa: F401  isort: skip

from playwright.sync_api import expect

from fiftyone_persam.datasets import build_album

from ..operators.context import link_plugin
from . import stage
from .driver import App
from .scenes import SCENES, end_of_form
from .world import OBJECTS, World

SIZES = ("1280x800", "1920x1080")
THEMES = ("dark", "light")
COUNTS = (4, 400)
# Elements of our own parts that are wider than what they are in, or whose text is cut off.
STICKS_OUT = """() => {
  const found = new Set();
  const roots = document.querySelectorAll(
    "[data-cy=operators-prompt-modal], [data-cy='panel-content-review_masks']");
  const words = e => (e.innerText || e.tagName).trim().replace(/\\s+/g, " ").slice(0, 60);
  for (const root of roots) for (const e of [root, ...root.querySelectorAll("*")]) {
    const style = getComputedStyle(e);
    const wide = e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0;
    if (wide && ["auto", "scroll"].includes(style.overflowX)) found.add("scrolls: " + words(e));
    if (wide && style.textOverflow === "ellipsis") found.add("cut off: " + words(e));
  }
  return [...found];
}"""


def take(app: App, folder: Path, name: str, sizes: list[str], themes: list[str]) -> None:
    """The screen that is open, in each size and theme."""
    for theme in themes:
        _set_theme(app, theme)
        for size in sizes:
            width, height = map(int, size.split("x"))
            app.page.set_viewport_size({"width": width, "height": height})
            app.page.mouse.move(2, height // 2)
            app.expect_drawn()
            if "_bottom" in name and app.form.is_visible():
                end_of_form(app)
                app.expect_drawn()
            app.page.screenshot(path=folder / f"{name}-{size}-{theme}.png")
            for words in app.page.evaluate(STICKS_OUT):
                print(f"{name} {size} {theme}: {words}", flush=True)


def _set_theme(app: App, theme: str) -> None:
    """Press the App's own switch, also where a form lies over it."""
    switch = app.page.locator(f"[title='{theme.capitalize()} mode']")
    if switch.count():
        switch.first.dispatch_event("click")
        expect(switch).to_have_count(0)


def main(given: list[str] | None = None) -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=list(SCENES), default=list(SCENES))
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--themes", nargs="*", choices=THEMES, default=list(THEMES))
    parser.add_argument("--photos", nargs="*", type=int, default=list(COUNTS))
    options = parser.parse_args(given)
    options.folder.mkdir(parents=True, exist_ok=True)
    link_plugin()
    lost = []
    with tempfile.TemporaryDirectory() as scratch:
        source = build_album(Path(scratch) / "album", objects=OBJECTS, photos=5)
        with stage.open_browser() as browser, stage.open_server() as session:
            for count in options.photos:
                world = World(Path(scratch), source, count)
                for name in options.only:
                    width, height = map(int, options.sizes[0].split("x"))
                    with stage.open_tab(browser, session, width, height) as app:
                        try:
                            SCENES[name](app, world)
                            take(
                                app,
                                options.folder,
                                f"{name}-{count}",
                                options.sizes,
                                options.themes,
                            )
                        except Exception as error:  # the other screens are wanted all the same
                            lost.append(f"{name}-{count}")
                            app.page.screenshot(path=options.folder / f"{name}-{count}-lost.png")
                            print(f"{name}-{count}: {str(error).splitlines()[0]}", flush=True)
                world.delete()
    print(f"not taken: {', '.join(lost) or 'none'}")
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
