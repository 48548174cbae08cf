"""The mask that SAM makes of a reference that is not a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.reference_kinds import point
from fiftyone_persam.datasets import build_album
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import Reference
from fiftyone_persam.personalize.learning import drawn_mask
from fiftyone_persam.sam import load_sam


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "album"
    return build_album(folder, objects=["flower"], photos=7)


@pytest.mark.parametrize(("number", "at_least"), [("00", 0.93), ("06", 0.8)])
def test_a_point_gets_the_mask_that_is_sure_of_its_outline(
    album: Path, number: str, at_least: float
) -> None:
    """By predicted IoU alone, what is around the flower goes with it: IoU 0.89 and 0.45."""
    mask: npt.NDArray[np.bool_] = read_mask(album / "Annotations" / "flower" / f"{number}.png")
    sam = load_sam("sam_lite")
    reference = Reference(album / "Images" / "flower" / f"{number}.jpg", points=point(mask))
    drawn = drawn_mask(sam, reference, sam.encode([reference.photo])[0])
    assert iou(drawn, mask) > at_least
