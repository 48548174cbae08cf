"""References looked at once more at smaller sizes: a small object is not taken for absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.album import Photo, read_album
from benchmarks.composed import at_sizes
from fiftyone_persam.errors import CheckpointError
from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.personalize.learning import Learner
from fiftyone_persam.personalize.smaller_looks import MOST, SIZES, look_smaller, side_by_side
from fiftyone_persam.personalize.state import SMALLER, FittedState
from fiftyone_persam.sam import PromptableSam, load_sam


def square(height: int, width: int, side: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[5 : 5 + side, 7 : 7 + side] = True
    return mask


@pytest.mark.parametrize("shape", [(200, 300), (301, 200)])
def test_both_sizes_lie_apart_in_one_picture(shape: tuple[int, int]) -> None:
    mask = square(*shape, 90)
    photo = np.where(mask[..., None], (200, 10, 10), (10, 10, 200)).astype(np.uint8)
    picture, looks = side_by_side(photo, mask)
    assert picture.shape == photo.shape and len(looks) == len(SIZES)
    for size, (small, inside) in zip(SIZES, looks, strict=True):
        assert inside.sum() == pytest.approx(size**2 * mask.size, rel=0.03)
        assert small.sum() == pytest.approx(size**2 * mask.sum(), rel=0.1)
        assert not (small & ~inside).any()
        assert (picture[small][:, 0] > 100).mean() > 0.99, "its mask lies on the smaller object"
        assert (picture[inside & ~small][:, 2] > 100).mean() > 0.95
    assert not (looks[0][1] & looks[1][1]).any()


def test_sizes_at_which_nothing_would_be_left_are_left_out() -> None:
    mask = square(200, 200, 40)  # a fifth of the photo: 0.12 and 0.07 of it when made smaller
    _, looks = side_by_side(np.zeros((200, 200, 3), np.uint8), mask)
    assert len(looks) == 1
    assert side_by_side(np.zeros((200, 200, 3), np.uint8), square(200, 200, 8))[1] == []


@pytest.fixture(scope="module")
def lite() -> PromptableSam:
    return load_sam("sam_lite")


@pytest.fixture(scope="module")
def groups(album: Path) -> list[list[Photo]]:
    return list(read_album(album, ["cat", "cup"]))


def reference_of(photo: Photo) -> Reference:
    return Reference(photo.image, mask=photo.mask)


@pytest.fixture(scope="module")
def fitted(lite: PromptableSam, groups: list[list[Photo]]) -> PerSAM:
    return PerSAM(lite).fit(reference_of(groups[0][0]))


def as_given(method: PerSAM) -> PerSAM:
    """The same method, as earlier versions have saved it: without the smaller looks."""
    kept = {n: t for n, t in method.state_dict().items() if not n.startswith(SMALLER)}
    return PerSAM.from_state(method.sam, kept, method.settings)


def test_a_small_object_is_recognised(fitted: PerSAM, groups: list[list[Photo]]) -> None:
    small = at_sizes(groups, (0.5, 0.45, 0.4, 0.35, 0.3))[0][1:]
    photos = fitted.sam.encode([one.image for one in small])
    found, before = (m.predict_embeddings(photos) for m in (fitted, as_given(fitted)))
    right = [iou(f.candidate, one.mask) > 0.5 for f, one in zip(found, small, strict=True)]
    assert sum(right) >= 5, "what the passes have found"
    earlier, now = (np.array([one.presence for one in row])[right] for row in (before, found))
    assert (now >= earlier).all() and now.mean() > earlier.mean() + 0.1
    assert (now >= 0.5).sum() > (earlier >= 0.5).sum(), "a mask that was emptied is kept"
    assert not fitted.predict([groups[1][1].image])[0].mask.any(), "a photo without it"


@pytest.mark.parametrize("method", [PerSAM, PerSAMF])
def test_saved_and_loaded(
    method: Any, lite: PromptableSam, groups: list[list[Photo]], tmp_path: Path
) -> None:
    known = method(lite).fit(reference_of(groups[0][0]))
    assert len(known.state.appearance.parts) == 1 + len(SIZES)
    assert (known.state.appearance.sides > 0).tolist() == [False, True, True]
    known.save(tmp_path / "cat")
    again = method.load(tmp_path / "cat", lite)
    photo = lite.encode([groups[0][1].image])
    (one,), (other,) = (m.predict_embeddings(photo) for m in (known, again))
    assert one.presence == other.presence


def test_states_of_earlier_versions_load(fitted: PerSAM, groups: list[list[Photo]]) -> None:
    earlier = as_given(fitted)
    assert len(earlier.state.appearance.parts) == 1
    found = earlier.predict([groups[0][1].image])[0]
    assert found.mask.any() and found.presence > 0.5


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_states_that_lack_a_part_are_refused(fitted: PerSAM, change: str) -> None:
    tensors = dict(fitted.state_dict())
    if change == "missing":
        del tensors[f"{SMALLER}places"]
    else:
        tensors[f"{SMALLER}parts"] = tensors[f"{SMALLER}parts"][:, :, 1:]
    with pytest.raises(CheckpointError, match="fit again"):
        FittedState.from_tensors(tensors)


def test_where_no_photo_is_at_hand_they_are_known_as_given(
    fitted: PerSAM, lite: PromptableSam, groups: list[list[Photo]]
) -> None:
    photo = groups[0][0]
    learner = Learner(lite, fitted.prior, fitted.target_feature)
    views, masks = learner.look([reference_of(photo)], lite.encode([photo.image]))
    assert look_smaller(lite, [replace(views[0], photo=None)], masks) is None
    both = look_smaller(lite, [replace(views[0], photo=None), views[0]], masks * 2)
    assert both is not None and len(both.parts) == len(SIZES)
    assert torch.isfinite(both.parts).all()


def test_of_many_references_the_first_are_looked_at(
    lite: PromptableSam, groups: list[list[Photo]]
) -> None:
    many = PerSAM(lite).fit([reference_of(photo) for photo in groups[0]])
    assert len(groups[0]) > MOST
    assert len(many.state.appearance.parts) == len(groups[0]) + MOST * len(SIZES)


def test_the_released_mode_looks_once(lite: PromptableSam, groups: list[list[Photo]]) -> None:
    released = PerSAM(lite, mode="reference").fit(reference_of(groups[0][0]))
    assert len(released.state.appearance.parts) == 1
