"""Photos without any label: a click on the object in the form, and it is masked in all of them."""

from __future__ import annotations

import re
from pathlib import Path

import fiftyone as fo
from playwright.sync_api import expect

import fiftyone_persam as fp

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
