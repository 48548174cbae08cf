"""Scenes of results: the grid, the review panel, evaluations."""

from __future__ import annotations

from playwright.sync_api import expect

from ..driver import SLOW, App
from ..world import World
from .opening import end_of_form, scene

PANEL = "review_masks"


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
