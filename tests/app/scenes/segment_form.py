"""Scenes of the form that segments, and of the one that suggests a reference."""

from __future__ import annotations

from playwright.sync_api import expect

from ..driver import SLOW, App
from ..world import World
from .opening import end_of_form, open_selected, scene


@scene
def form(app: App, world: World) -> None:
    """A labelled photo is selected."""
    open_selected(app, world.album, 1)
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
    open_selected(app, world.things, 0, 1)
    app.form.get_by_role("radio", name="Several objects").click()
    expect(app.form.get_by_text("cat (1 reference)")).to_be_visible(timeout=SLOW)


@scene
def form_several_bottom(app: App, world: World) -> None:
    """The end of it."""
    form_several(app, world)
    end_of_form(app)


@scene
def form_beside(app: App, world: World) -> None:
    """One name is not looked for: it shows what the other is not."""
    form_several(app, world)
    app.form.get_by_text("cup (1 reference)").click()
    expect(app.form.get_by_text("And 'cup'?")).to_be_visible(timeout=SLOW)
    app.choose("Leave it out", "It shows what 'cat' is not")


@scene
def form_negatives(app: App, world: World) -> None:
    """One object, another label that shows what it is not, and a mask that was rejected."""
    open_selected(app, world.things, 0, 1)
    learn = app.form.get_by_text("Learn from 1 rejected mask")
    expect(learn).to_be_visible(timeout=SLOW)
    learn.scroll_into_view_if_needed()


@scene
def form_together(app: App, world: World) -> None:
    """One object, labelled in two photos."""
    open_selected(app, world.things, 0, 3)
    app.form.get_by_role("radio", name="One object").click()
    expect(app.form.get_by_text("show one object")).to_be_visible(timeout=SLOW)


@scene
def form_instances(app: App, world: World) -> None:
    """How many of it a photo may show, and more options."""
    open_selected(app, world.things, 0)
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
