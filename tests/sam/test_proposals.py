"""Proposers by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from segment_anything import SamAutomaticMaskGenerator

from benchmarks.seeded import small_sam
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import PROPOSERS, PromptableSam
from fiftyone_persam.sam.grid import GridProposer
from fiftyone_persam.sam.proposals import propose_in


def test_the_grid_is_segment_anything_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights pass no filter, so the filters are opened; masks are those of the library."""
    monkeypatch.setattr(GridProposer, "points_per_side", 2)
    opened = {"pred_iou_thresh": -9.0, "stability_score_thresh": -9.0}
    monkeypatch.setattr(
        "segment_anything.SamAutomaticMaskGenerator",
        lambda sam, **given: SamAutomaticMaskGenerator(sam, **given, **opened),
    )
    sam = PromptableSam(small_sam(96), "small")
    photo = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    found = PROPOSERS["grid"]().propose(sam, photo, 3)
    assert 1 <= len(found) <= 3
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.mask.shape == (48, 64) and one.mask.dtype == np.bool_
        x0, y0, x1, y1 = one.box
        assert one.mask[y0 : y1 + 1, x0 : x1 + 1].sum() == one.mask.sum()
        assert one.mask[y0].any() and one.mask[y1].any()
    plain = SamAutomaticMaskGenerator(sam.sam, points_per_side=2, **opened).generate(photo)
    assert max(one["predicted_iou"] for one in plain) == pytest.approx(found[0].score)


def test_the_grid_finds_things_with_the_model_that_comes_along(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segment Anything's own filters would leave nothing: sam_lite never predicts as much."""
    monkeypatch.setattr(GridProposer, "points_per_side", 4)
    photo = sorted((album / "Images" / "cat").iterdir())[0]
    mask = read_mask(album / "Annotations" / "cat" / f"{photo.stem}.png")
    found = propose_in(photo, "sam_lite", 20, "grid")
    assert 1 <= len(found) <= 20 and all(one.mask.shape == mask.shape for one in found)
    assert max((one.mask & mask).sum() / (one.mask | mask).sum() for one in found) > 0.5


def test_a_model_of_another_kind_has_no_grid() -> None:
    class Other:
        name = "other"

    with pytest.raises(PersamError, match="model other has no grid of point prompts"):
        GridProposer().propose(Other(), np.zeros((4, 4, 3), np.uint8), 3)  # type: ignore[arg-type]
    with pytest.raises(PersamError, match=r"proposer 'gird' is not known: .*did you mean 'grid'"):
        PROPOSERS["gird"]
