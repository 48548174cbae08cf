from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fiftyone_persam.errors import CheckpointError
from fiftyone_persam.personalize import FittedState
from fiftyone_persam.personalize.state import read_state, write_state


def _object(count: int) -> tuple[torch.Tensor, ...]:
    parts, places = torch.rand(count, 4, 6).half(), torch.rand(count, 4, 2)
    appearance = (parts, places, torch.rand(count, 6), torch.rand(count, 3))
    return (torch.rand(count, 8), torch.rand(count, 8), torch.rand(count, 2), *appearance)


STATE = FittedState(*_object(2))
TUNED = FittedState(
    *_object(1),
    torch.rand(3, dtype=torch.float64),
    torch.rand(4, 3, dtype=torch.float64),
)


@pytest.mark.parametrize("state", [STATE, TUNED], ids=["PerSAM", "PerSAM-F"])
def test_round_trip(tmp_path: Path, state: FittedState) -> None:
    path = write_state(tmp_path / "new" / "cat", state.tensors(), {"method": "persam", "note": "é"})
    assert path == tmp_path / "new" / "cat.safetensors"
    tensors, header = read_state(tmp_path / "new" / "cat")
    loaded = FittedState.from_tensors(tensors)
    assert loaded.tensors().keys() == state.tensors().keys()
    for name, tensor in state.tensors().items():
        assert torch.equal(loaded.tensors()[name], tensor)
    assert header["method"] == "persam" and header["note"] == "é"
    assert [entry.name for entry in path.parent.iterdir()] == ["cat.safetensors"]


def test_float64_stays_on_the_cpu() -> None:
    """MPS has none: the few numbers that need it are not moved."""
    moved = TUNED.to(torch.device("meta"))
    assert moved.targets.device.type == moved.embeddings.device.type == "meta"
    assert moved.weights is not None and moved.weights.device.type == "cpu"
    assert moved.losses is not None and torch.equal(moved.losses, TUNED.losses)


def test_saving_again_replaces_the_file(tmp_path: Path) -> None:
    write_state(tmp_path / "cat.safetensors", STATE.tensors(), {})
    write_state(tmp_path / "cat", TUNED.tensors(), {})
    assert "weights" in read_state(tmp_path / "cat")[0]


def test_a_name_with_a_dot_keeps_it(tmp_path: Path) -> None:
    assert write_state(tmp_path / "cat.v2", STATE.tensors(), {}).name == "cat.v2.safetensors"


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = write_state(tmp_path / "cat", TUNED.tensors(), {"method": "persam_f"})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert json.loads(header["__metadata__"]["persam"])["method"] == "persam_f"
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(path.read_bytes())


def _truncated(path: Path) -> None:
    write_state(path, STATE.tensors(), {})
    path.write_bytes(path.read_bytes()[:-10])


def _pickled(path: Path) -> None:
    torch.save({"targets": torch.zeros(3)}, path)


def _foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def _newer(path: Path) -> None:
    header = json.dumps({"format": "fiftyone-persam-state", "version": 99})
    save_file(STATE.tensors(), path, metadata={"persam": header})


def _strange_header(path: Path) -> None:
    save_file(STATE.tensors(), path, metadata={"persam": "{not json"})


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (_truncated, "cannot be read"),
        (_pickled, "cannot be read"),
        (_foreign, "not a fitted state"),
        (_newer, "version 99"),
        (_strange_header, "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
    ],
)
def test_bad_files(tmp_path: Path, write: object, says: str) -> None:
    path = tmp_path / "state.safetensors"
    write(path)  # type: ignore[operator]
    with pytest.raises(CheckpointError) as caught:
        read_state(path)
    assert says in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
