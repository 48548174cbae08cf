"""Several objects by mouse, several photos of one, and what a rejected mask teaches."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pytest
from playwright.sync_api import expect

import fiftyone_persam as fp

from ..curation.scenes import scenes
from .driver import SLOW, App

FORM = "Segment my object"


@pytest.fixture
def scene(dataset, album: Path, tmp_path: Path) -> fo.Dataset:
    """The cat, the cup, and both of them."""
    return dataset(scenes(album, tmp_path)[:3])


def test_what_is_selected_names_the_objects(app: App, scene):
    cat, cup, both = scene.values("id")
    app.open(scene.name)
    app.select(0)
    app.select(1)
    form = app.start(FORM)
    # The selection says what to look for; all photos are looked through.
    expect(form.get_by_text("3 photos will be segmented")).to_be_visible(timeout=SLOW)
    form.get_by_role("radio", name="One object").click()
    expect(form.get_by_text("2 labels in 2 photos show one object")).to_be_visible(timeout=SLOW)
    expect(form.get_by_alt_text("Reference 2", exact=True)).to_be_visible()
    app.shot("several-1-together")
    form.get_by_role("radio", name="Several objects").click()
    expect(form.get_by_text("cup (1 reference)")).to_be_visible(timeout=SLOW)
    app.shot("several-2-form")
    app.submit("Segment")
    panel = app.panel("review_masks")
    expect(panel.get_by_role("button", name="To do 3")).to_be_enabled(timeout=SLOW)
    app.shot("several-3-done")
    scene.reload()
    run = fp.load_run(scene, "my_objects")
    assert [(one.group, one.sample_id) for one in run.record.references] == [
        ("cat", cat),
        ("cup", cup),
    ]
    found = scene[both].my_objects_objects.classifications
    assert sorted(one.label for one in found) == ["cat", "cup"]
    app.expect_shown("my_objects")
    # Who is not in a photo is not written on it.
    hidden = app.page.locator("[data-cy='checkbox-my_objects_objects_withheld']")
    app.reload()
    expect(hidden).to_be_visible()
    expect(hidden.locator("[data-testid=CheckBoxIcon]")).to_have_count(0)


def test_what_is_rejected_teaches_the_next_run(app: App, scene):
    cat, cup, _ = scene.values("id")
    few = scene.select([cat, cup])
    fp.segment(few, cat, "labels", "persam", out_field="mine", presence_threshold=0)
    app.open(scene.name)
    panel = app.open_panel("review_masks")
    expect(panel.get_by_text("presence 0.")).to_be_visible()
    expect(panel.get_by_alt_text("This photo and its mask")).to_be_visible()
    app.click(
        panel.get_by_role("button", name="Reject", exact=True),
        panel.get_by_text("1 rejected mask will teach the next run"),
    )
    app.shot("rejected-1-panel")
    panel.get_by_role("button", name="Run again").click()
    expect(app.form.get_by_text("Learn from 1 rejected mask")).to_be_visible(timeout=SLOW)
    app.shot("rejected-2-form")
    app.submit("Run again")
    expect(app.page.get_by_text("mine: 2 segmented")).to_be_visible(timeout=SLOW)
    scene.reload()
    (negative,) = fp.load_run(scene, "mine").record.negatives
    assert (negative.sample_id, negative.label_field) == (cup, "mine_rejected")
    assert scene[cup]["mine_presence"] < 0.5
