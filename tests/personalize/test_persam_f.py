"""PerSAM-F as a method: which parts it keeps in which mode, and how it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.sam import ImageEmbedding, PromptableSam


@pytest.mark.parametrize(("mode", "kept"), [("corrected", True), ("reference", False)])
def test_what_comes_with_the_weights(mode: Any, kept: bool, sam: PromptableSam) -> None:
    """The semantic prompt does, but not in the released code."""
    method = PerSAMF(sam, mode)
    assert method.semantic_prompt is method.settings["semantic_prompt"] is kept
    assert not method.negative_prior and not method.guided_attention
    parts = {"semantic_prompt": not kept, "negative_prior": True, "guided_attention": True}
    assert parts.items() <= PerSAMF(sam, mode, **parts).settings.items()


def test_it_looks_for_the_object_as_persam_does(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    tuned, plain = PerSAMF(sam).fit(reference), PerSAM(sam).fit(reference)
    assert torch.equal(tuned.state.targets, plain.state.targets)
    for a, b in zip((tuned, plain), (plain, tuned), strict=True):
        found, expected = a.locate(embeddings)[0], b.locate(embeddings)[0]
        assert torch.equal(found.similarity, expected.similarity)
        assert torch.equal(found.token_offset, expected.token_offset)
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
