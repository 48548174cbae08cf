"""The three passes: what a photo keeps where a mask is empty, boxes, and batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_persam.personalize import PerSAM, Reference
from fiftyone_persam.personalize.assembly import _overlap
from fiftyone_persam.personalize.cascade import STAGES, PriorBatch, _spans, run_cascade
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

THIRDS = torch.full((3,), 1 / 3)


@pytest.fixture(scope="module")
def batch(sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]) -> PriorBatch:
    return PerSAM(sam).fit(reference).locate(embeddings)[0]


class Scripted:
    """The small model, whose logits of pass ``n`` are lifted by ``lifts[n]``: all or nothing."""

    def __init__(self, sam: PromptableSam, lifts: list[float]) -> None:
        self._sam, self._lifts, self.prompts = sam, iter(lifts), []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sam, name)

    def decode_tensors(self, *args: Any, **prompts: Any) -> Any:
        logits, scores = self._sam.decode_tensors(*args, **prompts)
        self.prompts.append(prompts)
        return logits + next(self._lifts), scores


@torch.inference_mode()
@pytest.mark.parametrize(
    ("lifts", "stage", "filled"),
    [
        ((9, 9, 9), "refinement_2", True),
        ((9, 9, -9), "refinement_1", True),
        ((9, -9), "location_prior", True),  # no third pass without a box
        ((-9, 9, 9), "refinement_2", True),
        ((-9, 9, -9), "refinement_1", True),
        ((-9, -9), "empty", False),
    ],
)
@pytest.mark.parametrize("weights", [None, THIRDS], ids=["PerSAM", "PerSAM-F"])
def test_an_empty_mask_leaves_the_last_that_was_not(
    sam: PromptableSam,
    batch: PriorBatch,
    lifts: tuple[float, ...],
    stage: str,
    filled: bool,
    weights: torch.Tensor | None,
) -> None:
    outcome = run_cascade(Scripted(sam, list(lifts)), batch, weights)  # type: ignore[arg-type]
    assert outcome.stages == [stage] * 4
    assert ((outcome.logits > 0).flatten(1).any(1) == filled).all()
    assert torch.isfinite(outcome.logits).all() and torch.isfinite(outcome.scores).all()
    assert (
        all((box is not None) == (stage == STAGES[2]) for box in outcome.boxes)
        or weights is not None
    )


@torch.inference_mode()
@pytest.mark.parametrize(("exact", "stage", "filled"), [(True, "empty", 0), (False, STAGES[1], 1)])
def test_an_empty_last_pass_stays_in_reference_mode_alone(
    sam: PromptableSam, batch: PriorBatch, exact: bool, stage: str, filled: int
) -> None:
    scripted = Scripted(sam, [9, 9, -9])
    outcome = run_cascade(scripted, batch, exact=exact)  # type: ignore[arg-type]
    assert outcome.stages == [stage] * 4
    assert ((outcome.logits > 0).flatten(1).any(1) == filled).all()


@torch.inference_mode()
def test_agreement_is_about_the_photo_without_its_padding(
    sam: PromptableSam, batch: PriorBatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    first, last = torch.randn(2, 4, 48, 48, generator=generator)
    found = _overlap(first, last, batch.embeddings)
    for k, photo in enumerate(batch.embeddings):
        rows, columns = (int(np.ceil(s * 48 / sam.image_size - 0.5)) for s in photo.input_size)
        a, b = first[k, :rows, :columns].numpy() > 0, last[k, :rows, :columns].numpy() > 0
        assert found[k].item() == pytest.approx((a & b).sum() / (a | b).sum())


@torch.inference_mode()
def test_what_each_pass_is_prompted_with(sam: PromptableSam, batch: PriorBatch) -> None:
    scripted = Scripted(sam, [9, 9, 9])
    run_cascade(scripted, batch)  # type: ignore[arg-type]
    first, second, third = scripted.prompts
    assert first["attention_bias"] is not None and first["token_offset"] is not None
    assert second["masks"] is not None and second["boxes"] is None
    assert third["masks"] is not None and third["boxes"] is not None
    assert "attention_bias" not in second and "token_offset" not in third

    scripted = Scripted(sam, [9, 9, 9])
    run_cascade(scripted, batch, THIRDS)  # type: ignore[arg-type]
    assert scripted.prompts[1]["boxes"] is not None


@torch.inference_mode()
def test_without_refinement_there_is_one_pass(sam: PromptableSam, batch: PriorBatch) -> None:
    outcome = run_cascade(sam, batch, refine=False)
    assert [one.stage for one in outcome.passes] == ["location_prior"]
    assert outcome.boxes == [None] * 4


@torch.inference_mode()
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("weights", [None, THIRDS], ids=["PerSAM", "PerSAM-F"])
def test_a_batch_is_its_photos_one_by_one(
    sam: PromptableSam, batch: PriorBatch, weights: torch.Tensor | None, exact: bool
) -> None:
    together = run_cascade(sam, batch, weights, exact=exact)
    assert batch.attention_bias is not None and batch.token_offset is not None
    for k in range(4):
        alone = run_cascade(
            sam,
            replace(
                batch,
                embeddings=batch.embeddings[k : k + 1],
                features=batch.features[k : k + 1],
                similarity=batch.similarity[k : k + 1],
                points=batch.points[k : k + 1],
                attention_bias=batch.attention_bias[k : k + 1],
                token_offset=batch.token_offset[k : k + 1],
            ),
            weights,
            exact=exact,
        )
        torch.testing.assert_close(together.logits[k], alone.logits[0], atol=1e-3, rtol=0)
        assert together.stages[k] == alone.stages[0]
        np.testing.assert_array_equal(together.boxes[k], alone.boxes[0])


@torch.inference_mode()
def test_quick_boxes_are_the_exact_ones_within_a_pixel_of_the_input(
    sam: PromptableSam, batch: PriorBatch
) -> None:
    exact, quick = (run_cascade(sam, batch, exact=flag) for flag in (True, False))
    for k, one in enumerate(batch.embeddings):
        a, b = exact.passes[2].boxes, quick.passes[2].boxes
        assert a is not None and b is not None
        assert np.abs(a[k] - b[k]).max() <= 2 / min(one.scale) + 1


@pytest.mark.parametrize("seed", range(4))
def test_spans_are_tight_boxes(seed: int) -> None:
    generator = np.random.default_rng(seed)
    masks = generator.random((5, 9, 13)) < 0.04
    masks[0] = False
    masks[1] = True
    expected = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        expected.append(
            [columns.min(), rows.min(), columns.max(), rows.max()] if len(rows) else [-1] * 4
        )
    np.testing.assert_array_equal(_spans(torch.from_numpy(masks)), expected)
