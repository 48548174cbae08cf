from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, add_run, ids_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path)


def test_masks_are_copied_as_detections_the_app_can_edit(album):
    field = make_editable(album, RUN, label="cup")
    assert field == "mine_edit"
    assert field in album.active_label_schemas
    sample = album[ids_of(album, "sure")[0]]
    (found,) = sample[field].detections
    assert found.label == "cup"
    full = sample[field].to_segmentation(frame_size=(60, 40)).mask > 0
    assert np.array_equal(full, sample[RUN].get_mask() > 0)


def test_corrections_are_not_overwritten(album):
    (sure,) = ids_of(album, "sure")
    make_editable(album, RUN, ids=[sure])
    sample = album[sure]
    sample["mine_edit"].detections[0].label = "corrected"
    sample.save()
    make_editable(album, RUN)
    assert album[sure]["mine_edit"].detections[0].label == "corrected"
    assert album.count("mine_edit.detections") == 5


@pytest.mark.parametrize(
    ("label_type", "field"), [("detections", "second"), ("both", "second_instances")]
)
def test_instances_are_edited_in_place(album, tmp_path, label_type, field):
    add_run(album, tmp_path, "second", label_type=label_type)
    assert make_editable(album, "second") == field
    assert field in album.active_label_schemas
    assert not album.has_field("second_edit")


def test_unknown_run(album):
    with pytest.raises(PersamError, match="'other'"):
        make_editable(album, "other")
    assert not album.has_field("other_edit")
