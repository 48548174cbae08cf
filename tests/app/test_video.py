"""A video by mouse: pick the labelled frame, run, and see the mask in the player."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import fiftyone_persam as fp

from ..films import write_film
from .driver import SLOW, App

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
    expect(app.page.get_by_text(f"my_object: {FRAMES} segmented")).to_be_visible(timeout=SLOW)
    app.shot("video-2-done")
    film.reload()
    assert fp.load_run(film, "my_object").counts["segmented"] == FRAMES

    app.close_form()
    app.expect_shown("frames.my_object")
    modal = app.open_photo(0)
    player = modal.locator("[data-cy=modal-looker-container]").first
    with_both = drawn(app, player)
    app.shot("video-3-player")
    switch(modal, "frames.ground_truth")
    with_mask = drawn(app, player)
    app.shot("video-4-mask")
    switch(modal, "frames.my_object")
    without = drawn(app, player)
    assert changed(with_mask, without) > 0.02  # the mask is drawn over the frame
    assert changed(with_both, without) > 0.02


def switch(modal: Any, field: str) -> None:
    """Switch a field's labels on or off beside the player."""
    modal.locator(f"[data-cy='checkbox-{field}']").first.click()


def drawn(app: App, player: Any) -> np.ndarray[Any, Any]:
    """(H, W, 3) of the player, when nothing moves any more."""
    app.expect_drawn()
    picture = Image.open(io.BytesIO(player.screenshot())).convert("RGB")
    return np.asarray(picture).astype(int)


def changed(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The share of pixels that differ much, where both pictures have one."""
    height, width = np.minimum(one.shape[:2], other.shape[:2])
    one, other = one[:height, :width], other[:height, :width]
    return float((np.abs(one - other).sum(axis=2) > 60).mean())
