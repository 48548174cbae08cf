"""PerSAM and PerSAM-F as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.seeded import small_sam
from fiftyone_persam.errors import BadReferenceError, CheckpointError, PersamError, PhotoError
from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import PerSAM, PerSAMF, Prediction, Reference
from fiftyone_persam.personalize.prior import valid_cells
from fiftyone_persam.personalize.state import read_state
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam

Array = np.ndarray[Any, Any]
METHODS = [PerSAM, PerSAMF]
MODES = ["corrected", "reference"]


def differ(one: Prediction, other: Prediction) -> bool:
    return not np.array_equal(one.candidate, other.candidate) or one.score != other.score


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("mode", MODES)
def test_a_prediction_is_what_the_api_says(
    sam: PromptableSam, photos: list[Array], reference: Reference, cls: Any, mode: Any
) -> None:
    model = cls(sam, mode).fit(reference)
    predictions = model.predict(photos)
    assert len(predictions) == len(photos)
    for photo, p in zip(photos, predictions, strict=True):
        height, width = photo.shape[:2]
        assert p.mask.dtype == np.bool_ and p.mask.shape == (height, width)
        assert p.candidate.shape == p.mask.shape
        assert isinstance(p.score, float) and np.isfinite(p.score)
        assert 0 <= p.presence <= 1 and 0 <= p.agreement <= 1
        rows, columns = p.similarity.shape
        assert max(rows, columns) == 12 and p.similarity.dtype == np.float32
        assert rows / columns == pytest.approx(height / width, rel=0.15)
        assert (np.abs(p.similarity) <= 1 + 1e-5).all()
        assert p.points.dtype == np.int64 and p.points.shape == (len(p.labels), 2)
        assert ((p.points >= 0) & (p.points < (width, height))).all()
        positives = int((p.labels == 1).sum())
        assert 1 <= positives <= (3 if mode == "corrected" else 1)
        assert p.labels.tolist() == [1] * positives + ([0] if cls is PerSAM else [])
        assert len({tuple(point) for point in p.points[:positives]}) == positives
        assert p.box is None or (p.box.shape == (4,) and (p.box[:2] <= p.box[2:]).all())
        assert p.stage in {"location_prior", "refinement_1", "refinement_2", "empty", "absent"}
        assert p.instances == ()


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("mode", MODES)
def test_photos_together_are_photos_one_by_one(
    sam: PromptableSam, photos: list[Array], reference: Reference, cls: Any, mode: Any
) -> None:
    model = cls(sam, mode).fit(reference)
    together = model.predict(photos, batch_size=3)
    for photo, expected in zip(photos, together, strict=True):
        alone = model.predict([photo])[0]
        assert iou(alone.candidate, expected.candidate) > 0.99
        assert alone.stage == expected.stage
        np.testing.assert_array_equal(alone.points, expected.points)
        np.testing.assert_allclose(alone.similarity, expected.similarity, atol=1e-4)
        assert alone.score == pytest.approx(expected.score, abs=1e-2)


def test_embeddings_and_photos_give_the_same(
    sam: PromptableSam,
    photos: list[Array],
    reference: Reference,
    embeddings: list[ImageEmbedding],
) -> None:
    model = PerSAM(sam).fit(reference, [embeddings[0]])
    for a, b in zip(
        model.predict(photos), model.predict_embeddings(embeddings, batch_size=2), strict=True
    ):
        assert iou(a.candidate, b.candidate) > 0.99
    assert model.predict([]) == [] and model.predict_embeddings([]) == []


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize(
    "part", ["negative_prior", "guided_attention", "semantic_prompt", "post_refinement"]
)
def test_every_part_can_be_switched(
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
    cls: Any,
    part: str,
) -> None:
    on = cls(sam, presence_threshold=0, **{part: True}).fit(reference)
    off = cls(sam, presence_threshold=0, **{part: False}).fit(reference)
    assert on.settings[part] is True and off.settings[part] is False
    (with_part, _), (without, _) = on.locate(embeddings), off.locate(embeddings)
    assert (len(with_part.labels), len(without.labels)) == (
        (4, 3) if part == "negative_prior" else (len(with_part.labels),) * 2
    )
    if part == "guided_attention":
        assert with_part.attention_bias is not None and without.attention_bias is None
    if part == "semantic_prompt":
        assert with_part.token_offset is not None and without.token_offset is None
    pairs = list(
        zip(on.predict_embeddings(embeddings), off.predict_embeddings(embeddings), strict=True)
    )
    assert any(differ(a, b) for a, b in pairs)
    if part == "post_refinement":
        assert all(b.stage in ("location_prior", "empty") and b.box is None for _, b in pairs)
        assert any(a.stage == "refinement_2" for a, _ in pairs)


def test_scale_tuning_can_be_switched_off(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    tuned, even = PerSAMF(sam).fit(reference), PerSAMF(sam, scale_tuning=False).fit(reference)
    assert even.tuning.weights == pytest.approx((1 / 3,) * 3)
    assert even.tuning.losses == ()
    assert np.abs(np.array(tuned.tuning.weights) - 1 / 3).max() > 0.05
    assert PerSAMF(sam, steps=0).fit(reference).tuning.weights == even.tuning.weights
    a, b = tuned.predict_embeddings(embeddings), even.predict_embeddings(embeddings)
    assert any(differ(x, y) for x, y in zip(a, b, strict=True))


def test_the_modes_differ_where_they_should(
    sam: PromptableSam, photos: list[Array], mask: Array, embeddings: list[ImageEmbedding]
) -> None:
    ones = Reference(photos[0], mask=mask.astype(np.uint8))
    with pytest.raises(BadReferenceError, match="corrected"):
        PerSAM(sam, "reference").fit(ones, embeddings[:1])
    corrected = PerSAM(sam).fit(ones, embeddings[:1])
    same = PerSAM(sam).fit(Reference(photos[0], mask=mask * np.uint8(255)), embeddings[:1])
    assert torch.equal(corrected.state.targets, same.state.targets)

    released = PerSAM(sam, "reference").fit(Reference(photos[0], mask=mask), embeddings[:1])
    assert released.presence_threshold == 0 and corrected.presence_threshold > 0
    wide = embeddings[2]
    a, b = corrected.locate([wide])[0], released.locate([wide])[0]
    assert a.attention_bias is not None and b.attention_bias is not None
    assert (a.attention_bias - b.attention_bias).abs().max() > 0.05


@pytest.mark.parametrize("cls", METHODS)
def test_absence_empties_the_mask_and_keeps_the_candidate(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding], cls: Any
) -> None:
    everything = cls(sam, presence_threshold=0).fit(reference).predict_embeddings(embeddings)
    presences = sorted(p.presence for p in everything)
    assert presences[0] < presences[-1]
    threshold = (presences[0] + presences[-1]) / 2
    strict = cls(sam, presence_threshold=threshold).fit(reference)
    for before, after in zip(everything, strict.predict_embeddings(embeddings), strict=True):
        assert before.stage != "absent"
        np.testing.assert_array_equal(before.mask, after.candidate)
        assert after.presence == pytest.approx(before.presence, abs=1e-6)
        if before.presence < threshold:
            assert after.stage == "absent" and not after.mask.any() and after.candidate.any()
        else:
            assert after.stage == before.stage and after.mask is after.candidate


@pytest.mark.parametrize("cls", METHODS)
def test_several_references(
    sam: PromptableSam,
    photos: list[Array],
    mask: Array,
    embeddings: list[ImageEmbedding],
    cls: Any,
) -> None:
    first = Reference(photos[0], mask=mask)
    other_mask = np.zeros(photos[3].shape[:2], bool)
    other_mask[20:120, 60:180] = True
    other = Reference(photos[3], mask=other_mask)
    one, two = cls(sam).fit(first), cls(sam).fit(other)
    both = cls(sam).fit([first, other])
    assert both.state.targets.shape == (2, sam.embed_dim)
    np.testing.assert_allclose(both.state.targets[0], one.state.targets[0], atol=1e-5)
    np.testing.assert_allclose(both.state.targets[1], two.state.targets[0], atol=1e-5)

    maps = [model.locate(embeddings)[0].similarity for model in (one, two)]
    joined, best = both.locate(embeddings)
    np.testing.assert_allclose(joined.similarity, torch.maximum(*maps), atol=1e-5)
    peaks = torch.stack(
        [(m.masked_fill(~valid_cells(embeddings, sam.device), -1)).flatten(1).amax(1) for m in maps]
    )
    assert best.tolist() == peaks.argmax(0).tolist()
    mean = cls(sam, several_references="mean").fit([first, other]).locate(embeddings)[0]
    np.testing.assert_allclose(mean.similarity, (maps[0] + maps[1]) / 2, atol=1e-5)

    twice = cls(sam).fit([first, first]).predict_embeddings(embeddings)
    once = one.predict_embeddings(embeddings)
    assert all(iou(a.candidate, b.candidate) > 0.99 for a, b in zip(twice, once, strict=True))


@pytest.mark.parametrize(
    "prompt",
    [
        {"box": (120, 40, 330, 240)},
        {"points": [(220, 120)]},
        {"points": [(220, 120), (10, 10)], "labels": [1, 0]},
    ],
    ids=["box", "point", "points"],
)
def test_sam_makes_the_mask_from_a_box_or_points(
    sam: PromptableSam,
    photos: list[Array],
    embeddings: list[ImageEmbedding],
    prompt: dict[str, Any],
) -> None:
    from segment_anything import SamPredictor

    model = PerSAM(sam).fit(Reference(photos[0], **prompt))
    predictor = SamPredictor(sam.sam)
    predictor.set_image(photos[0])
    lone = len(prompt.get("points", [])) == 1
    masks, scores, low = predictor.predict(
        np.array(prompt["points"]) if "points" in prompt else None,
        np.array(prompt.get("labels", [1])) if "points" in prompt else None,
        np.array(prompt["box"]) if "box" in prompt else None,
        multimask_output=lone,
    )
    stability = (low > 1).sum(axis=(1, 2)) / (low > -1).sum(axis=(1, 2))
    by_hand = PerSAM(sam).fit(Reference(photos[0], mask=masks[(scores * stability).argmax()]))
    np.testing.assert_allclose(model.state.targets, by_hand.state.targets, atol=1e-4)


@pytest.mark.parametrize("cls", METHODS)
def test_save_and_load(
    tmp_path: Path,
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
    cls: Any,
) -> None:
    model = cls(sam, negative_prior=False, presence_threshold=0.3, several_references="mean")
    path = model.fit(reference).save(tmp_path / "cat")
    assert path.stat().st_size < 100_000
    loaded = cls.load(path, sam)
    assert loaded.settings == model.settings
    for a, b in zip(
        model.predict_embeddings(embeddings), loaded.predict_embeddings(embeddings), strict=True
    ):
        np.testing.assert_array_equal(a.mask, b.mask)
        assert a.presence == b.presence
    if cls is PerSAMF:
        assert loaded.tuning == model.tuning


def test_states_are_not_mixed_up(tmp_path: Path, sam: PromptableSam, reference: Reference) -> None:
    path = PerSAM(sam).fit(reference).save(tmp_path / "cat")
    with pytest.raises(CheckpointError, match="persam_f"):
        PerSAMF.load(path, sam)
    with pytest.raises(CheckpointError, match="load that model"):
        PerSAM.load(path, load_sam(small_sam(256), dtype="float32"))
    one = PromptableSam(sam.sam, "a", checkpoint_sha256="1" * 64)
    other = PromptableSam(sam.sam, "b", checkpoint_sha256="2" * 64)
    hashed = PerSAM(one).fit(reference).save(tmp_path / "hashed")
    with pytest.raises(CheckpointError, match="'a'"):
        PerSAM.load(hashed, other)
    PerSAM.load(hashed, one)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda header, tensors: header["settings"].update(speed=3), "does not know"),
        (lambda header, tensors: header.pop("settings"), "does not know"),
        (lambda header, tensors: header.update(embed_dim=64), "fit again"),
        (lambda header, tensors: tensors.update(targets=torch.zeros(1, 64)), "fit again"),
        (lambda header, tensors: tensors.update(embeddings=torch.zeros(3)), "fit again"),
        (lambda header, tensors: header.update(method="sam"), "'sam'"),
        (lambda header, tensors: tensors.pop("targets"), "lacks tensors"),
    ],
)
def test_states_that_were_tampered_with(
    tmp_path: Path, sam: PromptableSam, reference: Reference, change: Any, says: str
) -> None:
    path = PerSAM(sam).fit(reference).save(tmp_path / "cat")
    tensors, header = read_state(path)
    change(header, tensors)
    save_file(tensors, path, metadata={"persam": json.dumps(header)})
    with pytest.raises(CheckpointError) as caught:
        PerSAM.load(path, sam)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_sam_of_ones_own(reference: Reference, photos: list[Array]) -> None:
    own = small_sam(192).train()
    prediction = PerSAM(own).fit(reference).predict(photos[:1])[0]
    assert prediction.mask.shape == photos[0].shape[:2]
    assert own.training  # it is left as it was


def test_fitting_again_forgets_the_first_object(
    sam: PromptableSam, reference: Reference, photos: list[Array]
) -> None:
    model = PerSAM(sam).fit(reference)
    before = model.state.targets
    model.fit(Reference(photos[3], box=(60, 20, 180, 120)))
    assert not torch.allclose(model.state.targets, before)
    bad = [reference, "cat"]
    with pytest.raises(BadReferenceError):
        model.fit(bad)  # type: ignore[arg-type]
    assert model.state.targets.shape[0] == 1  # a failed fit changes nothing


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mode": "fast"}, "mode"),
        ({"presence_threshold": 1.5}, "presence_threshold"),
        ({"presence_threshold": -0.1}, "presence_threshold"),
        ({"presence_threshold": float("nan")}, "presence_threshold"),
        ({"presence_threshold": "high"}, "presence_threshold"),
        ({"several_references": "median"}, "several_references"),
        ({"max_instances": "all"}, "max_instances"),
    ],
)
def test_bad_settings(sam: PromptableSam, cls: Any, given: dict[str, Any], says: str) -> None:
    with pytest.raises(PersamError, match=says):
        cls(sam, **given)


@pytest.mark.parametrize(
    "given",
    [
        {"steps": -1},
        {"steps": 10**6},
        {"lr": 0},
        {"lr": 2.0},
        {"lr": float("nan")},
        {"steps": "many"},
    ],
)
def test_bad_tuning_settings(sam: PromptableSam, given: dict[str, Any]) -> None:
    with pytest.raises(PersamError, match="out of range"):
        PerSAMF(sam, **given)


def test_bad_calls(
    sam: PromptableSam,
    reference: Reference,
    photos: list[Array],
    embeddings: list[ImageEmbedding],
) -> None:
    with pytest.raises(PersamError, match="call fit"):
        PerSAM(sam).predict(photos)
    with pytest.raises(PersamError, match="call fit"):
        PerSAM(sam).save("nowhere")
    with pytest.raises(BadReferenceError):
        PerSAM(sam).fit([])
    with pytest.raises(PersamError, match="as many"):
        PerSAM(sam).fit(reference, embeddings)
    with pytest.raises(PersamError, match="own photo"):
        PerSAM(sam).fit(reference, [embeddings[1]])
    model = PerSAM(sam).fit(reference)
    foreign = ImageEmbedding(torch.zeros(32, 16, 16), (256, 256), (256, 256), 256)
    with pytest.raises(PersamError, match="encode"):
        model.predict_embeddings([foreign])
    with pytest.raises(PhotoError, match=r"missing\.jpg"):
        model.predict(["missing.jpg"])


def test_on_the_bundled_model(photos: list[Array]) -> None:
    """Real weights: the object in its own photo, and turned upside down, is found again."""
    sam = load_sam("sam_lite", device="cpu")
    photo = photos[0]  # the cat fills most of it, so what is asked is less than all of it
    reference = Reference(photo, box=(110, 20, 340, 290))
    for cls in METHODS:
        model = cls(sam).fit(reference)
        whole, mirrored = model.predict([photo, np.ascontiguousarray(photo[:, ::-1])])
        assert whole.presence > 0.5 and whole.mask.any()
        assert iou(whole.mask, mirrored.mask[:, ::-1]) > 0.6
