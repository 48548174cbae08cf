"""The models that can be named, and how each is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from segment_anything.build_sam import build_sam_vit_b, build_sam_vit_h, build_sam_vit_l
from segment_anything.modeling import Sam

from ..errors import CheckpointError, PersamError
from ..registry import Registry
from . import checkpoints
from .checkpoints import Checkpoint
from .features import feature_source
from .model import PromptableSam
from .promptable import Promptable

BUNDLED = "sam_lite"
BUNDLED_PATH = Path(__file__).parent / "weights" / "sam_lite.safetensors"

_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_MOBILE = "https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/"

CHECKPOINTS: dict[str, Checkpoint] = {
    "mobile_sam": Checkpoint(
        "mobile_sam.pt",
        _MOBILE + "mobile_sam.pt",
        40_728_226,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
    ),
    "sam_vit_b": Checkpoint(
        "sam_vit_b_01ec64.pth",
        _META + "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "sam_vit_l": Checkpoint(
        "sam_vit_l_0b3195.pth",
        _META + "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam_vit_h": Checkpoint(
        "sam_vit_h_4b8939.pth",
        _META + "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


@dataclass(frozen=True)
class ModelInfo:
    """One model that `load_sam` knows.

    Attributes:
        name: what to pass to `load_sam`.
        bytes: size of its checkpoint; 0 if it is not there and its size is not known.
        image_size: side of its square input in pixels.
        source: address of the checkpoint, or "bundled".
        path: where the checkpoint is, or will be, on this machine.
        available: whether it is there (checked by size; `load_sam` checks the hash).
        description: one line.
        author: of the weights.
        license: of the weights.
        text: whether it takes phrases as prompts.
    """

    name: str
    bytes: int
    image_size: int
    source: str
    path: Path
    available: bool
    description: str
    author: str = ""
    license: str = ""
    text: bool = False


class ModelEntry(Protocol):
    """A model that can be named: what `MODELS` holds.

    Attributes:
        name: what to pass to `load_sam`.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def info(self) -> ModelInfo:
        """What `list_models` says of it."""
        ...

    def provide(self, download: bool) -> Path:
        """The checked file of its weights, fetched first if it is missing and may be fetched.

        Raises:
            CheckpointError: it is missing, damaged, or cannot be fetched.
        """
        ...

    def load(self, device: torch.device, dtype: torch.dtype, download: bool) -> Promptable:
        """Build it with its weights."""
        ...


@dataclass(frozen=True)
class PublishedSam:
    """A ``Sam`` whose weights are a published file in FiftyOne's model zoo folder.

    Attributes:
        name: what to pass to `load_sam`; also the key of its file in `CHECKPOINTS`.
        description: one line.
        build: makes the model with its weights from the checked file.
        image_size: side of its square input in pixels.
        author: of the weights.
        license: of the weights.
    """

    name: str
    description: str
    build: Callable[[str, Path], Sam]
    image_size: int = 1024
    author: str = "Alexander Kirillov et al."
    license: str = "Apache-2.0"

    def info(self) -> ModelInfo:
        """See `ModelEntry.info`."""
        file = CHECKPOINTS[self.name]
        return ModelInfo(
            self.name,
            file.bytes,
            self.image_size,
            file.url,
            file.path,
            file.seems_whole(),
            self.description,
            self.author,
            self.license,
        )

    def provide(self, download: bool) -> Path:
        """See `ModelEntry.provide`."""
        return checkpoints.ensure(CHECKPOINTS[self.name], download)

    def load(self, device: torch.device, dtype: torch.dtype, download: bool) -> Promptable:
        """See `ModelEntry.load`."""
        sam = self.build(self.name, self.provide(download)).requires_grad_(False)
        return PromptableSam(sam, self.name, device, dtype, CHECKPOINTS[self.name].sha256)


class BundledSam:
    """The model that comes with the package."""

    name = BUNDLED

    def info(self) -> ModelInfo:
        """See `ModelEntry.info`."""
        here = BUNDLED_PATH.is_file()
        return ModelInfo(
            BUNDLED,
            BUNDLED_PATH.stat().st_size if here else 0,
            _bundled_image_size() if here else 512,
            "bundled",
            BUNDLED_PATH,
            here,
            "comes with the package; for first tries, laptops and closed networks",
            "fiftyone-persam contributors",
            "Apache-2.0",
        )

    def provide(self, download: bool) -> Path:
        """See `ModelEntry.provide`."""
        if not BUNDLED_PATH.is_file():
            raise CheckpointError(
                f"checkpoint {BUNDLED_PATH} is missing from the installed package: install it again"
            )
        return BUNDLED_PATH

    def load(self, device: torch.device, dtype: torch.dtype, download: bool) -> Promptable:
        """See `ModelEntry.load`."""
        path = self.provide(download)
        sam = _build_bundled(path).requires_grad_(False)
        return PromptableSam(sam, BUNDLED, device, dtype, checkpoints.sha256_of(path))


def list_models() -> list[ModelInfo]:
    """The models that can be named, lightest first, then those of other packages."""
    return [entry.info() for entry in MODELS.values()]


def load_sam(
    name_or_module: str | Sam = BUNDLED,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    download: bool = True,
    features: Any = None,
) -> PromptableSam:
    """Load a promptable model.

    Args:
        name_or_module: a name from `list_models`, a ``segment_anything.modeling.Sam`` with weights
            of your own (it is not changed), or a `Promptable`, which is returned as it is.
        device: "cuda", "mps", "cpu", ...; "auto" takes the best one there is, and for a module
            of your own the one it is on.
        dtype: of encoder and decoder: "float32", "bfloat16", "float16" or a torch dtype; "auto"
            is float16 on CUDA and float32 elsewhere.
        download: fetch a missing checkpoint into FiftyOne's model zoo folder.
        features: what objects are found by (paper, section 3.2): the model's own embedding if
            None, "timm/<model>" for that timm model's last features, or a `FeatureSource`.

    Raises:
        PersamError: an unknown name, device, dtype or source of features.
        CheckpointError: the checkpoint is missing, truncated, foreign, or cannot be fetched.
    """
    source = feature_source(features)
    model = _load(name_or_module, device, dtype, download)
    if source is None:
        return model
    if not isinstance(model, PromptableSam):
        raise PersamError(
            f"model {model.name} takes no other source of features: leave features out"
        )
    return model.with_features(source)


def _load(given: Any, device: Any, dtype: Any, download: bool) -> PromptableSam:
    if isinstance(given, Sam):
        own = given.pixel_mean.device
        target = own if device == "auto" else resolve_device(device)
        return PromptableSam(given, "custom", target, resolve_dtype(dtype, target))
    if isinstance(given, Promptable) and not isinstance(given, type):
        return cast(PromptableSam, given)
    MODELS.check(given)
    target = resolve_device(device)
    loaded = MODELS[given].load(target, resolve_dtype(dtype, target), download)
    return cast(PromptableSam, loaded)


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """A device that is there; "auto" prefers CUDA, then MPS, then the CPU."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise PersamError(f"device {device!r} is not known: use cuda, mps, cpu or auto") from None
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if chosen.type == "meta":
        raise PersamError("device 'meta' computes nothing: use device='auto' or 'cpu'")
    if chosen.type not in there:
        raise PersamError(f"device {device!r} is not known: use cuda, mps, cpu or auto")
    if not there[chosen.type] or (
        chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()
    ):
        raise PersamError(f"device {str(chosen)!r} is not there: use device='auto' or 'cpu'")
    if chosen.type == "cuda" and chosen.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return chosen


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of encoder and decoder; "auto" is float16 on CUDA and float32 elsewhere."""
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    chosen = kinds.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in kinds.values():
        raise PersamError(f"dtype {dtype!r} is not known: use {', '.join(kinds)} or auto")
    return chosen


def _build_bundled(path: Path) -> Sam:
    from safetensors.torch import load_file

    from .lite import build_sam_lite

    sam = build_sam_lite(_bundled_image_size())
    try:
        state = {key: value.float() for key, value in load_file(path).items()}
    except Exception as error:  # safetensors raises its own type, which is not public
        raise CheckpointError(
            f"checkpoint {path} is damaged ({error}): install the package again"
        ) from None
    checkpoints.load_weights(sam, state, path)
    # Depthwise convolutions are faster with the channels last, on the CPU as on a GPU.
    sam.image_encoder.to(memory_format=torch.channels_last)
    return sam


def _bundled_image_size() -> int:
    from safetensors import safe_open

    try:
        with safe_open(BUNDLED_PATH, framework="pt") as file:
            return int((file.metadata() or {}).get("image_size", 512))
    except Exception:  # a damaged file is reported when it is loaded
        return 512


def _build_mobile(name: str, path: Path) -> Sam:
    from .tiny_vit import build_mobile_sam, map_mobile_sam_names

    sam = build_mobile_sam()
    checkpoints.load_weights(sam, map_mobile_sam_names(checkpoints.read_weights(path)), path)
    return sam


def _build_vit(name: str, path: Path) -> Sam:
    sam = _VITS[name]()
    checkpoints.load_weights(sam, checkpoints.read_weights(path), path)
    return sam


_VITS: dict[str, Callable[[], Sam]] = {
    "sam_vit_b": build_sam_vit_b,
    "sam_vit_l": build_sam_vit_l,
    "sam_vit_h": build_sam_vit_h,
}

MODELS: Registry[ModelEntry] = Registry(
    "model",
    required=("name", "info", "provide", "load"),
    otherwise="pass a segment_anything.modeling.Sam",
)
"""The models that can be named, lightest first."""

for _entry in (
    BundledSam(),
    PublishedSam(
        "mobile_sam",
        "MobileSAM (TinyViT): light, near ViT-B",
        _build_mobile,
        author="Chaoning Zhang et al.",
    ),
    PublishedSam("sam_vit_b", "Segment Anything ViT-B", _build_vit),
    PublishedSam("sam_vit_l", "Segment Anything ViT-L", _build_vit),
    PublishedSam(
        "sam_vit_h", "Segment Anything ViT-H: the model of the paper's figures", _build_vit
    ),
):
    MODELS.register(_entry)

_TEXT = f"{__name__.rpartition('.')[0]}.text.published"
MODELS.register(f"{_TEXT}:EVF_SAM", name="evf_sam")
MODELS.register(f"{_TEXT}:EVF_SAM_MULTITASK", name="evf_sam_multitask")
