"""Another backbone finds the object: recorded, cached beside the model's own, resumed, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest
import torch

import fiftyone_persam as fp
from fiftyone_persam.errors import PersamError, RunConflictError
from fiftyone_persam.sam import FEATURE_SOURCES, TimmFeatures
from tests.curation.discs import Make, make_photos, tiny_sam


def untrained(model: str) -> TimmFeatures:
    torch.manual_seed(0)
    return TimmFeatures(model, pretrained=False)


@pytest.fixture(autouse=True)
def source() -> Iterator[None]:
    FEATURE_SOURCES.register(untrained, name="untrained")
    yield
    FEATURE_SOURCES.unregister("untrained")


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 3))


def segment(photos: fo.Dataset, name: str, **given: object) -> fp.curation.Run:
    settings = {"method": "persam", "model": tiny_sam(), "out_field": name, "similarity": True}
    return fp.segment(photos, photos.first(), **{**settings, **given})  # type: ignore[arg-type]


def test_segment_with_another_backbone(photos: fo.Dataset, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    plain = segment(photos, "plain", cache=cache)
    kept = len(list(cache.rglob("*.safetensors")))
    run = segment(photos, "other", features="untrained/test_resnet", cache=cache)
    # the three photos and the smaller look at the reference, keyed by both networks
    assert kept == 4 and len(list(cache.rglob("*.safetensors"))) == 8
    assert run.record.parameters.features == "untrained/test_resnet"
    assert plain.record.parameters.features is None
    assert run.record.weights_sha256 != plain.record.weights_sha256
    photos.reload()
    maps = [[sample[f"{name}_similarity"].map for sample in photos] for name in ("plain", "other")]
    assert any((a != b).any() for a, b in zip(*maps, strict=True))

    photos.first().set_field("other", None)
    sample = photos.last()
    sample["other"] = None
    sample.save()
    again = fp.resume_run(photos, "other", model=tiny_sam(), cache=cache)
    assert again.counts["segmented"] == 3 and again.errors == {}
    assert again.record.weights_sha256 == run.record.weights_sha256


def test_a_run_does_not_go_on_with_another_backbone(photos: fo.Dataset) -> None:
    own = fp.load_sam(tiny_sam(), features="untrained/test_resnet")
    segment(photos, "mine", model=own)
    sample = photos.last()
    sample["mine"] = None
    sample.save()
    other = fp.load_sam(tiny_sam(), features="untrained/test_vit")
    with pytest.raises(RunConflictError, match="has other weights than the run began with"):
        fp.resume_run(photos, "mine", model=other)
    assert fp.resume_run(photos, "mine", model=own).counts["segmented"] == 3


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ("timm/resnet1", "timm has no model 'resnet1': "),
        ("resnet18", "feature source 'resnet18' is not known: "),
        (7, "features 7 is not a source of features: "),
    ],
)
def test_sources_that_are_not_there(photos: fo.Dataset, features: object, says: str) -> None:
    with pytest.raises(PersamError, match=says) as caught:
        segment(photos, "mine", features=features)
    assert "\n" not in str(caught.value)
    assert photos.list_runs() == [] and not photos.has_field("mine")
