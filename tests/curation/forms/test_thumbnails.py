"""Small pictures of a run's masks: of several objects each in its colour, beside its reference."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation.forms.thumbnails import run_reference_thumbnail, run_thumbnail
from fiftyone_persam.curation.labels.masks import shown_mask
from fiftyone_persam.curation.runs.colours import COLOURS, object_colours, rgb
from tests.curation.discs import Make
from tests.curation.scenes import HEIGHT, scenes

LABEL_TYPES = ("segmentation", "detections")


def pixels(uri: str) -> np.ndarray:
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return np.asarray(picture.convert("RGB"), np.float64)


@pytest.mark.parametrize("label_type", LABEL_TYPES)
def test_each_object_has_its_colour_and_its_reference(
    album: Path, dataset: Make, tmp_path: Path, label_type: str
) -> None:
    photos = dataset(scenes(album, tmp_path)[:3])
    cat, cup, both = photos.values("id")
    objects = {"cat": cat, "cup": cup}
    given = {"label_type": label_type, "out_field": "x"}
    fp.segment(photos, objects, "labels", "persam", **given)
    colours = object_colours(photos, "x", list(objects))
    assert list(colours.values()) == list(COLOURS[:2])
    if label_type == "segmentation":  # what the App draws with
        entry = next(e for e in photos.app_config.color_scheme.fields if e["path"] == "x")
        assert [e["color"] for e in entry["maskTargetsColors"]] == list(colours.values())
    sample = photos[both]
    photo = np.asarray(Image.open(sample.filepath).convert("RGB"), np.float64)
    height, width = photo.shape[:2]
    assert height == HEIGHT
    drawn = pixels(run_thumbnail(photos, "x", sample, "x", side=width, cut_out=False))
    assert drawn.shape == photo.shape
    tint = drawn - photo / 2  # half the photo, half the colour
    left = np.zeros((height, width), np.bool_)
    left[:, : width // 2] = True
    mask = shown_mask(sample, "x")
    for inside, name in ((mask & left, "cat"), (mask & ~left, "cup")):
        assert inside.any()
        assert np.allclose(2 * np.median(tint[inside], axis=0), rgb(colours[name]), atol=25)
    references = [
        pixels(run_reference_thumbnail(photos, "x", photos[i], cut_out=False) or "")
        for i in (cat, cup)
    ]
    assert references[0].shape != references[1].shape  # each its own, not always the first
