"""Scenes of the forms that work on runs which are there."""

from __future__ import annotations

from playwright.sync_api import expect

from ..driver import SLOW, App
from ..world import World
from .opening import end_of_form, form_of, scene


@scene
def compare(app: App, world: World) -> None:
    """The form to compare two runs."""
    app.open(world.album.name)
    app.start("Compare two runs")
    expect(app.button("Compare")).to_be_enabled(timeout=SLOW)


@scene
def compared(app: App, world: World) -> None:
    """What it says."""
    compare(app, world)
    app.submit("Compare")
    expect(app.form.get_by_text("mean agreement")).to_be_visible(timeout=SLOW)


@scene
def compared_grid(app: App, world: World) -> None:
    """And the grid behind it."""
    compared(app, world)
    app.close_form()


@scene
def evaluate(app: App, world: World) -> None:
    """The form to evaluate a run."""
    form_of(app, world, "Evaluate my masks", "Evaluate")


@scene
def evaluate_followed(app: App, world: World) -> None:
    """The same form where photos are frames that are followed."""
    app.open(world.frames.name)
    app.start("Evaluate my masks")
    expect(app.button("Evaluate")).to_be_enabled(timeout=SLOW)
    app.choose("Photos: mIoU, bIoU", "Objects that are followed")
    expect(app.form.get_by_text("Field that names the sequence")).to_be_visible()


@scene
def promote(app: App, world: World) -> None:
    """Promote accepted masks."""
    form_of(app, world, "Promote accepted masks", "Promote")


@scene
def export(app: App, world: World) -> None:
    """Export masks."""
    form_of(app, world, "Export masks", None)


@scene
def dreambooth(app: App, world: World) -> None:
    """A training set."""
    form_of(app, world, "Export for DreamBooth", None)


@scene
def dreambooth_bottom(app: App, world: World) -> None:
    """The end of that form."""
    dreambooth(app, world)
    end_of_form(app)


@scene
def rename(app: App, world: World) -> None:
    """Rename a run."""
    form_of(app, world, "Rename a run", None)


@scene
def delete(app: App, world: World) -> None:
    """Delete a run."""
    form_of(app, world, "Delete a run", "Delete")


@scene
def again(app: App, world: World) -> None:
    """Another reference."""
    app.open(world.album.name)
    app.select(1)
    app.start("Run again with another reference")
    expect(app.button("Run again")).to_be_enabled(timeout=SLOW)


@scene
def threshold(app: App, world: World) -> None:
    """The presence threshold's form."""
    form_of(app, world, "Set the presence threshold", None)


@scene
def edit(app: App, world: World) -> None:
    """Masks for the App's own tools."""
    app.open(world.album.name)
    app.select(1)
    app.start("Edit masks by hand")
    app.expect_drawn()


@scene
def runs(app: App, world: World) -> None:
    """The table of runs."""
    app.open(world.album.name)
    app.start("List runs")  # without inputs: it runs at once
    expect(app.form.get_by_role("cell", name="persam_f").first).to_be_visible(timeout=SLOW)


@scene
def importing(app: App, world: World) -> None:
    """An album in PerSeg's layout."""
    form_of(app, world, "Import a PerSeg folder", None)


@scene
def doctor(app: App, world: World) -> None:
    """The doctor's report."""
    app.open(world.album.name)
    app.start("Check the personal masks plugin")
    expect(app.form.get_by_role("cell", name="fiftyone-persam")).to_be_visible(timeout=SLOW)
