"""What fitting leaves behind: tensors by name, saved as safetensors with JSON in the header."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, PersamError
from .appearance import Appearance, together

if TYPE_CHECKING:
    from ..sam import Promptable

FORMAT = "fiftyone-persam-state"
VERSION = 4
PRIOR = "prior."
"""Begins the names of what a location prior remembers."""
SMALLER = "smaller."
"""Begins the names of what is remembered of references made smaller; see `smaller_looks`."""
NEGATIVE = "negative."
"""Begins the names of what is remembered of negative references."""


@dataclass(frozen=True, eq=False)
class FittedState:
    """One object, as R references show it: the state of methods that decode in passes.

    Attributes:
        targets: (R, C) normalised target features, for the similarity map.
        embeddings: (R, C) raw mean features, for the semantic prompt.
        levels: (R, 2) similarity of object and background in each reference.
        parts: (R, P, D) float16, the object part by part, to judge presence by.
        places: (R, P, 2) where each part is; see `Appearance`.
        background: (R, D) mean normalised feature of the rest of each reference.
        own: (R, 3) how well the object can be told at all; see `Appearance`.
        weights: (3,) of the mask scales; None for PerSAM.
        losses: (n, 3) step, dice and focal loss of the tuning; None for PerSAM.
        fine: (R,) whether features are smoothed; see `Appearance`. None in earlier versions.
        more: whatever else a method or its location prior has to remember, by name.
    """

    targets: Tensor
    embeddings: Tensor
    levels: Tensor
    parts: Tensor
    places: Tensor
    background: Tensor
    own: Tensor
    weights: Tensor | None = None
    losses: Tensor | None = None
    fine: Tensor | None = None
    more: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> FittedState:
        """The state that `tensors` gave.

        Raises:
            CheckpointError: some are missing, of another shape, or not finite.
        """
        own = {one.name for one in fields(cls)} - {"more"}
        known = {name: tensor for name, tensor in tensors.items() if name in own}
        more = {name: tensor for name, tensor in tensors.items() if name not in own}
        try:
            state = cls(**known, more=more)
        except TypeError:
            raise CheckpointError("lacks tensors: fit and save it again") from None
        count = len(state.targets) if state.targets.ndim == 2 else 0
        sound = (
            count > 0
            and state.embeddings.ndim == 2
            and len(state.embeddings) == count
            and state.levels.shape == (count, 2)
            and state.parts.ndim == 3
            and len(state.parts) == count
            and state.places.shape == (*state.parts.shape[:2], 2)
            and state.background.shape == state.parts.shape[::2]
            and state.own.shape == (count, 3)
            and (state.fine is None or state.fine.shape == (count,))
            and (state.weights is None or state.weights.shape == (3,))
            and state._smaller_sound()
            and all(torch.isfinite(tensor).all() for tensor in tensors.values())
        )
        if not sound:
            raise CheckpointError("has tensors of other shapes, or not a number: fit again")
        return state

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "more"}
        named = {**own, **self.more}
        return {k: v.detach().cpu().contiguous() for k, v in named.items() if v is not None}

    def to(self, device: torch.device) -> FittedState:
        """The same state on another device; its few float64 numbers stay on the CPU.

        MPS has no float64.
        """
        moved = {
            name: tensor if tensor.dtype == torch.float64 else tensor.to(device)
            for name, tensor in self.tensors().items()
        }
        more = {name: moved.pop(name) for name in self.more}
        return FittedState(**moved, more=more)

    @property
    def appearance(self) -> Appearance:
        """What presence is judged by: the references as given, then made smaller, if they were."""
        given = {one: getattr(self, one) for one in ("parts", "places", "background", "own")}
        if self.fine is not None:
            given["fine"] = self.fine
        smaller = self._named(SMALLER)
        known = [Appearance.from_tensors(one) for one in (given, smaller) if one]
        return together(known)

    @property
    def negative_targets(self) -> Tensor | None:
        """(N, C) normalised target features of what the object is not; None if nothing is known."""
        return self.more.get(f"{NEGATIVE}targets")

    @property
    def negative_appearance(self) -> Appearance | None:
        """What presence is judged against."""
        if self.negative_targets is None:
            return None
        return Appearance.from_tensors(self._named(NEGATIVE))

    @property
    def negative_prior(self) -> dict[str, Tensor]:
        """What the location prior remembers of what the object is not."""
        return self._named(NEGATIVE + PRIOR)

    @property
    def prior(self) -> dict[str, Tensor]:
        """What the location prior remembers."""
        return self._named(PRIOR)

    def _smaller_sound(self) -> bool:
        """Whether what is remembered of smaller references is whole, if there is any."""
        found = self._named(SMALLER)
        if not found:
            return True
        given = {
            name: getattr(self, name).shape[1:] for name in ("parts", "places", "background", "own")
        }
        given["sides"] = given["fine"] = torch.Size()
        count = {len(tensor) for tensor in found.values()}
        return len(count) == 1 and given == {name: one.shape[1:] for name, one in found.items()}

    def _named(self, start: str) -> dict[str, Tensor]:
        """What else is remembered under names that begin so, by the rest of the name."""
        return {n.removeprefix(start): t for n, t in self.more.items() if n.startswith(start)}


def write_state(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> Path:
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
            save_file(dict(tensors), name, metadata=metadata)
            os.replace(name, target)
        finally:
            Path(name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PersamError(
            f"fitted state {target} cannot be written ({reason}): choose another path"
        ) from None
    return target


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and settings that `write_state` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or something else.
    """
    target = _with_suffix(path)
    try:
        with safe_open(target, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("persam", "{}"))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"fitted state {target} does not exist: check its path") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"fitted state {target} cannot be read ({error}): fit and save it again"
        ) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(
            f"{target} is not a fitted state of this package: save one with save()"
        )
    if header.get("version") != VERSION:
        raise CheckpointError(
            f"fitted state {target} has version {header.get('version')}, this package reads "
            f"{VERSION}: fit and save it again"
        )
    return tensors, header


def check_header(path: str | os.PathLike[str], header: dict[str, Any], sam: Promptable) -> None:
    """Raise CheckpointError unless a state was fitted on this model."""
    here = (sam.embed_dim, sam.grid_size, sam.image_size)
    there = tuple(header.get(k) for k in ("embed_dim", "grid_size", "image_size"))
    hashes = (header.get("checkpoint_sha256"), sam.checkpoint_sha256)
    if here != there or (None not in hashes and hashes[0] != hashes[1]):
        raise CheckpointError(
            f"fitted state {path} was made with model {header.get('model')!r}, not with this "
            f"{sam.name!r}: load that model, or fit again"
        )


def _with_suffix(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise CheckpointError(f"fitted state {path!r} is not a path: give the file's path")
    target = Path(path).expanduser()
    if target.suffix == ".safetensors":
        return target
    return target.with_name(target.name + ".safetensors")
