"""Features of another backbone to find objects by; small timm models with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from benchmarks.seeded import small_sam
from fiftyone_persam.errors import CheckpointError, PersamError
from fiftyone_persam.sam import (
    FEATURE_SOURCES,
    FeatureSource,
    PromptableSam,
    TimmFeatures,
    feature_source,
    load_sam,
)

PHOTO = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)


def tiny(model: str = "test_resnet", **given: Any) -> TimmFeatures:
    torch.manual_seed(0)
    return TimmFeatures(model, pretrained=False, **given)


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return PromptableSam(small_sam(96), "small", checkpoint_sha256="abc")


@pytest.mark.parametrize(
    ("model", "given", "dim"),
    [
        ("test_resnet", {}, 96),
        ("test_resnet", {"layer": -2}, 192),
        ("test_resnet", {"size": 64}, 96),
        ("test_vit", {}, 64),
    ],
)
def test_any_timm_model_gives_a_map_on_the_models_grid(
    sam: PromptableSam, model: str, given: dict[str, Any], dim: int
) -> None:
    source = tiny(model, **given)
    assert isinstance(source, FeatureSource) and source.dim == dim and source.parameters > 1000
    both = sam.with_features(source)
    (plain,), (embedding,) = sam.encode([PHOTO]), both.encode([PHOTO])
    assert embedding.matching is not None and embedding.to_match is embedding.matching
    assert embedding.matching.shape == (dim, sam.grid_size, sam.grid_size)
    assert both.matching_dim == dim and sam.matching_dim == sam.embed_dim
    assert plain.matching is None and plain.to_match is plain.features
    torch.testing.assert_close(embedding.features, plain.features)
    assert both.encoder_parameters == sam.encoder_parameters + source.parameters


def test_weights_come_from_a_file_where_there_is_no_connection(tmp_path: Path) -> None:
    """By timm's own loading: the names are the whole model's, with its classifier."""
    torch.manual_seed(7)
    whole = timm.create_model("test_resnet", pretrained=False)
    torch.save(whole.state_dict(), file := tmp_path / "weights.pth")
    source = TimmFeatures("test_resnet", pretrained=file)
    assert source.identity != tiny().identity
    resized = [np.full((32, 32, 3), 90, np.uint8), PHOTO[:32, :32]]
    found = source.features(resized, 32, 1)
    square = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    config = timm.data.resolve_model_data_config(whole)
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(found, whole.eval().forward_features((square - mean) / std))
    with pytest.raises(CheckpointError, match="weights of timm model 'test_resnet' cannot be read"):
        TimmFeatures("test_resnet", pretrained=tmp_path / "nowhere.pth")
    torch.save({"other": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match="does not hold the weights of timm model"):
        TimmFeatures("test_resnet", pretrained=file)


def test_photos_are_seen_as_timm_sees_them(sam: PromptableSam) -> None:
    """Against timm's own normalisation and model, called by hand."""
    source = tiny()
    net = timm.create_model("test_resnet", pretrained=False, features_only=True, out_indices=(-1,))
    net.load_state_dict(source._net.state_dict())
    config = timm.data.resolve_model_data_config(net)
    square = np.zeros((96, 96, 3), np.float32)
    resized, _ = sam.load_and_resize(PHOTO)
    height, width = resized.shape[:2]
    square[:height, :width] = (resized / 255 - config["mean"]) / config["std"]
    with torch.no_grad():
        (expected,) = net.eval()(torch.from_numpy(square).permute(2, 0, 1)[None])
    cells = torch.nn.functional.interpolate(
        expected, (sam.grid_size,) * 2, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(
        source.features([resized], 96, sam.grid_size), cells, atol=1e-4, rtol=1e-4
    )


def test_identities_tell_sources_apart(sam: PromptableSam) -> None:
    one, same = sam.with_features(tiny()), sam.with_features(tiny())
    assert one.encoder_identity == same.encoder_identity != sam.encoder_identity
    others = [tiny("test_vit"), tiny(layer=-2), tiny(size=64)]
    names = {sam.with_features(other).encoder_identity for other in others}
    assert len(names) == 3 and one.encoder_identity not in names
    torch.manual_seed(1)
    again = TimmFeatures("test_resnet", pretrained=False)
    assert sam.with_features(again).encoder_identity != one.encoder_identity
    assert sam.with_features(tiny()).with_features(None).encoder_identity == sam.encoder_identity


def test_another_process_gets_both_backbones(sam: PromptableSam) -> None:
    import pickle

    both = sam.with_features(tiny())
    again = pickle.loads(pickle.dumps(both.on("cpu")))
    assert again.encoder_identity == both.encoder_identity
    torch.testing.assert_close(again.encode([PHOTO])[0].matching, both.encode([PHOTO])[0].matching)
    moved = both.on("meta")
    assert moved.features is not None and moved.matching_dim == both.matching_dim


def test_sources_have_names(sam: PromptableSam) -> None:
    source = tiny()
    assert feature_source(None) is None and feature_source("decoder") is None
    assert feature_source(source) is source
    FEATURE_SOURCES.register(lambda rest: tiny(rest), name="untrained")
    try:
        named = load_sam(sam, features="untrained/test_vit")
        assert named.features is not None and named.matching_dim == 64
    finally:
        FEATURE_SOURCES.unregister("untrained")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("resnet18", "feature source 'resnet18' is not known: choose one of timm"),
        ("timm/", "timm has no model '': choose"),
        ("timm/resnet1", "timm has no model 'resnet1': .*did you mean 'resnet18'"),
        (3, "features 3 is not a source of features: "),
        (TimmFeatures, "is not a source of features: "),
    ],
)
def test_sources_that_are_not_there(given: Any, says: str) -> None:
    with pytest.raises(PersamError, match=says) as caught:
        feature_source(given)
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="the weights of timm model 'test_vit' cannot be"):
        TimmFeatures("test_vit")
