"""One damaged label costs its own photo, whatever is done with all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation

from .discs import SIZE, Make, make_photos, tiny_sam

NAN, INF = float("nan"), float("inf")
BOX = (0.1, 0.1, 0.5, 0.5)
PHOTOS = 4


def boxed(*box: float, mask: Any = None) -> fo.Detections:
    return fo.Detections(detections=[fo.Detection(label="disc", bounding_box=box, mask=mask)])


# Run -> what is wrong with a label of it -> the label, and words of the message.
FAULTS: dict[tuple[str, str], tuple[Any, str]] = {
    ("boxes", "nan"): (boxed(NAN, 0.1, 0.2, 0.2), "NaN or infinity"),
    ("boxes", "inf"): (boxed(0.1, 0.1, INF, 0.2, mask=np.ones((9, 9), bool)), "NaN or infinity"),
    ("boxes", "pixels"): (boxed(10, 20, 3e6, 4e6), "far outside of its photo"),
    ("boxes", "empty"): (boxed(*BOX, mask=np.zeros((0, 0), bool)), r"shape \(0, 0\)"),
    ("boxes", "line"): (boxed(*BOX, mask=np.ones(9, bool)), r"shape \(9,\)"),
    ("boxes", "layers"): (boxed(*BOX, mask=np.ones((9, 9, 5), bool)), r"shape \(9, 9, 5\)"),
    ("masks", "empty"): (fo.Segmentation(mask=np.zeros((0, 0), np.uint8)), r"shape \(0, 0\)"),
    ("masks", "line"): (fo.Segmentation(mask=np.ones(9, np.uint8)), r"shape \(9,\)"),
    ("masks", "another photo's"): (fo.Segmentation(mask=np.ones((48, 9), np.uint8)), "9"),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Runs of both kinds, all accepted; the labels are in the database."""
    made = fo.Dataset()
    made.add_samples(make_photos(tmp_path_factory.mktemp("photos"), PHOTOS))
    for name, kind in (("boxes", "detections"), ("masks", "segmentation")):
        options = {"label_type": kind, "mask_storage": "inline", "presence_threshold": 0}
        fp.segment(made, made.first(), method="persam", model=tiny_sam(), out_field=name, **options)
        curation.set_review(made, name, "accepted")
    yield made
    made.delete()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: "-".join(one))
def test_a_damaged_label(
    original: fo.Dataset, dataset: Make, tmp_path: Path, fault: tuple[str, str]
) -> None:
    photos, run, (label, words) = dataset(original.clone()), fault[0], FAULTS[fault]
    bad = photos.skip(2).first()
    bad[run] = label
    bad.save()
    name = Path(bad.filepath).name
    pattern = rf"{name}.*{words}"
    other = "masks" if run == "boxes" else "boxes"

    for given in ((run, "ground_truth"), ("ground_truth", run)):
        results = fp.evaluate(photos, *given, include_references=True)
        assert list(results.skipped) == [bad.id] and results.scores.photos == PHOTOS - 1
        assert [*_matching(results.skipped.values(), pattern)]
    assert list(curation.compare_runs(photos, run, other).skipped) == [bad.id]
    ids = fp.suggest_reference(photos, run).ids
    assert len(ids) == PHOTOS - 1 and bad.id not in ids
    for format in ("coco", "masks", "perseg"):
        done = curation.export_masks(photos, run, tmp_path / format, format=format)
        assert done == PHOTOS - 1 and [*_matching(done.left_out, pattern)]
        files = {path.name for path in (tmp_path / format).rglob("*") if path.is_file()}
        assert not [one for one in files if one.startswith(".") and not one.startswith(".fifty")]
    promotion = curation.promote(photos, run, "labels")
    if words == "9":  # to be promoted it is a mask like any other
        assert len(promotion.promoted) == PHOTOS
    else:
        assert list(promotion.left_out) == [bad.id] and name in str(promotion)
        assert set(photos.exists("labels").values("id")) == set(promotion.promoted)
        assert len(promotion.promoted) == PHOTOS - 1
    with pytest.raises(fp.BadReferenceError, match=pattern) as caught:
        fp.segment(photos, bad, run, model=tiny_sam(), out_field="again")
    assert "\n" not in str(caught.value) and not photos.has_field("again")


def test_nothing_but_damaged_labels(original: fo.Dataset, dataset: Make, tmp_path: Path) -> None:
    photos = dataset(original.clone())
    photos.set_values("boxes", [boxed(NAN, 0.1, 0.2, 0.2) for _ in range(PHOTOS)])
    with pytest.raises(fp.PersamError, match=r"no mask can be promoted, the first: .*NaN"):
        curation.promote(photos, "boxes", "labels")
    for format in ("coco", "masks", "perseg"):
        with pytest.raises(fp.PersamError, match=r"no photo can be exported, the first: .*NaN"):
            curation.export_masks(photos, "boxes", tmp_path / format, format=format)
    assert not photos.has_field("labels") and list(tmp_path.iterdir()) == []


def test_a_mask_of_one_layer_is_a_mask(original: fo.Dataset, dataset: Make, tmp_path: Path) -> None:
    """(H, W, 1) is what some writers make of (H, W)."""
    photos = dataset(original.clone())
    before = fp.evaluate(photos, "masks", include_references=True)
    flat = [sample["masks"].mask for sample in photos]
    photos.set_values("masks", [fo.Segmentation(mask=one[:, :, None]) for one in flat])
    results = fp.evaluate(photos, "masks", include_references=True)
    assert results.scores == before.scores and results.skipped == {}
    done = curation.export_masks(photos, "masks", tmp_path / "out", format="masks")
    assert done == PHOTOS and flat[0].shape == SIZE


def _matching(texts: Any, pattern: str) -> Iterator[str]:
    return (text for text in texts if re.search(pattern, text))
