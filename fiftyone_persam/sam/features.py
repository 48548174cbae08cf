"""Features to find the object by, of another backbone than the one that decodes (paper, 3.2).

"Another frozen vision backbone may supply the features": a `FeatureSource` gives each photo a
second map over the same square and the same grid, and `PromptableSam.with_features` puts it beside
the decoder's own in every embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CheckpointError, PersamError, did_you_mean
from ..registry import Registry
from .identity import hash_tensors
from .photos import Photo

OWN = "decoder"
"""The name of the default: the embedding that is decoded serves for matching, too."""


@runtime_checkable
class FeatureSource(Protocol):
    """A frozen backbone whose features tell objects apart.

    Attributes:
        name: what `feature_source` makes it of, for records; None if it has no such name.
        identity: names its weights and settings: another one, another embedding.
        dim: channels.
        parameters: how many weights it has.
    """

    name: str | None
    identity: str
    dim: int
    parameters: int

    def features(self, resized: Sequence[Photo], image_size: int, grid_size: int) -> Tensor:
        """Features of photos.

        Args:
            resized: B photos (h, w, 3) uint8, none larger than ``image_size``.
            image_size: side of the square that they lie in, top left; the rest is padding.
            grid_size: cells along a side.

        Returns:
            (B, dim, grid_size, grid_size) float32, over the whole square.
        """
        ...

    def on(self, device: torch.device | str) -> Any:
        """The same source on another device; itself where it is there already."""
        ...


class TimmFeatures:
    """The last feature map of any timm model that has one.

    Args:
        model: timm's name of it, such as "vit_small_patch14_dinov2.lvd142m".
        pretrained: load timm's weights for it, by timm's own loading; else it has random ones.
        layer: which of its feature maps; -1 is the last.
        size: side in pixels at which it sees the photos' square; None for the one that it was
            trained with where it takes no other, else the decoder's.
        device: where to run.

    Raises:
        PersamError: timm has no such model, or it has no feature maps.
        CheckpointError: its weights cannot be fetched.
    """

    def __init__(
        self,
        model: str,
        pretrained: bool = True,
        layer: int = -1,
        size: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.name = f"timm/{model}"
        self.model = model
        self.layer = layer
        self._net = _build(model, pretrained, layer).to(device).eval().requires_grad_(False)
        config = _config(self._net)
        fixed = bool(getattr(self._net, "pretrained_cfg", {}).get("fixed_input_size", False))
        self.size = size if size is not None else config["input_size"][-1] if fixed else None
        self._mean = torch.tensor(config["mean"], device=device)[:, None, None]
        self._std = torch.tensor(config["std"], device=device)[:, None, None]
        self.dim = int(self._net.feature_info.channels()[-1])
        self.parameters = sum(weights.numel() for weights in self._net.parameters())
        weights = hash_tensors(self._net.state_dict())
        self.identity = f"timm/{model}|{layer}|{self.size}|{weights}"

    def __repr__(self) -> str:
        return f"TimmFeatures({self.model!r}, layer={self.layer}, size={self.size})"

    @torch.no_grad()
    def features(self, resized: Sequence[Photo], image_size: int, grid_size: int) -> Tensor:
        """See `FeatureSource.features`."""
        device = self._mean.device
        square = torch.zeros((len(resized), 3, image_size, image_size), device=device)
        for slot, photo in zip(square, resized, strict=True):
            pixels = torch.from_numpy(photo if photo.flags.writeable else photo.copy())
            scaled = pixels.to(device).permute(2, 0, 1).float() / 255
            slot[:, : photo.shape[0], : photo.shape[1]] = (scaled - self._mean) / self._std
        side = self.size or image_size
        if side != image_size:
            square = F.interpolate(
                square, (side, side), mode="bilinear", align_corners=False, antialias=True
            )
        (found,) = self._net(square)
        return F.interpolate(
            found.float(), (grid_size, grid_size), mode="bilinear", align_corners=False
        )

    def on(self, device: torch.device | str) -> TimmFeatures:
        """See `FeatureSource.on`."""
        if torch.device(device) == self._mean.device:
            return self
        moved = copy.copy(self)
        moved._net = copy.deepcopy(self._net).to(device)
        moved._mean, moved._std = self._mean.to(device), self._std.to(device)
        return moved


FEATURE_SOURCES: Registry[Callable[[str], FeatureSource]] = Registry(
    "feature source",
    {"timm": f"{__name__}:TimmFeatures"},
    otherwise=f"{OWN!r} for the decoder's own",
)
"""How a source is made from what follows its name: "timm/resnet50" calls the entry "timm"."""


def feature_source(given: Any) -> FeatureSource | None:
    """The source that a ``features`` argument means.

    Args:
        given: None or "decoder" for the decoder's own features, "timm/<model>" for a timm model,
            another registered name, or a `FeatureSource`.

    Raises:
        PersamError: there is no such source.
        CheckpointError: its weights cannot be fetched.
    """
    if given is None or given == OWN:
        return None
    if isinstance(given, str):
        name, _, rest = given.partition("/")
        source = FEATURE_SOURCES[name](rest)
        source.name = given  # a record of it leads here again
        return source
    if isinstance(given, FeatureSource) and not isinstance(given, type):
        return given
    raise PersamError(
        f"features {given!r} is not a source of features: give {OWN!r}, 'timm/<model>', or an "
        "object such as TimmFeatures('resnet50')"
    )


def check_features(given: Any) -> None:
    """Raise PersamError unless `feature_source` can make a source of a name; nothing is loaded."""
    if given is None or given == OWN or not isinstance(given, str):
        return
    name, _, rest = given.partition("/")
    _ = FEATURE_SOURCES[name]  # raises where there is none
    if name == "timm":
        _check_timm(rest)


def _check_timm(model: Any) -> None:
    import timm

    known = timm.list_models() if isinstance(model, str) else []
    if not isinstance(model, str) or model.partition(".")[0] not in known:
        raise PersamError(
            f"timm has no model {model!r}: choose one of timm.list_models()"
            f"{did_you_mean(model, known)}"
        )


def _build(model: str, pretrained: bool, layer: int) -> Any:
    import timm

    _check_timm(model)
    try:
        return timm.create_model(
            model, pretrained=pretrained, features_only=True, out_indices=(layer,)
        )
    except (OSError, ValueError) as error:  # what timm's and the hub's loading raise
        raise CheckpointError(
            f"the weights of timm model {model!r} cannot be fetched ({_line(error)}): check the "
            "connection, or choose another source of features"
        ) from error
    except (RuntimeError, AssertionError, IndexError, AttributeError) as error:
        raise PersamError(
            f"timm model {model!r} cannot give features ({_line(error)}): choose another one"
        ) from error


def _config(net: Any) -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    return dict(resolve_model_data_config(net))


def _line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
