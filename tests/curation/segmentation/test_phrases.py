"""Phrases in `segment`: a method of its own, and what finds the object for the other methods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation import evaluate, segment_again
from fiftyone_persam.curation.forms.thumbnails import run_reference_thumbnail
from fiftyone_persam.curation.runs.record import read_record
from fiftyone_persam.engine import DevicesBackend, MemoryCache
from fiftyone_persam.errors import BadReferenceError, CheckpointError, PersamError
from fiftyone_persam.personalize import EvfSam
from tests.curation.discs import Make, make_photos, state_of
from tests.small_evf import NAME, registered

MUG = fp.TextReference("the blue mug")


@pytest.fixture
def small() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 3))


def masks(photos: fo.Dataset, field: str = "mine") -> list[np.ndarray]:
    photos.reload()
    return [sample[field].get_mask() > 0 for sample in photos]


def said(photos: fo.Dataset, phrase: fp.TextReference = MUG) -> list[Any]:
    return EvfSam(NAME).fit(phrase).predict(photos.values("filepath"))


# The phrase on every photo ------------------------------------------------------------------------


def test_the_phrase_on_every_photo(small: None, photos: fo.Dataset) -> None:
    run = fp.segment(photos, MUG, method="evf_sam", out_field="mine", label_type="both")
    assert run.counts["segmented"] == 3 and run.errors == {}
    for mask, expected in zip(masks(photos), said(photos), strict=True):
        np.testing.assert_array_equal(mask, expected.mask)
    assert photos.first()["mine_instances"].detections[0].label == "the blue mug"
    # The default model gave way to one that takes phrases; the phrase is on record, no photo is.
    (reference,) = run.record.references
    assert (run.record.model, reference.kind, reference.text) == (NAME, "text", "the blue mug")
    assert reference.sample_id == "" and not photos.has_field("mine_reference")
    assert "Reference:  the phrase 'the blue mug'\n" in str(run.summary())
    assert run_reference_thumbnail(photos, "mine") is None
    results = evaluate(photos, "mine", eval_key="mine_eval")  # leaves out nothing but "reference"s
    assert 0 < results.metrics()["mIoU"] < 1 and len(photos.exists("mine_eval_iou")) == 2
    fp.rename_run(photos, "mine", "other")
    fp.delete_run(photos, "other")
    assert not photos.has_field("other")


@pytest.mark.parametrize("with_photo", [False, True])
def test_resumed(small: None, photos: fo.Dataset, with_photo: bool) -> None:
    reference = [photos.first(), MUG] if with_photo else MUG
    fp.segment(photos, reference, method="evf_sam", out_field="mine")
    before = masks(photos)
    last = photos.last()
    for field in ("mine", "mine_score", "mine_presence"):
        last.set_field(field, None)
    last.save()
    assert fp.resume_run(photos, "mine").state == "done"
    for mask, expected in zip(masks(photos), before, strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_a_labelled_photo_besides(small: None, photos: fo.Dataset) -> None:
    first = photos.first()
    run = fp.segment(photos, [first, MUG], method="evf_sam", out_field="mine", max_lookalikes=3)
    kinds = [one.kind for one in run.record.references]
    assert kinds == ["mask", "text"] and run.record.parameters.presence_threshold == 0.5
    truth = first.ground_truth.mask > 0
    method = EvfSam(NAME, max_lookalikes=3).fit([fp.Reference(first.filepath, mask=truth), MUG])
    found = method.predict(photos.values("filepath"))
    for mask, expected in zip(masks(photos), found, strict=True):
        np.testing.assert_array_equal(mask, expected.mask)
    again = segment_again(photos, "mine", photos.last())
    assert [one.kind for one in again.record.references] == ["mask", "text", "mask"]


@pytest.mark.slow
def test_in_other_processes(small: None, photos: fo.Dataset) -> None:
    """Model, tokenizer and fitted phrase are sent to them."""
    backend = DevicesBackend(["cpu", "cpu"])
    run = fp.segment(photos, MUG, method="evf_sam", out_field="mine", backend=backend, batch_size=1)
    assert run.counts["segmented"] == 3
    for mask, expected in zip(masks(photos), said(photos), strict=True):
        np.testing.assert_array_equal(mask, expected.mask)


def test_cached_embeddings_lack_the_overview(small: None, photos: fo.Dataset) -> None:
    cache = MemoryCache()
    given = {"method": "evf_sam", "cache": cache}
    fp.segment(photos, MUG, **given, out_field="mine")
    run = fp.segment(photos, MUG, **given, out_field="again")
    assert run.timings["photos_encoded"] == 0
    for a, b in zip(masks(photos), masks(photos, "again"), strict=True):
        np.testing.assert_array_equal(a, b)


# The phrase finds the object, another method carries it on ---------------------------------------


@pytest.mark.parametrize("by_id", [False, True])
def test_in_the_chosen_photo(small: None, photos: fo.Dataset, by_id: bool) -> None:
    chosen = photos.last()
    pair = (chosen.id if by_id else chosen, MUG)
    run = fp.segment(photos, pair, method="persam", out_field="mine")
    expected = said(photos)[-1].mask
    # Its mask is a label like any other, which the run names and others can use.
    photos.reload()
    chosen.reload()
    (label,) = chosen["mine_reference"].detections
    assert label.label == "the blue mug"
    (reference,) = run.record.references
    assert (reference.sample_id, reference.label_id) == (chosen.id, label.id)
    assert (reference.label_field, reference.kind) == ("mine_reference", "mask")
    assert reference.text == "the blue mug" and "found by" not in reference.filepath
    assert "the phrase 'the blue mug'" in str(run.summary())
    assert run_reference_thumbnail(photos, "mine") is not None
    whole = np.asarray(label.to_segmentation(frame_size=(64, 48)).mask) > 0
    np.testing.assert_array_equal(whole, expected)
    # It is what PerSAM learns from that mask as a label.
    other = fp.segment(
        photos,
        (chosen, label.id),
        label_field="mine_reference",
        method="persam",
        out_field="by_label",
    )
    assert other.counts["segmented"] == run.counts["segmented"]
    for a, b in zip(masks(photos), masks(photos, "by_label"), strict=True):
        np.testing.assert_array_equal(a, b)
    fp.delete_run(photos, "mine")
    chosen.reload()
    assert len(chosen["mine_reference"].detections) == 1


def test_it_is_resumed_without_the_model_that_found_it(photos: fo.Dataset) -> None:
    with registered():
        fp.segment(photos, (photos.first(), MUG), method="persam", out_field="mine")
        before = masks(photos)
        # Asked once more, it is the same label.
        fp.segment(photos, (photos.first(), MUG), method="persam", out_field="mine", overwrite=True)
        assert len(photos.first()["mine_reference"].detections) == 1
    photos.last().set_field("mine", None)
    assert fp.resume_run(photos, "mine").state == "done"
    for mask, expected in zip(masks(photos), before, strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert read_record(photos, "mine").references[0].text == "the blue mug"


def test_without_a_photo_the_clearest_counts(small: None, photos: fo.Dataset) -> None:
    run = fp.segment(photos, MUG, method="persam_f", out_field="mine", steps=1)
    scores = [one.score for one in said(photos)]
    best = photos.values("id")[int(np.argmax(scores))]
    assert run.record.references[0].sample_id == best
    assert photos.exists("mine_reference").values("id") == [best]


def test_one_more_reference_in_words(small: None, photos: fo.Dataset) -> None:
    fp.segment(photos, photos.first(), method="persam", out_field="mine")
    run = segment_again(photos, "mine", (photos.last(), MUG))
    first, second = run.record.references
    assert (first.label_field, second.label_field) == ("ground_truth", "mine_reference")
    (label,) = photos.last()["mine_reference"].detections
    assert second.label_id == label.id and second.text == "the blue mug"


def test_by_a_model_of_the_run_that_takes_phrases(small: None, photos: fo.Dataset) -> None:
    run = fp.segment(photos, (photos.first(), MUG), method="persam", model=NAME, out_field="mine")
    assert run.record.model == NAME and len(photos.first()["mine_reference"].detections) == 1


# Bad input: one line, and nothing is written -----------------------------------------------------


def refused(photos: fo.Dataset, kind: type[Exception], says: str, **given: Any) -> None:
    photos.reload()
    before = state_of(photos)
    with pytest.raises(kind, match=says) as caught:
        fp.segment(photos, **{"reference": MUG, "out_field": "mine", **given})
    assert "\n" not in str(caught.value)
    photos.reload()
    assert state_of(photos) == before


@pytest.mark.parametrize("method", ["evf_sam", "persam", "persam_f"])
@pytest.mark.parametrize(
    ("phrase", "says"),
    [
        ("青いマグカップ", "is in a script that the model does not know: say it in English"),
        ("голубая кружка", "is in a script that the model does not know"),
        ("m" * 400, "is 400 tokens long: give one of at most 256|is 4.. tokens long"),
    ],
)
def test_phrases_that_the_model_cannot_use(
    small: None, photos: fo.Dataset, method: str, phrase: str, says: str
) -> None:
    given = {"reference": fp.TextReference(phrase), "method": method}
    refused(photos, BadReferenceError, says, **given)


@pytest.mark.parametrize("words", ["", "  ", "mug " * 500, 3])
def test_phrases_that_are_none(words: Any) -> None:
    with pytest.raises(BadReferenceError, match="text reference") as caught:
        fp.TextReference(words)
    assert "\n" not in str(caught.value)


def test_photos_with_nothing_in_them(small: None, dataset: Make, tmp_path: Path) -> None:
    samples = []
    for number in range(2):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (64, 48), (90, 90, 90 + number)).save(path)
        samples.append(fo.Sample(str(path)))
    blank = dataset(samples)
    chosen = (blank.first(), MUG)
    says = "'the blue mug' finds nothing in 0.png: say it otherwise"
    refused(blank, BadReferenceError, says, reference=chosen, method="persam")
    refused(blank, BadReferenceError, "nothing in any of 2 photos", method="persam")
    # On every photo it is a result: there is nothing.
    run = fp.segment(blank, MUG, method="evf_sam", out_field="mine")
    assert run.errors == {} and not any(mask.any() for mask in masks(blank))
    assert blank.values("mine_presence") == [0.0, 0.0]


def test_what_else_is_refused(small: None, photos: fo.Dataset, tmp_path: Path) -> None:
    for method in ("evf_sam", "persam"):
        grouped = {"method": method, "group_by": "colour"}
        refused(photos, BadReferenceError, "a phrase names one object: leave group_by", **grouped)
    first = photos.first()
    refused(
        photos,
        BadReferenceError,
        "EVF-SAM did not get a phrase: give one",
        reference=first,
        method="evf_sam",
    )
    says = f"method 'evf_sam' needs a model that takes phrases, which sam_vit_b does not: .*{NAME}"
    refused(photos, PersamError, says, method="evf_sam", model="sam_vit_b")
    two = [MUG, fp.TextReference("the cat")]
    refused(photos, BadReferenceError, "EVF-SAM got 2 phrases", reference=two, method="evf_sam")
    nowhere = ("0" * 24, MUG)
    refused(photos, BadReferenceError, "has no sample with id", reference=nowhere, method="persam")
    first["mine_reference"] = fo.Classification(label="x")
    first.save()
    says = "field 'mine_reference' does not hold Detections: choose another"
    refused(photos, PersamError, says, reference=(first, MUG), method="persam")


def test_a_photo_that_cannot_be_read(small: None, photos: fo.Dataset) -> None:
    broken = photos.first()
    Path(broken.filepath).write_bytes(b"not a photo")
    refused(photos, PersamError, "red_0.png", reference=(broken, MUG), method="persam")
    # Among several it is passed over.
    run = fp.segment(photos, MUG, method="persam", out_field="mine")
    assert run.record.references[0].sample_id != broken.id
    run = fp.segment(photos, MUG, method="evf_sam", out_field="words")
    assert list(run.errors) == [broken.id] and run.counts["segmented"] == 2


def test_where_the_weights_are_missing(photos: fo.Dataset, monkeypatch: Any) -> None:
    """It says what to download, and what goes without."""
    says = (
        r"is missing: get it from https://huggingface.co/YxZhang/.*licence Apache-2.0.*"
        r"models download evf_sam\), or mark the object in one photo, which needs no download"
    )
    refused(photos, CheckpointError, says, method="persam")
    refused(photos, CheckpointError, says, reference=(photos.first(), MUG), method="persam_f")
    monkeypatch.setattr("urllib.request.OpenerDirector.open", _no_network)
    refused(photos, CheckpointError, "download of https://.*failed", method="evf_sam")


def _no_network(*_: Any, **__: Any) -> None:
    raise OSError("no network here")
