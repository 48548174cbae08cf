"""The screens of the gallery: each drives the App to one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect

from .driver import SLOW, App
from .world import World

PANEL = "review_masks"

Scene = Callable[[App, "World"], None]
SCENES: dict[str, Scene] = {}


def scene(take: Scene) -> Scene:
    """A screen, under its function's name."""
    SCENES[take.__name__] = take
    return take


# The form ----------------------------------------------------------------------------------------


@scene
def form(app: App, world: World) -> None:
    """A labelled photo is selected."""
    _open_form(app, world.album, 1)
    expect(app.form.locator("img[src^='data:image']")).to_be_visible(timeout=SLOW)
    expect(app.button("Segment")).to_be_enabled(timeout=SLOW)


@scene
def form_bottom(app: App, world: World) -> None:
    """The same form, its end, with more options."""
    form(app, world)
    app.form.get_by_text("More options", exact=True).click()
    expect(app.form.get_by_text("Similarity maps").first).to_be_visible(timeout=SLOW)
    end_of_form(app)


@scene
def form_options(app: App, world: World) -> None:
    """The middle of the form with more options."""
    form_bottom(app, world)
    app.form.get_by_text("Prompt points").scroll_into_view_if_needed()


@scene
def form_groups(app: App, world: World) -> None:
    """Nothing is selected: each object's own reference."""
    app.open(world.album.name)
    app.start("Segment my object")
    expect(app.form.get_by_text("will be segmented")).to_be_visible(timeout=SLOW)


@scene
def form_existing(app: App, world: World) -> None:
    """A run of that name is there, and is to be replaced."""
    form(app, world)
    name = app.form.get_by_role("textbox").last
    name.fill("persam")
    name.press("Tab")
    toggle = app.form.get_by_text("Only photos that have no mask of this run yet")
    expect(toggle).to_be_visible()
    toggle.click()
    expect(app.form.get_by_text("This replaces")).to_be_visible()
    app.form.get_by_text("This replaces").scroll_into_view_if_needed()


@scene
def form_nothing(app: App, world: World) -> None:
    """No labels, nothing selected."""
    app.open(world.bare.name)
    app.start("Segment my object")
    app.expect_drawn()


@scene
def form_marking(app: App, world: World) -> None:
    """No labels: the object is marked in the form."""
    app.open(world.bare.name)
    app.expect_drawn()
    app.select(0)
    app.start("Segment my object")
    expect(app.form.locator("img[src^='data:image']").first).to_be_visible(timeout=SLOW)


@scene
def form_groups_unlabelled(app: App, world: World) -> None:
    """References without labels."""
    world.bare.set_values("role", ["reference"] + ["target"] * (len(world.bare) - 1))
    try:
        app.open(world.bare.name)
        app.start("Segment my object")
        app.expect_drawn()
    finally:
        world.bare.delete_sample_field("role")


@scene
def form_download(app: App, world: World) -> None:
    """A model that has to be downloaded."""
    form(app, world)
    app.choose("sam_lite", "mobile_sam")
    download = app.form.get_by_text("Download mobile_sam").first
    expect(download).to_be_visible()
    download.scroll_into_view_if_needed()


@scene
def form_several(app: App, world: World) -> None:
    """Several objects, by the names of the labels in two photos."""
    _open_selected(app, world.things, 0, 1)
    app.form.get_by_role("radio", name="Several objects").click()
    expect(app.form.get_by_text("cat (1 reference)")).to_be_visible(timeout=SLOW)


@scene
def form_several_bottom(app: App, world: World) -> None:
    """The end of it."""
    form_several(app, world)
    end_of_form(app)


@scene
def form_negatives(app: App, world: World) -> None:
    """One object, another label that shows what it is not, and a mask that was rejected."""
    _open_selected(app, world.things, 0, 1)
    learn = app.form.get_by_text("Learn from 1 rejected mask")
    expect(learn).to_be_visible(timeout=SLOW)
    learn.scroll_into_view_if_needed()


@scene
def form_together(app: App, world: World) -> None:
    """One object, labelled in two photos."""
    _open_selected(app, world.things, 0, 3)
    app.form.get_by_role("radio", name="One object").click()
    expect(app.form.get_by_text("show one object")).to_be_visible(timeout=SLOW)


@scene
def form_instances(app: App, world: World) -> None:
    """How many of it a photo may show, and more options."""
    _open_selected(app, world.things, 0)
    app.form.get_by_text("More options", exact=True).click()
    first = app.form.get_by_text("Is it there, how many, which one")
    expect(first).to_be_visible(timeout=SLOW)
    first.scroll_into_view_if_needed()


@scene
def form_placed(app: App, world: World) -> None:
    """Further down: where it is looked for."""
    form_instances(app, world)
    app.form.get_by_text("What is written beside the masks").scroll_into_view_if_needed()


@scene
def suggest(app: App, world: World) -> None:
    """Which photo to label."""
    app.open(world.things.name)
    app.start("Suggest a reference")
    expect(app.button("Suggest")).to_be_enabled(timeout=SLOW)


@scene
def suggested(app: App, world: World) -> None:
    """And what comes of it."""
    suggest(app, world)
    app.submit("Suggest")
    expect(app.form.locator("img[src^='data:image']").first).to_be_visible(timeout=SLOW)


# Grid and panel ----------------------------------------------------------------------------------


@scene
def grid(app: App, world: World) -> None:
    """A run in the grid."""
    app.open(world.album.name)
    app.expect_drawn()
    app.page.locator("[data-cy=checkbox-persam]").click()


@scene
def grid_several(app: App, world: World) -> None:
    """A run of two objects."""
    app.open(world.things.name)
    app.expect_drawn()
    app.page.locator("[data-cy=checkbox-both]").click()
    app.page.locator("[data-cy=checkbox-labels]").click()  # off


@scene
def opened_several(app: App, world: World) -> None:
    """A photo of both objects."""
    grid_several(app, world)
    app.open_photo(2)


@scene
def panel_rejected(app: App, world: World) -> None:
    """After a mask was rejected."""
    app.open(world.things.name)
    panel = app.open_panel(PANEL)
    expect(panel.get_by_role("button", name="Rejected 1")).to_be_enabled()
    panel.get_by_role("button", name="Run again").scroll_into_view_if_needed()


@scene
def again_rejected_bottom(app: App, world: World) -> None:
    """Its button, and the end of the form."""
    panel_rejected(app, world)
    app.panel(PANEL).get_by_role("button", name="Run again").click()
    expect(app.button("Run again")).to_be_enabled(timeout=SLOW)
    end_of_form(app)


@scene
def again_rejected(app: App, world: World) -> None:
    """Another try, which learns from it."""
    app.open(world.things.name)
    app.select(0)
    app.start("Run again with another reference")
    expect(app.form.get_by_text("Learn from 1 rejected mask")).to_be_visible(timeout=SLOW)


@scene
def evaluation_followed(app: App, world: World) -> None:
    """J&F in FiftyOne's Model Evaluation panel."""
    app.open(world.frames.name)
    app.open_panel("model_evaluation_panel_builtin")
    app.open_evaluation("followed")


@scene
def panel_empty(app: App, world: World) -> None:
    """No run yet."""
    app.open(world.bare.name)
    app.open_panel(PANEL)


@scene
def review_bottom(app: App, world: World) -> None:
    """The end of the panel, with a threshold that was moved."""
    app.open(world.album.name)
    panel = app.open_panel(PANEL)
    expect(panel.locator(".plotly .bars .point path")).not_to_have_count(0)
    panel.get_by_role("slider").fill("0.8")
    expect(panel.get_by_role("button", name="Apply 0.80")).to_be_enabled()
    panel.get_by_role("button", name="Delete run").scroll_into_view_if_needed()


@scene
def opened(app: App, world: World) -> None:
    """The panel beside an opened photo."""
    app.open(world.album.name)
    app.page.locator("[data-cy=checkbox-persam]").click()
    app.open_panel(PANEL)
    app.panel(PANEL).get_by_role("button", name="Open", exact=True).click()
    modal = app.page.locator("[data-cy=modal]")
    modal.locator(f"[data-cy=panel-tab-{PANEL}]").click()
    expect(modal.get_by_role("button", name="Accept")).to_be_visible()


@scene
def failures(app: App, world: World) -> None:
    """The photos that failed, with reasons."""
    app.open(world.album.name)
    panel = app.open_panel(PANEL)
    panel.get_by_role("button", name="Failures").click()
    app.submit("Execute")
    expect(app.form.get_by_role("cell", name="IMG_0").first).to_be_visible()


@scene
def evaluation(app: App, world: World) -> None:
    """Numbers per object."""
    app.open(world.album.name)
    panel = app.open_panel(PANEL)
    panel.get_by_role("button", name="Evaluation").click()
    expect(panel.get_by_role("cell", name="mean").first).to_be_visible()


@scene
def methods(app: App, world: World) -> None:
    """Two methods in FiftyOne's Model Evaluation panel."""
    app.open(world.album.name)
    app.page.locator("[data-cy=checkbox-persam]").click()
    app.open_panel("model_evaluation_panel_builtin")
    app.compare_evaluations("persam_f_eval", "persam_eval")


@scene
def review(app: App, world: World) -> None:
    """The panel, with thumbs in the grid."""
    app.open(world.album.name)
    panel = app.open_panel(PANEL)
    panel.get_by_role("button", name="Start reviewing").click()
    expect(panel.locator(".plotly .bars .point path")).not_to_have_count(0)
    app.expect_drawn()
    app.select(0, down=True)
    app.expect_drawn()
    app.select(1)
    expect(panel.get_by_role("button", name="Save 1 accepted, 1 rejected")).to_be_enabled()


# Other forms -------------------------------------------------------------------------------------


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
    _form_of(app, world, "Evaluate my masks", "Evaluate")


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
    _form_of(app, world, "Promote accepted masks", "Promote")


@scene
def export(app: App, world: World) -> None:
    """Export masks."""
    _form_of(app, world, "Export masks", None)


@scene
def dreambooth(app: App, world: World) -> None:
    """A training set."""
    _form_of(app, world, "Export for DreamBooth", None)


@scene
def dreambooth_bottom(app: App, world: World) -> None:
    """The end of that form."""
    dreambooth(app, world)
    end_of_form(app)


@scene
def rename(app: App, world: World) -> None:
    """Rename a run."""
    _form_of(app, world, "Rename a run", None)


@scene
def delete(app: App, world: World) -> None:
    """Delete a run."""
    _form_of(app, world, "Delete a run", "Delete")


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
    _form_of(app, world, "Set the presence threshold", None)


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
    _form_of(app, world, "Import a PerSeg folder", None)


@scene
def doctor(app: App, world: World) -> None:
    """The doctor's report."""
    app.open(world.album.name)
    app.start("Check the personal masks plugin")
    expect(app.form.get_by_role("cell", name="fiftyone-persam")).to_be_visible(timeout=SLOW)


def _open_form(app: App, dataset: Any, index: int) -> None:
    app.open(dataset.name)
    app.expect_drawn()
    app.select(index)
    app.start("Segment my object")


def _open_selected(app: App, dataset: Any, *indices: int) -> None:
    app.open(dataset.name)
    app.expect_drawn()
    for index in indices:
        app.select(index)
    app.start("Segment my object")


def _form_of(app: App, world: World, label: str, button: str | None) -> None:
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
