"""Words in the form that segments: in one photo, in every photo, and among lookalikes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionError

import fiftyone_persam as fp
from fiftyone_persam.errors import BadReferenceError, CheckpointError
from fiftyone_persam.personalize import EvfSam
from tests.curation.discs import Make, make_photos, state_of
from tests.small_evf import NAME, registered

from .context import Form, PanelTab, operator

SEGMENT = "segment_from_reference"
MUG = "the blue mug"


@pytest.fixture
def small() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def discs(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """Three photos without any label."""
    return dataset([fo.Sample(one.filepath) for one in make_photos(tmp_path, 3)])


def masks(photos: fo.Dataset, field: str) -> list[Any]:
    photos.reload()
    return [sample[field].get_mask() > 0 for sample in photos]


def set_of_decisions(photos: fo.Dataset) -> set[str]:
    photos.reload()
    fields = [name for name in photos.get_field_schema() if name.endswith("_review")]
    return {value for name in fields for value in photos.values(name) if value}


def picked(photos: fo.Dataset, **params: Any) -> Form:
    return Form(photos, SEGMENT, params, selected=[photos.first().id])


def test_without_the_weights_the_form_says_what_to_download(discs: fo.Dataset) -> None:
    form = picked(discs)
    assert "run: fiftyone-persam models download evf_sam (2,631 MB, Apache-2.0)." in form.texts()
    assert "A click needs no download." in form.texts()
    assert "phrase" not in form and "say" not in form["way"].type.values
    assert "evf_sam" not in form["method"].type.values if "method" in form else True
    # A click is enough.
    clicked = picked(discs, way="propose", pick="1", method="persam")
    assert clicked.errors == [] and "evf_sam" not in clicked["method"].type.values


def test_said_in_one_photo(small: None, discs: fo.Dataset) -> None:
    form = picked(discs, way="say")
    assert "phrase" in form and any("Nothing is said yet" in error for error in form.errors)
    assert "models download" not in form.texts()
    form = picked(discs, way="say", phrase=MUG, method="persam", out_field="mine", evaluate=False)
    assert form.errors == []
    before = state_of(discs)
    assert before == state_of(discs)  # the form writes nothing
    form.execute()
    discs.reload()
    first = discs.first()
    (label,) = first["mine_reference"].detections
    assert label.label == MUG
    (expected,) = EvfSam(NAME).fit(fp.TextReference(MUG)).predict([first.filepath])
    whole = np.asarray(label.to_segmentation(frame_size=(64, 48)).mask) > 0
    np.testing.assert_array_equal(whole, expected.mask)
    record = fp.load_run(discs, "mine").record
    assert record.references[0].label_id == label.id and record.method == "persam"
    # As the library's own call does.
    fp.segment(discs, (first, fp.TextReference(MUG)), method="persam", out_field="own")
    for a, b in zip(masks(discs, "mine"), masks(discs, "own"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_said_of_every_photo(small: None, discs: fo.Dataset) -> None:
    """No photo is selected: there is no need."""
    form = Form(discs, SEGMENT, {"scope": "said", "phrase": MUG, "out_field": "mine"})
    assert form.errors == [] and form["method"].type.values == ["evf_sam"]
    assert "3 photos will be segmented" in form.texts() and "reference" not in form
    form.execute()
    record = fp.load_run(discs, "mine").record
    assert (record.method, record.model) == ("evf_sam", NAME)
    fp.segment(discs, fp.TextReference(MUG), method="evf_sam", out_field="own")
    for a, b in zip(masks(discs, "mine"), masks(discs, "own"), strict=True):
        np.testing.assert_array_equal(a, b)
    # The panel has no photo of a reference to show, and reviews the run all the same.
    panel = PanelTab(discs)
    panel.click("Accept")
    assert set_of_decisions(discs) == {"accepted"}


def test_among_lookalikes(small: None, dataset: Make, tmp_path: Path) -> None:
    labelled = dataset(make_photos(tmp_path, 3))
    form = picked(labelled, method="evf_sam", out_field="mine", label_field="ground_truth")
    assert "phrase" in form and any("Nothing is said yet" in error for error in form.errors)
    given = {"method": "evf_sam", "out_field": "mine", "label_field": "ground_truth"}
    form = picked(labelled, **given, phrase=MUG, evaluate=False, scope="one")
    assert form.errors == []
    form.execute()
    kinds = [one.kind for one in fp.load_run(labelled, "mine").record.references]
    assert kinds == ["mask", "text"]


@pytest.mark.parametrize(
    ("phrase", "says"),
    [
        ("", "Nothing is said yet"),
        ("   ", "the text reference is empty"),
        ("mug " * 500, "the text reference has 500 words"),
    ],
)
@pytest.mark.parametrize("scope", ["one", "said"])
def test_words_that_say_nothing(
    small: None, discs: fo.Dataset, scope: str, phrase: str, says: str
) -> None:
    form = picked(discs, scope=scope, way="say", phrase=phrase, out_field="mine")
    assert any(says in error for error in form.errors)
    assert not discs.has_field("mine_reference")


@pytest.mark.parametrize("pair", [False, True])
def test_called_from_python(small: None, discs: fo.Dataset, pair: bool) -> None:
    words = fp.TextReference(MUG)
    reference = (discs.first(), words) if pair else words
    method = "persam" if pair else "evf_sam"
    operator(SEGMENT)(discs, reference, method=method, out_field="mine")
    record = fp.load_run(discs, "mine").record
    assert record.references[0].text == MUG and record.method == method
    before = state_of(discs)
    for phrase, says in (("杯子", "in a script that the model does not know"),):
        other = fp.TextReference(phrase)
        with pytest.raises((BadReferenceError, ExecutionError), match=says) as caught:
            operator(SEGMENT)(
                discs, (discs.first(), other) if pair else other, method=method, out_field="other"
            )
        assert "\n" not in str(caught.value)
    discs.reload()
    assert state_of(discs)["samples"] == before["samples"]


def test_called_from_python_without_the_weights(discs: fo.Dataset) -> None:
    before = state_of(discs)
    with pytest.raises(CheckpointError, match="models download evf_sam"):
        operator(SEGMENT)(
            discs, (discs.first(), fp.TextReference(MUG)), method="persam", out_field="mine"
        )
    discs.reload()
    assert state_of(discs)["samples"] == before["samples"]
