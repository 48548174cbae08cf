"""Models by name, with small ones of the same kind where the real ones need a download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from segment_anything.modeling import Sam

from benchmarks.seeded import small_sam
from fiftyone_persam.errors import CheckpointError, PersamError
from fiftyone_persam.sam import PromptableSam, list_models, load_sam, registry
from fiftyone_persam.sam.checkpoints import Checkpoint
from tests.sam.test_tiny_vit import published_layout

NAMES = [
    *("sam_lite", "mobile_sam", "sam_vit_b", "sam_vit_l", "sam_vit_h"),
    *("evf_sam", "evf_sam_multitask"),
]
# As many independent public records have them.
PUBLISHED = {
    "sam_vit_h": (
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    "sam_vit_l": (
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam_vit_b": (375_042_383, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
    "mobile_sam": (40_728_226, "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"),
}

Publish = Callable[..., Checkpoint]


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIFTYONE_MODEL_ZOO_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def publish(zoo: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put a file of weights into the zoo as the published one of a name."""

    def put(name: str, state: Any, builder: Callable[[], Sam] | None = None) -> Checkpoint:
        old = registry.CHECKPOINTS[name]
        torch.save(state, zoo / old.file)
        content = (zoo / old.file).read_bytes()
        new = Checkpoint(old.file, old.url, len(content), hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(registry.CHECKPOINTS, name, new)
        if builder is not None:
            monkeypatch.setitem(registry._VITS, name, builder)
        return new

    return put


def test_the_list(zoo: Path) -> None:
    models = {model.name: model for model in list_models()}
    assert list(models) == NAMES
    for name, (size, sha256) in PUBLISHED.items():
        model = models[name]
        assert (model.bytes, model.image_size) == (size, 1024)
        assert model.source.startswith("https://")
        assert model.path.parent == zoo and not model.available
        assert registry.CHECKPOINTS[name].sha256 == sha256
    lite = models["sam_lite"]
    assert lite.source == "bundled" and lite.available and 0 < lite.bytes < 25e6
    assert all(model.description for model in models.values())


def test_a_truncated_file_is_not_available(zoo: Path) -> None:
    (zoo / "sam_vit_b_01ec64.pth").write_bytes(b"half")
    assert not next(m for m in list_models() if m.name == "sam_vit_b").available


def test_fiftyones_own_zoo_has_the_same_files() -> None:
    import fiftyone.zoo as foz

    for name in ("sam_vit_b", "sam_vit_l", "sam_vit_h"):
        model = foz.get_zoo_model(f"segment-anything-{name[4:].replace('_', '')}-torch")
        assert model.base_filename == registry.CHECKPOINTS[name].file


@pytest.mark.parametrize("name", ["sam_vit_b", "sam_vit_l", "sam_vit_h"])
def test_a_vit_by_name(publish: Publish, name: str) -> None:
    own = small_sam(192)
    new = publish(name, own.state_dict(), lambda: small_sam(256))
    with pytest.raises(CheckpointError, match="another model"):
        load_sam(name, device="cpu")
    new = publish(name, own.state_dict(), lambda: _emptied(192))
    model = load_sam(name, device="cpu", download=False)
    assert (model.name, model.checkpoint_sha256) == (name, new.sha256)
    assert model.image_size == 192 and not model.sam.training
    for key, value in own.state_dict().items():
        assert torch.equal(model.sam.state_dict()[key], value)


def _emptied(size: int) -> Sam:
    sam = small_sam(size)
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.zero_()
    return sam


def test_the_builders_are_segment_anythings() -> None:
    from segment_anything import sam_model_registry

    for name, builder in registry._VITS.items():
        assert sam_model_registry[name[4:]] is builder


def test_mobile_sam_by_name(publish: Publish) -> None:
    new = publish("mobile_sam", published_layout())
    model = load_sam("mobile_sam", device="cpu")
    assert (model.name, model.image_size, model.grid_size) == ("mobile_sam", 1024, 64)
    assert model.checkpoint_sha256 == new.sha256
    assert next(m for m in list_models() if m.name == "mobile_sam").available


def test_the_bundled_model_by_name() -> None:
    model = load_sam(device="cpu")
    assert model.name == "sam_lite" and model.dtype == torch.float32
    assert model.checkpoint_sha256 is not None and len(model.checkpoint_sha256) == 64
    assert model.grid_size * 16 == model.image_size


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_missing_checkpoint_says_where_to_get_it(zoo: Path, name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_sam(name, device="cpu", download=False)
    message = str(caught.value)
    assert "\n" not in message and registry.CHECKPOINTS[name].url in message
    assert str(zoo) in message and f"{PUBLISHED[name][0]:,}" in message


@pytest.mark.parametrize("name", list(PUBLISHED))
@pytest.mark.parametrize("content", [b"", b"x" * 1000])
def test_a_truncated_checkpoint_is_refused_and_kept(zoo: Path, name: str, content: bytes) -> None:
    path = zoo / registry.CHECKPOINTS[name].file
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="instead of"):
        load_sam(name, device="cpu")
    assert path.read_bytes() == content


def test_a_sam_of_ones_own() -> None:
    own = small_sam(192)
    model = load_sam(own)
    assert (model.name, model.checkpoint_sha256) == ("custom", None)
    assert model.sam is own and model.device == torch.device("cpu")
    assert load_sam(model) is model
    half = load_sam(own, dtype="bfloat16")
    assert half.dtype == torch.bfloat16 and half.sam is not own
    assert isinstance(half, PromptableSam)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name_or_module": "sam_vit_x"}, "sam_vit_x"),
        ({"name_or_module": ""}, "not known"),
        ({"name_or_module": None}, "not known"),
        ({"name_or_module": torch.nn.Linear(1, 1)}, "not known"),
        ({"device": "tpu9"}, "device"),
        ({"device": "xpu"}, "'xpu' is not known: use cuda, mps, cpu or auto"),
        ({"device": "vulkan"}, "is not known"),
        ({"device": "cuda:99"}, "device"),
        ({"device": ""}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"dtype": torch.float64}, "dtype"),
        ({"dtype": None}, "dtype"),
    ],
)
def test_bad_arguments(given: dict[str, Any], says: str) -> None:
    with pytest.raises(PersamError) as caught:
        load_sam(**{"device": "cpu", **given})
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "device", "expected"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.float16),
        ("auto", "mps", torch.float32),
        ("float16", "cpu", torch.float16),
        (torch.bfloat16, "cpu", torch.bfloat16),
    ],
)
def test_dtypes(dtype: Any, device: str, expected: torch.dtype) -> None:
    assert registry.resolve_dtype(dtype, torch.device(device)) == expected


def test_devices() -> None:
    assert registry.resolve_device("cpu") == torch.device("cpu")
    best = registry.resolve_device("auto")
    assert best.type == ("cuda" if torch.cuda.is_available() else best.type)
    assert best.type in ("cuda", "mps", "cpu")
