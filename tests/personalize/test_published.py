"""mode="reference" against the published scripts themselves, run live.

They are no part of this repository: PERSAM_PUBLISHED names the folder of a clone. Takes some
minutes, nearly all of them the scripts' own thousand decoder passes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.published import Deviations, compare, load_model

CHECKOUT = os.environ.get("PERSAM_PUBLISHED")


@pytest.fixture(scope="module")
def found(album: Path) -> dict[str, Deviations]:
    if not CHECKOUT:
        pytest.skip("needs a clone of the published repository: PERSAM_PUBLISHED names its folder")
    return compare(Path(CHECKOUT).resolve(), album, load_model("sam_lite"), ["cat"])


@pytest.mark.parametrize("method", ["persam", "persam_f"])
def test_points_boxes_and_masks_are_the_published_scripts(
    found: dict[str, Deviations], method: str
) -> None:
    one = found[method]
    assert one.photos == 3
    assert one.points == one.boxes == 0
    assert one.iou > 0.999


def test_the_tuned_weights_are_the_published_scripts(found: dict[str, Deviations]) -> None:
    # Numbers of about 1/3; a thousand steps add their rounding up to some 1e-4.
    assert found["persam_f"].weights < 5e-4
