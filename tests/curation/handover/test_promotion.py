from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_persam.curation.handover.promotion import promote
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.errors import PersamError, RunConflictError

from ..reviewed_run import RUN, add_run, ids_of, photos_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    album = reviewed_run(dataset, tmp_path)
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    set_review(album, RUN, "rejected", ids_of(album, "low_score"))
    return album


def test_only_accepted_masks_are_promoted_with_their_provenance(album):
    promotion = promote(album, RUN, "labels")
    assert set(promotion.promoted) == set(ids_of(album, "sure", "good"))
    assert set(photos_of(album.exists("labels"))) == {"sure", "good"}
    label = album[ids_of(album, "sure")[0]]["labels"]
    assert label.persam_run == RUN
    assert label.persam_score == pytest.approx(0.95)
    assert label.persam_presence == pytest.approx(0.90)
    assert label.persam_review == "accepted"


def test_all_slices_of_a_grouped_dataset(dataset, tmp_path):
    album = reviewed_run(dataset, tmp_path, grouped=True)
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))  # left and right
    make_editable(album, RUN)
    promote(album, RUN, "labels", kind="detections")
    both = album.select_group_slices(media_type="image")
    assert photos_of(both.exists("labels")) == ["sure", "good"]
    assert len(both.exists("mine_edit")) == 5


def test_promoted_masks_outlive_the_run_s_files(album):
    promote(album, RUN, "labels")
    sample = album[ids_of(album, "sure")[0]]
    expected = sample[RUN].get_mask()
    Path(sample[RUN].mask_path).unlink()
    assert np.array_equal(sample["labels"].get_mask(), expected)


def test_masks_as_detections(album):
    promote(album, RUN, "objects", kind="detections", label="cup")
    sample = album[ids_of(album, "good")[0]]
    (found,) = sample["objects"].detections
    assert (found.label, found.persam_run) == ("cup", RUN)
    expected = sample[RUN].get_mask() > 0
    full = sample["objects"].to_segmentation(frame_size=(60, 40)).mask > 0
    assert np.array_equal(full, expected)


def test_labels_that_are_there_are_kept_unless_told_otherwise(album):
    truth = dict(zip(*album.values(["id", "ground_truth.id"]), strict=True))
    kept = promote(album, RUN, "ground_truth")
    assert (len(kept.promoted), len(kept.kept)) == (0, 2)
    assert dict(zip(*album.values(["id", "ground_truth.id"]), strict=True)) == truth
    assert "overwrite" in str(kept)
    assert len(promote(album, RUN, "ground_truth", overwrite=True).promoted) == 2


def test_promoting_again_adds_nothing_twice(album):
    promote(album, RUN, "objects", kind="detections")
    promote(album, RUN, "objects", kind="detections")
    assert album.count("objects.detections") == 2
    promote(album, RUN, "labels")
    assert len(promote(album, RUN, "labels").kept) == 2
    assert len(promote(album, RUN, "labels", overwrite=True).promoted) == 2
    promote(album, RUN, "objects", overwrite=True)
    assert album.count("objects.detections") == 2


def test_a_promoted_label_that_was_renamed_stays(album):
    promote(album, RUN, "objects", kind="detections")
    (sure,) = ids_of(album, "sure")
    sample = album[sure]
    sample["objects"].detections[0].label = "EDITED"
    sample.save()
    set_review(album, RUN, "accepted", ids_of(album, "low_presence"))
    promotion = promote(album, RUN, "objects")
    assert promotion.promoted == ids_of(album, "low_presence")
    assert set(promotion.kept) == set(ids_of(album, "sure", "good"))
    assert album[sure]["objects"].detections[0].label == "EDITED"
    promote(album, RUN, "objects", overwrite=True)
    assert album[sure]["objects"].detections[0].label == "object"


@pytest.mark.parametrize("kind", ["segmentation", "detections"])
@pytest.mark.parametrize("decision", ["rejected", None])
def test_labels_of_withdrawn_decisions_go(album, tmp_path, kind, decision):
    sure, good, low = ids_of(album, "sure", "good", "low_score")
    promote(album, RUN, "labels", kind=kind)
    add_run(album, tmp_path, "second", shift=-5)
    set_review(album, "second", "accepted", [sure, low])
    promote(album, "second", "labels")  # joins the detections; a segmentation is kept
    set_review(album, RUN, decision, [sure])
    promotion = promote(album, RUN, "labels")
    assert (promotion.withdrawn, promotion.kept) == ([sure], [good])
    assert "1 withdrawn" in str(promotion)
    album.reload()
    if kind == "detections":
        assert [d.persam_run for d in album[sure]["labels"].detections] == ["second"]
    else:
        assert album[sure]["labels"] is None
    assert album[good]["labels"] is not None and album[low]["labels"] is not None
    # The last one too: nothing is accepted any more.
    set_review(album, RUN, decision, [good])
    assert promote(album, RUN, "labels").withdrawn == [good]


def test_other_states_and_labels_of_others_are_not_withdrawn(album):
    promote(album, RUN, "labels")
    promotion = promote(album, RUN, "labels", states=["todo"])
    assert promotion.withdrawn == [] and len(album.exists("labels")) == 3
    set_review(album, RUN, "rejected")
    assert promote(album, RUN, "ground_truth").withdrawn == []
    assert len(album.exists("ground_truth")) == 7


@pytest.mark.parametrize(
    ("targets", "label", "value", "after"),
    [
        ({1: "dog"}, "dog", 1, {1: "dog"}),
        ({1: "dog"}, "cup", 255, {1: "dog", 255: "cup"}),
        ({1: "dog", 255: "sky"}, "cup", 254, {1: "dog", 255: "sky", 254: "cup"}),
    ],
)
def test_masks_have_the_field_s_own_value(album, targets, label, value, after):
    album.add_sample_field("animals", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
    album.mask_targets["animals"] = targets
    album.save()
    promote(album, RUN, "animals", label=label)
    sample = album[ids_of(album, "sure")[0]]
    mask = sample["animals"].get_mask()
    assert set(np.unique(mask)) == {0, value}
    assert np.array_equal(mask > 0, sample[RUN].get_mask() > 0)
    album.reload()
    assert album.mask_targets["animals"] == after


def test_masks_of_colours_are_not_mixed_with_values(album):
    album.add_sample_field("animals", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
    album.mask_targets["animals"] = {"#ff0000": "dog"}
    album.save()
    with pytest.raises(PersamError, match="masks of colours"):
        promote(album, RUN, "animals")


def test_two_runs_share_a_field_of_detections(album, tmp_path):
    add_run(album, tmp_path, "second", shift=-5)
    set_review(album, "second", "accepted", ids_of(album, "sure"))
    promote(album, RUN, "objects", kind="detections")
    promote(album, "second", "objects")
    runs = album[ids_of(album, "sure")[0]]["objects"].detections
    assert [d.persam_run for d in runs] == [RUN, "second"]


def test_a_mask_corrected_by_hand_is_the_one_promoted(album):
    (sure,) = ids_of(album, "sure")
    corrected = np.zeros((40, 60), bool)
    corrected[5:15, 5:25] = True
    sample = album[sure]
    sample["mine_edit"] = fo.Detections(detections=[fo.Detection.from_mask(corrected, label="x")])
    sample.save()
    promote(album, RUN, "labels")
    assert np.array_equal(album[sure]["labels"].get_mask() > 0, corrected)


def test_instances_corrected_in_place_are_the_ones_promoted(album, tmp_path):
    add_run(album, tmp_path, "second", label_type="both")
    (sure,) = ids_of(album, "sure")
    corrected = np.zeros((40, 60), bool)
    corrected[5:15, 5:25] = True
    sample = album[sure]
    sample["second_instances"] = fo.Detections(
        detections=[fo.Detection.from_mask(corrected, label="x")]
    )
    sample.save()
    set_review(album, "second", "accepted", [sure])
    promote(album, "second", "labels")
    assert np.array_equal(album[sure]["labels"].get_mask() > 0, corrected)


def test_nothing_accepted_promotes_nothing(album):
    set_review(album, RUN, None)
    assert promote(album, RUN, "labels").promoted == []
    assert not album.has_field("labels")


@pytest.mark.parametrize(
    ("run", "field", "options", "error", "names"),
    [
        ("other", "labels", {}, PersamError, "'other'"),
        (RUN, RUN, {}, RunConflictError, "belongs to the run"),
        (RUN, "photo", {}, PersamError, "StringField"),
        (RUN, "ground_truth", {"kind": "detections"}, PersamError, "Segmentation"),
        (RUN, "labels", {"kind": "boxes"}, PersamError, "'boxes'"),
    ],
)
def test_bad_calls_are_refused_before_anything_is_written(album, run, field, options, error, names):
    fields = set(album.get_field_schema())
    with pytest.raises(error, match=names) as raised:
        promote(album, run, field, **options)
    assert "\n" not in str(raised.value)
    assert set(album.get_field_schema()) == fields
