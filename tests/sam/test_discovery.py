"""Proposals from the detector's boxes, and what is at a place of a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from benchmarks.seeded import small_sam
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import ImageEmbedding, Prompt, PromptableSam, load_photo, load_sam
from fiftyone_persam.sam.discovery import (
    WEIGHTS,
    DiscoveryHead,
    discover,
    generalized_iou,
    load_head,
    suppress,
)
from fiftyone_persam.sam.places import at_place, innermost, scales_of
from fiftyone_persam.sam.proposals import MAX_COUNT, Proposal, mask_iou, propose_in
from fiftyone_persam.sam.valid_prompts import proposal_of

Boxes = torch.Tensor


@pytest.fixture(scope="module")
def sam() -> Any:
    return load_sam("sam_lite")


@pytest.fixture(scope="module")
def cat(album: Path) -> Path:
    return sorted((album / "Images" / "cat").iterdir())[0]


@pytest.fixture(scope="module")
def embedding(sam: Any, cat: Path) -> ImageEmbedding:
    return sam.encode([cat])[0]


def random_boxes(count: int, seed: int) -> Boxes:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 100
    low, high = corners.amin(1), corners.amax(1)
    return torch.cat([low, high + 1], dim=1)


def test_the_head_is_small() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    assert sum(p.numel() for p in load_head().parameters()) * 2 < WEIGHTS.stat().st_size


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression_is_torchvision_s(threshold: float) -> None:
    boxes = random_boxes(60, seed=1)
    scores = torch.linspace(1, 0, len(boxes))
    wanted = torchvision.ops.nms(boxes, scores, threshold)
    assert suppress(boxes, 100, threshold).tolist() == wanted.tolist()
    assert suppress(boxes, 3, threshold).tolist() == wanted[:3].tolist()


def test_generalised_iou_is_torchvision_s() -> None:
    a, b = random_boxes(40, seed=2), random_boxes(40, seed=3)
    wanted = torchvision.ops.generalized_box_iou(a, b).diagonal()
    assert torch.allclose(generalized_iou(a, b), wanted, atol=1e-5)


def test_cells_and_boxes_of_an_untrained_head() -> None:
    """Every box lies around its own cell, on three levels over the whole input."""
    maps = DiscoveryHead()(torch.zeros(1, 128, 32, 32))
    assert maps.boxes.shape == (1, 64 * 64 + 32 * 32 + 16 * 16, 4)
    centers = (maps.boxes[0, :, :2] + maps.boxes[0, :, 2:]) / 2
    assert torch.allclose(centers[0], torch.tensor([4.0, 4.0]), atol=8)
    assert torch.allclose(centers[-1], torch.tensor([496.0, 496.0]), atol=32)
    assert bool((maps.boxes[..., 2:] > maps.boxes[..., :2]).all())


def test_boxes_stay_inside_a_photo_that_is_not_square(embedding: ImageEmbedding) -> None:
    boxes, scores = discover(load_head(), embedding, 50)
    height, width = embedding.original_size
    assert len(boxes) == len(scores) > 5
    assert bool((boxes >= 0).all()) and bool((boxes[:, 2] <= width + 1e-3).all())
    assert bool((boxes[:, 3] <= height + 1e-3).all())
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_the_object_is_among_the_first_ten(sam: Any, album: Path) -> None:
    found = {}
    for folder in sorted((album / "Images").iterdir()):
        photo = sorted(folder.iterdir())[0]
        mask = read_mask(album / "Annotations" / folder.name / f"{photo.stem}.png")
        proposals = propose_in(photo, sam, 20)[:10]
        values = [(p.mask & mask).sum() / (p.mask | mask).sum() for p in proposals]
        found[folder.name] = max(values)
    assert np.mean(list(found.values())) > 0.6, found  # the demo's scenes are made to be hard


def test_proposals_are_distinct_and_in_order(sam: Any, cat: Path) -> None:
    proposals = propose_in(cat, sam, 40)
    scores = [one.score for one in proposals]
    assert len(proposals) > 5 and scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    height, width = load_photo(cat).shape[:2]
    for number, one in enumerate(proposals):
        mask = one.mask
        assert mask.shape == (height, width) and mask.sum() == one.area
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert one.box.tolist() == [columns[0], rows[0], columns[-1], rows[-1]]
        for other in proposals[:number]:  # they are compared at the decoder's own size
            assert (mask & other.mask).sum() / (mask | other.mask).sum() < 0.85


def test_any_model_makes_the_masks(cat: Path) -> None:
    """The boxes are sam_lite's; what is in them is up to the model that is given."""
    torch.manual_seed(0)
    other = PromptableSam(small_sam(96), "small")
    proposals = propose_in(cat, other, 5)
    embedding = other.encode([cat])[0]
    boxes, _ = discover(load_head(), load_sam("sam_lite").encode([cat])[0], 10)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    prompts = [Prompt(embedding, points=[c], box=b) for c, b in zip(centers, boxes, strict=True)]
    logits = [one.logits[0] for one in other.decode(prompts)]
    assert 1 <= len(proposals) <= 5
    wanted = [(other.upscale(one[None], embedding)[0] > 0).numpy() for one in logits]
    for one in proposals:  # random weights leave values near 0, where rounding decides
        assert any((one.mask != mask).mean() < 1e-3 for mask in wanted)


@pytest.mark.parametrize("size", [(480, 640), (1500, 700), (90, 130)])
def test_a_crop_has_the_values_of_the_whole(sam: Any, size: tuple[int, int]) -> None:
    """Only where the mask is, a mask is enlarged: to the same pixels."""
    photo = np.random.default_rng(0).integers(0, 255, (*size, 3)).astype(np.uint8)
    embedding = sam.encode([photo])[0]
    box = np.array([0.2 * size[1], 0.3 * size[0], 0.7 * size[1], 0.8 * size[0]])
    logits = sam.decode([Prompt(embedding, box=box)])[0].logits[0]
    whole = (sam.upscale(logits[None], embedding)[0] > 0).numpy()
    made = proposal_of(embedding, logits, 0.5)
    assert made is not None and made.size == size
    assert (made.mask != whole).sum() <= 2  # a tie of rounding at the very edge


def test_part_and_whole(sam: Any, embedding: ImageEmbedding, cat: Path) -> None:
    best = propose_in(cat, sam, 10)[0]
    x, y = innermost(best)
    assert best.mask[int(y), int(x)]
    found = scales_of(sam, embedding, best)
    assert 1 <= len(found) <= 3
    areas = [one.area for one in found]
    assert areas == sorted(areas)
    decoded = sam.decode([Prompt(embedding, points=[(x, y)])])[0]
    wanted = [(sam.upscale(one[None], embedding)[0] > 0).numpy() for one in decoded.logits[1:]]
    assert all(any((one.mask != mask).sum() <= 2 for mask in wanted) for one in found)


def test_overlap_of_two_proposals() -> None:
    a, b = np.zeros((2, 20, 30), np.bool_)
    a[2:12, 3:20] = True
    b[5:18, 10:25] = True
    one, other = Proposal.of(a, 1.0), Proposal.of(b, 1.0)
    assert one is not None and other is not None
    assert mask_iou(one, other) == pytest.approx((a & b).sum() / (a | b).sum())
    apart = Proposal.of(np.roll(a, 18, axis=1)[:, :], 1.0)
    assert apart is not None and mask_iou(one, apart) == pytest.approx(
        (a & apart.mask).sum() / (a | apart.mask).sum()
    )
    assert Proposal.of(np.zeros((4, 4), np.bool_), 1.0) is None


def test_a_photo_with_nothing_in_it(sam: Any) -> None:
    found = propose_in(np.full((60, 80, 3), 120, np.uint8), sam, 10)
    assert all(one.score < 0.5 for one in found)


@pytest.mark.parametrize("count", [0, 5_000, MAX_COUNT + 1, True, 2.5, "10"])
def test_a_wrong_number_of_proposals(cat: Path, count: Any) -> None:
    with pytest.raises(PersamError, match="is not a number of proposals: give 1 to 1000"):
        propose_in(cat, max_proposals=count)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"point": (-5, 10)}, r"point \(-5, 10\) is outside the photo of \d+ x \d+ pixels"),
        ({"point": (1e6, 10)}, "is outside the photo"),
        ({"point": (float("nan"), 1)}, "is outside the photo"),
        ({"point": "here"}, "point 'here' is not a point"),
        ({"box": (5, 5, 5, 9)}, "is empty or not inside the photo"),
        ({"box": (1, 2, 3)}, r"box \(1, 2, 3\) is not a box"),
        ({}, "neither a point nor a box was given"),
    ],
)
def test_a_click_that_is_not_on_the_photo(
    sam: Any, embedding: ImageEmbedding, place: dict[str, Any], message: str
) -> None:
    with pytest.raises(PersamError, match=message):
        at_place(sam, embedding, **place)
