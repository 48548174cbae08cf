"""A video by mouse: pick the labelled frame, run, and see the mask in the player."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import fiftyone_persam as fp

from ..films import write_film
from .driver import FAST, SLOW, App

FRAMES = 6


@pytest.fixture
def film(dataset, album: Path, tmp_path: Path) -> fo.Dataset:
    """A photo of the album's cat, and a camera that pans over it; frame 1 is labelled."""
    photo = np.asarray(Image.open(album / "Images" / "cat" / "00.jpg").convert("RGB"))
    mask = np.asarray(Image.open(album / "Annotations" / "cat" / "00.png").convert("L")) > 0
    height, width = (side - side % 2 for side in (photo.shape[0], photo.shape[1] - 6 * FRAMES))
    views = [np.s_[:height, 6 * n : 6 * n + width] for n in range(FRAMES)]
    path = write_film(tmp_path / "cat.webm", [photo[view] for view in views], codec="libvpx")
    made = dataset([fo.Sample(str(path))])
    sample = made.first()
    label = fo.Detection.from_mask(mask[views[0]], label="cat")
    sample.frames[1] = fo.Frame(ground_truth=fo.Detections(detections=[label]))
    sample.metadata = fo.VideoMetadata(
        total_frame_count=FRAMES, frame_rate=5.0, frame_width=width, frame_height=height
    )
    sample.save()
    return made


def test_pick_a_frame_run_and_see_the_mask_in_the_player(app: App, film: fo.Dataset) -> None:
    app.open(film.name)
    app.action("segment_from_reference").click()
    form = app.form
    expect(form.locator("img[src^='data:image']")).to_be_visible(timeout=SLOW)
    expect(form.get_by_text(f"{FRAMES} frames of 1 video will be segmented")).to_be_visible()
    app.shot("video-1-form")
    app.submit("Segment")
    expect(app.page.get_by_text(f"cat: {FRAMES} segmented")).to_be_visible(timeout=SLOW)
    app.shot("video-2-done")
    film.reload()
    assert fp.load_run(film, "cat").counts["segmented"] == FRAMES

    app.close_form()
    app.expect_shown("frames.cat")
    modal = app.open_photo(0)
    player = modal.locator("[data-cy=looker]").first
    expect(player.locator("canvas")).to_be_visible(timeout=FAST)
    app.page.wait_for_timeout(1000)
    app.shot("video-3-player")
