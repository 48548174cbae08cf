"""Reviewing by mouse: thumbs in the grid, buttons beside a photo, undo, and a page reload."""

from __future__ import annotations

import fiftyone as fo
import pytest
from playwright.sync_api import expect

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_counts, review_view
from fiftyone_persam.curation.runs.presence import presence_threshold

from ..curation.reviewed_run import RUN, add_run, ids_of, photos_of, reviewed_run
from .driver import App

PANEL = "review_masks"


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path)


def test_thumbs_in_the_grid(app: App, album):
    app.open(album.name)
    panel = app.open_panel(PANEL)
    expect(panel.get_by_role("button", name="To do 4")).to_be_enabled()
    expect(panel.get_by_role("button", name="Absent 1")).to_be_enabled()
    expect(panel.get_by_role("button", name="Failed 1")).to_be_enabled()
    app.shot("review-1-panel")

    panel.get_by_role("button", name="Start reviewing").click()
    app.expect_photos(4)
    app.select(0, down=True)  # most doubtful: the low score
    app.select(3)  # least doubtful
    save = panel.get_by_role("button", name="Save 1 accepted, 1 rejected")
    expect(save).to_be_enabled()
    app.shot("review-2-thumbs")
    save.click()

    expect(panel.get_by_role("button", name="Accepted 1")).to_be_enabled()
    expect(panel.get_by_role("button", name="Rejected 1")).to_be_enabled()
    app.expect_photos(2)
    assert photos_of(review_view(album, RUN, "accepted")) == ["sure"]
    assert photos_of(review_view(album, RUN, "rejected")) == ["low_score"]

    app.reload()
    panel = app.panel(PANEL)
    expect(panel.get_by_role("button", name="Accepted 1")).to_be_enabled()
    panel.get_by_role("button", name="Undo").click()
    expect(panel.get_by_role("button", name="Accepted 0")).to_be_visible()
    expect(panel.get_by_role("button", name="To do 4")).to_be_enabled()
    assert review_counts(album, RUN).todo == 4
    app.shot("review-3-undone")


def test_buttons_beside_a_photo(app: App, album):
    app.open(album.name)
    app.open_panel(PANEL)
    modal = app.open_photo(0)  # "sure"
    modal.locator(f"[data-cy=panel-tab-{PANEL}]").click()
    expect(modal.get_by_text("score 0.950")).to_be_visible()
    app.shot("review-4-photo")
    modal.get_by_role("button", name="Accept").click()
    expect(modal.get_by_text("score 0.300")).to_be_visible()  # on to the most doubtful
    modal.get_by_role("button", name="Reject").click()
    expect(modal.get_by_text("presence 0.450")).to_be_visible()
    assert photos_of(review_view(album, RUN, "accepted")) == ["sure"]
    assert photos_of(review_view(album, RUN, "rejected")) == ["low_score"]
    modal.get_by_role("button", name="Undo").click()
    expect(modal.get_by_text("Rejected 0")).to_be_visible()


def test_histograms_and_threshold(app: App, album):
    app.open(album.name)
    panel = app.open_panel(PANEL)
    bars = panel.locator(".plotly .bars .point path")
    expect(bars).not_to_have_count(0)
    lowest = bars.first  # of the score's histogram
    box = lowest.bounding_box()
    app.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    app.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    app.expect_photos(1)
    panel.get_by_role("button", name="All", exact=True).click()
    app.expect_photos(7)

    panel.get_by_role("slider").fill("0.5")
    apply = panel.get_by_role("button", name="Apply 0.50: 1 photo changes")
    expect(apply).to_be_enabled()
    app.shot("review-5-threshold")
    apply.click()
    expect(panel.get_by_role("button", name="Absent 2")).to_be_enabled()
    assert presence_threshold(album, RUN) == 0.5


def test_edit_a_mask_with_the_app_s_own_tools(app: App, album):
    app.open(album.name)
    app.open_panel(PANEL)
    modal = app.open_photo(0)
    modal.locator(f"[data-cy=panel-tab-{PANEL}]").click()
    modal.get_by_role("button", name="Edit this mask").click()
    expect(app.page.get_by_text("Reload the page, choose Sample")).to_be_visible()
    app.page.reload()
    modal.locator("[data-cy^=panel-tab-]", has_text="Sample").click()
    modal.locator("[data-cy=annotate]").click()
    listed = modal.locator("[data-cy=sidebar]").get_by_text("object", exact=True)
    expect(listed).to_be_visible()
    app.shot("edit-annotate")
    album.reload()
    assert photos_of(album.exists("mine_edit")) == ["sure"]
    assert "mine_edit" in album.active_label_schemas


def test_promote_and_export(app: App, album, tmp_path):
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    app.open(album.name)
    panel = app.open_panel(PANEL)
    panel.get_by_role("button", name="Promote").click()
    app.form.get_by_text("2 photos.", exact=True).first.wait_for()
    app.shot("handover-1-promote")
    app.submit("Promote")
    expect(app.page.get_by_text("2 labels promoted into")).to_be_visible()
    album.reload()
    assert photos_of(album.exists("mine_labels")) == ["sure", "good"]

    panel.get_by_role("button", name="Export").click()
    app.form.get_by_text("2 photos.", exact=True).first.wait_for()
    folder = app.form.get_by_role("textbox")
    folder.fill(str(tmp_path / "export"))
    folder.press("Tab")
    app.shot("handover-2-export")
    app.submit("Export")
    expect(app.form.get_by_text(str(tmp_path / "export"))).to_be_visible()
    app.close_form()
    masks = (tmp_path / "export" / "Annotations").rglob("*.png")
    assert len(list(masks)) == 2


def test_evaluation_and_failures(app: App, album):
    fp.evaluate(album, RUN, eval_key="mine_eval", group_by="photo")
    app.open(album.name)
    panel = app.open_panel(PANEL)
    panel.get_by_role("button", name="Failures").click()
    app.submit("Execute")
    expect(app.form.get_by_role("cell", name="cannot be read as a photo")).to_be_visible()
    app.close_form()
    app.expect_photos(1)
    panel.get_by_role("button", name="All", exact=True).click()
    app.expect_photos(7)
    panel.get_by_role("button", name="Evaluation").click()
    row = panel.get_by_role("row").filter(has_text="low_score")
    iou = album.match({"photo": "low_score"}).first()["mine_eval_iou"]
    expect(row.get_by_role("cell").nth(2)).to_have_text(f"{iou:.3f}")
    app.shot("evaluation-page")
    row.get_by_role("button").click()
    app.expect_photos(1)


def test_two_runs_side_by_side(app: App, album, tmp_path):
    add_run(album, tmp_path, "second", shift=-5)
    app.open(album.name)
    app.start("Compare two runs")
    app.shot("compare-1-form")
    app.submit("Compare")
    expect(app.form.get_by_text("mean agreement")).to_be_visible()
    app.shot("compare-2-numbers")
    app.close_form()
    app.expect_photos(5)
    album.reload()
    assert album.count("mine_vs_second") == 5


def test_rename_and_delete_a_run(app: App, album):
    app.open(album.name)
    panel = app.open_panel(PANEL)
    panel.get_by_role("button", name="Rename run").click()
    name = app.form.get_by_role("textbox")
    name.fill("yours")
    name.press("Tab")
    app.shot("rename-run")
    app.submit("Execute")
    expect(app.page.locator("[data-cy=checkbox-yours]")).to_be_visible()
    expect(panel.get_by_role("combobox")).to_contain_text("yours")
    app.shot("renamed-run")
    panel.get_by_role("button", name="Delete run").click()
    expect(app.form.get_by_text("This deletes the masks of 6 photos")).to_be_visible()
    app.shot("delete-run")
    app.submit("Delete")
    expect(app.page.locator("[data-cy=checkbox-yours]")).to_have_count(0)
    expect(panel.get_by_text("No masks yet")).to_be_visible()
    album.reload()
    assert not album.list_runs() and not album.has_field("yours_score")
