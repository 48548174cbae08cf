"""What the object is not: labels that are given, and masks that a review has rejected."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation.labels.masks import shown_mask
from fiftyone_persam.curation.runs.record import read_record
from fiftyone_persam.curation.segmentation.rejected import is_badly_cut
from tests.curation.scenes import scenes

RUN = "mine"


@pytest.fixture
def photos(album: Path, dataset: Callable[..., fo.Dataset], tmp_path: Path) -> fo.Dataset:
    """The cat, the cup, both of them, and the cat alone."""
    return dataset(scenes(album, tmp_path)[:4])


def run(photos: Any, name: str = RUN, reference: Any = None, **options: Any) -> Any:
    options = {"method": "persam", "presence_threshold": 0, **options}
    reference = photos.first().id if reference is None else reference
    return fp.segment(photos, reference, "labels", out_field=name, **options)


def presence(photos: fo.Dataset, name: str, run: str = RUN) -> float:
    return float(photos.one(fo.ViewField("shows") == name)[f"{run}_presence"])


def test_negatives_are_recorded_and_the_object_stays(photos: fo.Dataset) -> None:
    cat, cup = photos.values("id")[:2]
    learnt = run(photos, "learnt", negatives=cup)
    (negative,) = learnt.record.negatives
    assert (negative.sample_id, negative.label_field, negative.group) == (cup, "labels", "")
    assert presence(photos, "cup", "learnt") < 0.5
    assert presence(photos, "only_cat", "learnt") > 0.5
    box = fo.Detection(label="cup", bounding_box=photos[cup].labels.detections[0].bounding_box)
    sample = photos[cup]
    sample["boxes"] = fo.Detections(detections=[box])
    sample.save()
    by_box = run(photos, "by_box", negatives=[(cup, box.id)], negatives_field="boxes")
    assert by_box.record.negatives[0].kind == "box"
    assert photos[cat]["by_box"] is not None


def test_a_class_of_a_mask_that_it_is_not(photos: fo.Dataset) -> None:
    """What is wrong with a negative is said by the names of its own arguments."""
    cup = photos.values("id")[1]
    sample = photos[cup]
    mask = shown_mask(sample, "labels").astype(np.uint8)
    mask[:30, :30] = 2
    sample["classes"] = fo.Segmentation(mask=mask)
    sample.save()
    photos.mask_targets["classes"] = {1: "cup", 2: "wall"}
    photos.save()
    given: dict[str, Any] = {"negatives": cup, "negatives_field": "classes"}
    wrong = [
        (given, "choose one with negatives_mask_value"),
        ({**given, "negatives_mask_value": 9}, "negatives: "),
        ({**given, "negatives_mask_value": "mug"}, "negatives: "),
        ({**given, "negatives_mask_value": 1.5}, "negatives: negatives_mask_value 1.5 is not"),
        ({**given, "negatives_field": "nowhere"}, "negatives_field names"),
    ]
    for arguments, words in wrong:
        with pytest.raises(fp.PersamError, match=words) as caught:
            run(photos.limit(2), "wrong", **arguments)
        assert "\n" not in str(caught.value) and "label_field" not in str(caught.value)
    assert fp.list_runs(photos) == []
    learnt = run(photos.limit(2), negatives_mask_value="cup", **given)
    (negative,) = learnt.record.negatives
    assert negative.sample_id == cup and negative.label_field == "classes"
    again = curation.segment_again(photos, RUN, negatives_mask_value=2, **given)
    values = [one.mask_value for one in again.record.negatives]
    assert len(values) == 2 and values[1] == 2
    assert again.record.references == learnt.record.references


def test_run_again_with_what_was_rejected_alone(photos: fo.Dataset) -> None:
    cup = photos.values("id")[1]
    first = run(photos.limit(2))
    curation.set_review(photos, RUN, "rejected", [cup])
    again = curation.segment_again(photos, RUN)
    assert again.record.references == first.record.references
    assert [one.sample_id for one in again.record.negatives] == [cup]
    assert presence(photos, "cup") < 0.5
    with pytest.raises(fp.BadReferenceError, match="no reference is left"):
        curation.segment_again(photos, RUN, keep_references=False)


def test_what_is_rejected_teaches_the_next_run(photos: fo.Dataset) -> None:
    """The masks become labels that stay, and the record names them."""
    cup = photos.values("id")[1]
    few = photos.limit(2)
    run(few)
    wrong = shown_mask(photos[cup], RUN)
    curation.set_review(photos, RUN, "rejected", [cup])
    again = curation.segment_again(photos, RUN, photos.first().id, "labels")
    (negative,) = again.record.negatives
    assert (negative.sample_id, negative.label_field) == (cup, "mine_rejected")
    (label,) = photos[cup]["mine_rejected"].detections
    assert negative.label_id == label.id and again.record.parameters.use_rejected
    assert np.array_equal(shown_mask(photos[cup], "mine_rejected"), wrong)
    assert presence(photos, "cup") < 0.5
    # Nobody has looked at the new mask, and what was learnt from the old one is still known.
    third = curation.segment_again(photos, RUN, photos.first().id, "labels")
    assert third.record.negatives == again.record.negatives
    other = run(few, "other")
    assert [one.sample_id for one in other.record.negatives] == [cup]
    without = run(few, "without", use_rejected=False)
    assert without.record.negatives == () and not without.record.parameters.use_rejected
    stranger = run(few, "stranger", reference=cup)
    assert stranger.record.negatives == ()
    fp.delete_run(photos, RUN)
    assert photos.has_field("mine_rejected")


def test_resumed_with_its_negatives(photos: fo.Dataset) -> None:
    cup = photos.values("id")[1]
    run(photos, "whole", negatives=cup)

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(photos, "cut", negatives=cup, batch_size=1, progress=stop)
    fp.resume_run(photos, "cut")
    assert photos.values("cut_presence") == pytest.approx(photos.values("whole_presence"), abs=1e-5)
    sample = photos[cup]
    sample["labels"] = None
    sample.save()
    first = photos.first()
    first["cut"] = None
    first.save()
    with pytest.raises(fp.BadReferenceError):
        fp.resume_run(photos, "cut")


def test_of_several_objects_each_has_its_own(photos: fo.Dataset) -> None:
    cat, cup, both = photos.values("id")[:3]
    named = {"cat": cat, "cup": cup}
    made = run(photos, "each", named, negatives={"cat": cup})
    assert [(one.group, one.sample_id) for one in made.record.negatives] == [("cat", cup)]
    # Where one object alone is shown, it is the one that was rejected.
    sample = photos.one(fo.ViewField("shows") == "only_cat")
    made = run(photos, "shown", named, presence_threshold=0.5)
    curation.set_review(photos, "shown", "rejected", [sample.id, both])
    again = curation.segment_again(photos, "shown", {"cat": cat}, "labels")
    known = [(one.group, one.sample_id) for one in again.record.negatives]
    assert known in ([("cat", sample.id)], [])  # it is the cat: left out if that is seen


def test_refused_in_one_line_and_nothing_written(photos: fo.Dataset) -> None:
    cat, cup, both = photos.values("id")[:3]
    before = sorted(photos.get_field_schema())
    own = (cat, photos[cat].labels.detections[0].id)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (cat, {}, "lies on the reference itself"),
        ([cup, own], {}, "lies on the reference itself"),
        ("0" * 24, {}, "negatives: dataset"),
        (both, {}, "negatives: reference both.png has 2 labels"),
        (cup, {"negatives_field": "missing"}, "negatives: reference cup.png has no field"),
        (3, {}, "negatives: int is not a reference"),
        (cup, {"mode": "reference"}, "cannot learn from negatives"),
        ({"cup": cup}, {}, "negatives are of 'cup'"),
        (fp.TextReference("the cup"), {}, "a phrase shows nothing"),
        (cup, {"use_rejected": "yes"}, "use_rejected 'yes' is not a switch"),
    ]
    for negatives, options, words in cases:
        with pytest.raises(fp.PersamError, match=words) as caught:
            run(photos, "new", negatives=negatives, **options)
        assert "\n" not in str(caught.value)
    assert sorted(photos.get_field_schema()) == before and not fp.list_runs(photos)
    run(photos)
    for name, value in (("negatives", cat), ("use_rejected", 1.5)):
        with pytest.raises(fp.PersamError):
            curation.segment_again(photos, RUN, cat, "labels", **{name: value})
    assert read_record(photos, RUN).negatives == ()


@pytest.mark.parametrize(
    ("presence", "accepted", "cut"),
    [
        (0.99, None, True),
        (0.8, None, False),
        (0.8, 0.75, True),
        (0.8, 0.85, False),
        (0.8, 0.8, True),
    ],
)
def test_what_the_run_was_sure_of_is_the_object_badly_cut(
    presence: float, accepted: float | None, cut: bool
) -> None:
    assert is_badly_cut(presence, accepted) is cut


def test_a_badly_cut_mask_of_the_object_is_not_learnt_from(photos: fo.Dataset) -> None:
    alone = photos.one(fo.ViewField("shows") == "only_cat")
    made = run(photos.select([photos.first().id, alone.id]), use_rejected=True)
    alone.reload()
    assert alone[f"{RUN}_presence"] > 0.9
    curation.set_review(photos, RUN, "accepted", [made.ids()[0]])
    photos.set_values(f"{RUN}_presence", {photos.first().id: 0.6}, key_field="id")
    curation.set_review(photos, RUN, "rejected", [alone.id])
    again = curation.segment_again(photos, RUN, photos.first().id, "labels")
    assert again.record.negatives == () and not photos.has_field("mine_rejected")
