"""PerSAM-F as a method: which parts it keeps in which mode, and how it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

PARTS = ("negative_prior", "guided_attention", "semantic_prompt")


@pytest.mark.parametrize(("mode", "kept"), [("corrected", True), ("reference", False)])
def test_what_comes_with_the_weights(mode: Any, kept: bool, sam: PromptableSam) -> None:
    """The paper's way in corrected mode, the released code's in the other."""
    method = PerSAMF(sam, mode)
    assert {getattr(method, part) for part in PARTS} == {kept}
    assert all(method.settings[part] is kept for part in PARTS)
    for part in PARTS:
        chosen = PerSAMF(sam, mode, **{part: not kept})
        assert getattr(chosen, part) is not kept
        assert [getattr(chosen, one) for one in PARTS if one != part] == [kept, kept]


def test_it_looks_for_the_object_as_persam_does(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    tuned, plain = PerSAMF(sam).fit(reference), PerSAM(sam).fit(reference)
    assert torch.equal(tuned.state.targets, plain.state.targets)
    for a, b in zip((tuned, plain), (plain, tuned), strict=True):
        np.testing.assert_array_equal(
            a.locate(embeddings)[0].points, b.locate(embeddings)[0].points
        )
    released = [kind(sam, "reference").fit(reference).state.targets for kind in (PerSAMF, PerSAM)]
    assert not torch.allclose(*released)


def test_it_stops_where_other_views_are_segmented_best(
    sam: PromptableSam, reference: Reference, tmp_path: Path
) -> None:
    method = PerSAMF(sam, views=3, lr=0.05, steps=200).fit(reference)
    course = method.course
    losses = dict(course.view_losses)
    assert list(losses) == [0, *range(25, 201, 25)]
    assert losses[course.best_step] == min(losses.values())
    path = dict.fromkeys([course.best_step])
    for step in path:  # the steps themselves are those of a tuning that was not judged
        alone = PerSAMF(sam, lr=0.05, steps=200).fit(reference)
        assert alone.course.best_step == 200 and alone.course.view_losses == ()
        assert (alone.tuning.weights == method.tuning.weights) is (step == 200)
    loaded = PerSAMF.load(method.save(tmp_path / "f"), sam)
    assert loaded.course == course and loaded.tuning == method.tuning
    assert method.parameters == 2 and PerSAM(sam).parameters == 0
