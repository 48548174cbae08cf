"""Photos without any label: a click on the object in the form, and it is masked in all of them."""

from __future__ import annotations

import re
from pathlib import Path

import fiftyone as fo
import pytest
from playwright.sync_api import expect

import fiftyone_persam as fp
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.sam.places import innermost
from fiftyone_persam.sam.proposals import Proposal

from .driver import SLOW, App


def test_one_click_on_a_proposal_is_enough(app: App, dataset, album: Path):
    files = sorted((album / "Images" / "cat").iterdir())
    photos = dataset([fo.Sample(str(path)) for path in files])
    app.open(photos.name)
    app.expect_drawn()
    form = app.start("Segment my object")
    first = form.get_by_alt_text(f"Choose {files[0].name}")
    expect(first).to_be_visible(timeout=SLOW)
    app.shot("pick-1-photo")
    first.click()
    offered = app.form.get_by_alt_text("Pick 1", exact=True)
    expect(offered).to_be_visible(timeout=SLOW)
    expect(app.button("Segment")).to_be_disabled()
    # Words need a download that nobody has made here; a click does not, and the form says so.
    words = app.form.get_by_text(re.compile("models download evf_sam .*A click needs no download"))
    expect(words).to_be_visible()
    app.shot("pick-2-proposals")
    offered.click()
    expect(app.form.get_by_alt_text("Your object in the photo")).to_be_visible(timeout=SLOW)
    app.shot("pick-3-picked")
    app.submit("Segment")
    expect(app.page.get_by_text(re.compile(rf"my_object: {len(files)} segmented"))).to_be_visible(
        timeout=SLOW
    )
    photos.reload()
    (marked,) = photos.first()["my_object_reference"].detections
    (run,) = fp.list_runs(photos)
    assert run.config.references[0]["label_id"] == marked.id


def test_a_click_on_the_photo_in_the_panel(app: App, dataset, album: Path):
    """What is where the click was, as a part or as a whole, is the object."""
    files = sorted((album / "Images" / "cat").iterdir())[:2]
    photos = dataset([fo.Sample(str(path)) for path in files])
    truth = Proposal.of(read_mask(album / "Annotations" / "cat" / f"{files[0].stem}.png"), 1.0)
    height, width = truth.size
    x, y = innermost(truth)
    app.open(photos.name)
    panel = app.open_panel("review_masks")
    panel.get_by_role("button", name="Point at it").click()
    offered = panel.get_by_alt_text("Pick 1", exact=True)
    expect(offered).to_be_visible(timeout=SLOW)
    panel.get_by_role("button", name="More", exact=True).click()
    expect(panel.get_by_alt_text("Pick 9", exact=True)).to_be_visible()
    expect(offered).to_have_count(0)
    figure = panel.locator(".plotly .nsewdrag").first.bounding_box()
    place = (
        figure["x"] + figure["width"] * x / width,
        figure["y"] + figure["height"] * y / height,
    )
    app.page.mouse.move(*place)
    app.expect_drawn()  # plotly has seen the mouse there
    app.page.mouse.click(*place)
    whole = panel.get_by_alt_text("Whole", exact=True)
    expect(whole).to_be_visible(timeout=SLOW)
    app.shot("pick-4-panel")
    drawn = panel.locator(".plotly .scatterlayer .point").first.bounding_box()
    assert drawn["x"] + drawn["width"] / 2 == pytest.approx(place[0], abs=6)
    assert drawn["y"] + drawn["height"] / 2 == pytest.approx(place[1], abs=6)
    whole.click()
    expect(app.form.get_by_alt_text("Your object in the photo")).to_be_visible(timeout=SLOW)
    app.submit("Segment")
    expect(app.page.get_by_text("my_object: 2 segmented")).to_be_visible(timeout=SLOW)
    photos.reload()
    (marked,) = photos.first()["my_object_reference"].detections
    mask = marked.to_segmentation(frame_size=(width, height), target=255).mask > 0
    assert mask[int(y), int(x)] and fp.iou(mask, truth.mask) > 0.5
    assert all(photos.values("my_object"))
