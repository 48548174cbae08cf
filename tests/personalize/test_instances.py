"""Suppress and repeat, on a scene whose every number is known, and on a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_persam.errors import PersamError
from fiftyone_persam.personalize import PerSAM, PerSAMF, Prediction, Reference
from fiftyone_persam.personalize.instances import find_instances, merge
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

Array = np.ndarray[Any, Any]
CELL = 4
GRID = 10
LEVELS = torch.tensor([[0.9, 0.1]])


def square(x: int, y: int, side: int = 2) -> Array:
    """Cells x .. x + side of a mask of GRID * CELL pixels."""
    mask = np.zeros((GRID * CELL, GRID * CELL), bool)
    mask[y * CELL : (y + side) * CELL, x * CELL : (x + side) * CELL] = True
    return mask


def prediction(mask: Array, x: int, y: int, presence: float = 0.9, **more: Any) -> Prediction:
    similarity = np.zeros((GRID, GRID), np.float32)
    points = np.array([[x * CELL, y * CELL], [0, 0]])
    values = {"score": 0.8, "box": None, "stage": "refinement_2", "agreement": 1.0, **more}
    return Prediction(
        mask=mask,
        candidate=mask,
        presence=presence,
        similarity=similarity,
        points=points,
        labels=np.array([1, 0]),
        **values,
    )


class Scene:
    """Squares of 2 x 2 cells with a similarity each; the prior finds the most similar free cell."""

    def __init__(self, objects: dict[tuple[int, int], float]) -> None:
        self.objects = objects
        self.similarity = torch.full((1, GRID, GRID), 0.1)
        for (x, y), value in objects.items():
            self.similarity[0, y : y + 2, x : x + 2] = value
        self.attempts = 0
        self.seen: list[torch.Tensor] = []

    def segment(self, rows: list[int], blocked: torch.Tensor) -> list[Prediction]:
        self.attempts += 1
        self.seen.append(blocked[0].clone())
        free = self.similarity[0].masked_fill(blocked[0], -1)
        y, x = divmod(int(free.argmax()), GRID)
        return [self.at(x, y)]

    def at(self, x: int, y: int) -> Prediction:
        for (ox, oy), value in self.objects.items():
            if ox <= x < ox + 2 and oy <= y < oy + 2:
                return prediction(square(ox, oy), x, y, presence=min(1, (value - 0.1) / 0.8))
        return prediction(square(x, y, 1), x, y, presence=0)

    def find(self, limit: int) -> Prediction:
        y, x = divmod(int(self.similarity[0].argmax()), GRID)
        valid = torch.ones(1, GRID, GRID, dtype=torch.bool)

        def cover(row: int, mask: Array) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(torch.from_numpy(mask).float()[None], CELL)[0]

        first = [self.at(x, y)]
        return find_instances(first, self.similarity, valid, LEVELS, limit, self.segment, cover)[0]


TWINS = {(1, 1): 0.95, (6, 1): 0.9, (1, 6): 0.85}


@pytest.mark.parametrize(
    ("objects", "limit", "expected"),
    [
        (TWINS, 5, [(1, 1), (6, 1), (1, 6)]),
        (TWINS, 2, [(1, 1), (6, 1)]),
        (TWINS, 3, [(1, 1), (6, 1), (1, 6)]),
        ({(1, 1): 0.95, (6, 6): 0.4}, 5, [(1, 1)]),  # a lookalike at best
        ({(1, 1): 0.95}, 5, [(1, 1)]),
    ],
)
def test_finds_what_looks_like_the_object(
    objects: dict[tuple[int, int], float], limit: int, expected: list[tuple[int, int]]
) -> None:
    scene = Scene(objects)
    found = scene.find(limit)
    masks = [one.mask for one in found.instances or (found,)]
    assert len(masks) == len(expected)
    for mask, (x, y) in zip(masks, expected, strict=True):
        np.testing.assert_array_equal(mask, square(x, y))
    union = np.logical_or.reduce([square(x, y) for x, y in expected])
    np.testing.assert_array_equal(found.mask, union)


def test_no_attempt_starts_on_what_was_found() -> None:
    scene = Scene(TWINS)
    scene.find(3)
    assert scene.seen[0][1:3, 1:3].all()
    assert scene.seen[1][1:3, 6:8].all()


def test_a_single_object_costs_no_attempt() -> None:
    scene = Scene({(1, 1): 0.95})
    assert scene.find(5).instances == ()
    assert scene.attempts == 0


def test_where_the_strongest_is_absent_nothing_is_looked_for() -> None:
    scene = Scene(TWINS)
    empty = prediction(np.zeros_like(square(0, 0)), 1, 1)
    valid = torch.ones(1, GRID, GRID, dtype=torch.bool)
    found = find_instances(
        [empty],
        scene.similarity,
        valid,
        LEVELS,
        5,
        scene.segment,
        lambda row, mask: None,  # type: ignore
    )
    assert found == [empty] and scene.attempts == 0


def test_the_same_object_twice_counts_once() -> None:
    """A prior beside the first object whose mask is the first object again."""
    scene = Scene({(1, 1): 0.95, (6, 1): 0.9})
    segment = scene.segment
    scene.segment = lambda rows, blocked: [scene.at(1, 1)]  # type: ignore[method-assign]
    assert scene.find(3).instances == ()
    scene.segment = segment  # type: ignore[method-assign]


def test_merge_puts_positive_points_first() -> None:
    one = prediction(square(1, 1), 1, 1, box=np.array([4, 4, 11, 11]), agreement=0.9)
    other = prediction(square(6, 1), 6, 1, box=np.array([24, 4, 31, 11]), agreement=0.4)
    both = merge([one, other])
    assert both.points.tolist() == [[4, 4], [24, 4], [0, 0]]
    assert both.labels.tolist() == [1, 1, 0]
    assert both.box is not None and both.box.tolist() == [4, 4, 31, 11]
    assert both.agreement == 0.4 and both.presence == one.presence
    assert both.instances == (one, other)
    assert merge([one]) is one


@pytest.mark.parametrize("cls", [PerSAM, PerSAMF])
def test_on_a_model(
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
    cls: type[PerSAM],
) -> None:
    several = cls(sam, max_instances=3, presence_threshold=0).fit(reference)
    single = cls(sam, presence_threshold=0).fit(reference)
    for many, one in zip(
        several.predict_embeddings(embeddings), single.predict_embeddings(embeddings), strict=True
    ):
        parts = many.instances or (many,)
        assert len(parts) <= 3
        np.testing.assert_array_equal(parts[0].mask, one.mask)
        np.testing.assert_array_equal(many.mask, np.logical_or.reduce([p.mask for p in parts]))
        # No pixel belongs to two.
        assert sum(int(p.mask.sum()) for p in parts) == many.mask.sum()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_instances": 0}, "give 1 or more"),
        ({"max_instances": -1}, "give 1 or more"),
        ({"max_instances": 1.5}, "give 1 or more"),
        ({"max_instances": 2, "mode": "reference"}, "corrected"),
    ],
)
def test_bad_numbers(sam: PromptableSam, given: dict[str, Any], says: str) -> None:
    with pytest.raises(PersamError, match=says):
        PerSAM(sam, **given)
