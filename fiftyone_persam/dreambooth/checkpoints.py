"""Checkpoints of a training: safetensors and JSON, whole or not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError, PersamError

CHECKPOINTS = "checkpoints"
_NAME = re.compile(r"step-(\d{6,})")
_WEIGHTS, _OPTIMIZER, _STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A training after some steps.

    Attributes:
        step: how many.
        weights: name -> trained tensor.
        moments: "name/key" -> tensor of the optimizer.
        identity: what has to be the same to go on with it.
    """

    step: int
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    identity: dict[str, Any]


def save_checkpoint(output: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint, then remove all but the ``keep`` latest."""
    folder = output / CHECKPOINTS
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:06}"
    aside = folder / f".{final.name}-{uuid.uuid4().hex}.part"
    aside.mkdir()
    try:
        save_file(_plain(checkpoint.weights), aside / _WEIGHTS)
        save_file(_plain(checkpoint.moments), aside / _OPTIMIZER)
        state = {"step": checkpoint.step, "identity": checkpoint.identity}
        (aside / _STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        if final.exists():
            shutil.rmtree(final)
        os.replace(aside, final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for _, old in _found(output)[:-keep]:
        shutil.rmtree(old)
    return final


def latest_step(output: Path) -> int | None:
    """The step of the latest checkpoint; None if there is none."""
    found = _found(output)
    return found[-1][0] if found else None


def load_checkpoint(output: Path) -> Checkpoint:
    """The latest checkpoint.

    Raises:
        PersamError: there is none.
        CheckpointError: it is damaged.
    """
    found = _found(output)
    if not found:
        raise PersamError(f"{output} has no checkpoint to resume from: start without resuming")
    folder = found[-1][1]
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        return Checkpoint(
            step=int(state["step"]),
            weights=load_file(folder / _WEIGHTS),
            moments=load_file(folder / _OPTIMIZER),
            identity=dict(state["identity"]),
        )
    except Exception as error:  # safetensors raises its own
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"checkpoint {folder} is damaged ({reason[0]}): remove it, then resume from the one "
            "before"
        ) from None


def _found(output: Path) -> list[tuple[int, Path]]:
    folder = output / CHECKPOINTS
    if not folder.is_dir():
        return []
    named = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in named if match)


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
