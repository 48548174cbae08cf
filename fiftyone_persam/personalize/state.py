"""What fitting leaves behind: a few vectors, saved as safetensors with JSON in the header."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, PersamError

if TYPE_CHECKING:
    from ..sam import PromptableSam

FORMAT = "fiftyone-persam-state"
VERSION = 1


@dataclass(frozen=True, eq=False)
class FittedState:
    """One object, as R references show it.

    Attributes:
        targets: (R, C) normalised target features, for the similarity map.
        embeddings: (R, C) raw mean features, for the semantic prompt.
        levels: (R, 2) similarity of object and background in each reference.
        weights: (3,) of the mask scales; None for PerSAM.
        losses: (n, 3) step, dice and focal loss of the tuning; None for PerSAM.
        contrast: (2,) values of the reference's photo that became black and white, which those of
            further photos do as well; None for a photo of 8 bits.
    """

    targets: Tensor
    embeddings: Tensor
    levels: Tensor
    weights: Tensor | None = None
    losses: Tensor | None = None
    contrast: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: v.detach().cpu().contiguous() for k, v in named.items() if v is not None}

    def to(self, device: torch.device) -> FittedState:
        """The same state on another device; its few float64 numbers stay on the CPU.

        MPS has no float64.
        """
        tensors = self.tensors().items()
        return FittedState(
            **{n: t if t.dtype == torch.float64 else t.to(device) for n, t in tensors}
        )


def save_state(path: str | os.PathLike[str], state: FittedState, settings: dict[str, Any]) -> Path:
    """Write tensors and settings into one safetensors file; it appears whole or not at all.

    Returns:
        The path written, with ".safetensors" added where it was missing.

    Raises:
        PersamError: it cannot be written there.
    """
    target = _with_suffix(path)
    header = {"format": FORMAT, "version": VERSION, **settings}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        try:
            metadata = {"persam": json.dumps(header, sort_keys=True)}
            save_file(state.tensors(), name, metadata=metadata)
            os.replace(name, target)
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PersamError(
            f"fitted state {target} cannot be written ({reason}): choose another path"
        ) from None
    return target


def load_state(path: str | os.PathLike[str]) -> tuple[FittedState, dict[str, Any]]:
    """Read what `save_state` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or something else.
    """
    target = _with_suffix(path)
    try:
        with safe_open(target, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("persam", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"fitted state {target} does not exist: check its path") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"fitted state {target} cannot be read ({error}): fit and save it again"
        ) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{target} is no fitted state of this package: save one with save()")
    if header.get("version") != VERSION:
        raise CheckpointError(
            f"fitted state {target} has version {header.get('version')}, this package reads "
            f"{VERSION}: fit and save it again"
        )
    try:
        state = FittedState(**tensors)
    except TypeError:
        raise CheckpointError(
            f"fitted state {target} lacks tensors: fit and save it again"
        ) from None
    count = len(state.targets) if state.targets.ndim == 2 else 0
    sound = (
        count > 0
        and state.embeddings.shape == state.targets.shape
        and state.levels.shape == (count, 2)
        and (state.weights is None or state.weights.shape == (3,))
        and (state.contrast is None or state.contrast.shape == (2,))
        and all(torch.isfinite(tensor).all() for tensor in tensors.values())
    )
    if not sound:
        raise CheckpointError(
            f"fitted state {target} has tensors of other shapes, or not a number: fit again"
        )
    return state, header


def check_model(
    path: str | os.PathLike[str], state: FittedState, header: dict[str, Any], sam: PromptableSam
) -> None:
    """Raise CheckpointError unless a state was fitted on this model."""
    here = (sam.embed_dim, sam.grid_size, sam.image_size)
    there = tuple(header.get(k) for k in ("embed_dim", "grid_size", "image_size"))
    hashes = (header.get("checkpoint_sha256"), sam.checkpoint_sha256)
    fits = here == there and state.targets.shape[1] == sam.embed_dim
    if not fits or (None not in hashes and hashes[0] != hashes[1]):
        raise CheckpointError(
            f"fitted state {path} was made with model {header.get('model')!r}, not with this "
            f"{sam.name!r}: load that model, or fit again"
        )


def _with_suffix(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise CheckpointError(f"fitted state {path!r} is no path: give the file's path")
    target = Path(path)
    if target.suffix == ".safetensors":
        return target
    return target.with_name(target.name + ".safetensors")
