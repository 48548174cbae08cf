"""One bad label costs its own photo, not the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.errors import PersamError

from ..discs import Make, make_photos, state_of

NAN, INF = float("nan"), float("inf")


def boxed(*box: float) -> fo.Detections:
    return fo.Detections(detections=[fo.Detection(label="disc", bounding_box=list(box))])


FAULTS: dict[str, Any] = {
    "nan": boxed(NAN, 0.1, 0.2, 0.2),
    "inf": boxed(0.1, 0.1, INF, 0.2),
    "pixels": boxed(10, 20, 3_000_000, 4_000_000),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_photo_with_a_bad_label_is_left_out_and_named(
    dataset: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    photos = dataset(make_photos(tmp_path, 4))
    photos.add_sample_field("boxes", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    labels = [boxed(0.2, 0.2, 0.4, 0.4) for _ in range(4)]
    labels[2] = FAULTS[fault]
    photos.set_values("boxes", labels)
    bad = photos.skip(2).first()

    before = state_of(photos)["dataset"]
    with pytest.raises(PersamError, match=Path(bad.filepath).name):
        fp.evaluate(photos, "boxes", eval_key="e", on_error="raise", include_references=True)
    assert state_of(photos)["dataset"] == before

    results = fp.evaluate(photos, "boxes", eval_key="e", include_references=True)
    assert list(results.skipped) == [bad.id] and Path(bad.filepath).name in results.skipped[bad.id]
    assert results.scores.photos == 3
    assert [value is None for value in photos.values("e_iou")] == [False, False, True, False]
    others = fp.evaluate(photos.exclude(bad.id), "boxes", include_references=True)
    assert results.scores.miou == others.scores.miou and others.skipped == {}
    results.print_report()
    assert "left out: 1 photos, the first: " in capsys.readouterr().out
    loaded = photos.load_evaluation_results("e", cache=False)
    assert loaded.skipped == results.skipped


def test_no_photo_that_can_be_compared(dataset: Make, tmp_path: Path) -> None:
    photos = dataset(make_photos(tmp_path, 3))
    small = fo.Segmentation(mask=np.ones((48, 20), np.uint8))
    photos.add_sample_field("p", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
    photos.set_values("p", [small.copy() for _ in range(3)])
    with pytest.raises(PersamError, match="none of 2 photos can be compared, the first: "):
        fp.evaluate(photos, "p", eval_key="e")
    assert not photos.has_evaluation("e")
