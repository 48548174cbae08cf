"""Average the weights of checkpoints: what several stages of training have in common.

    python -m training.average a.safetensors b.safetensors --weights 0.6 0.4 --out c.safetensors

Stages that start from one another lie in one valley of the loss, where the mean of two is often
better than either.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file


def average(checkpoints: Sequence[Path], weights: Sequence[float], out: Path) -> None:
    """Write the weighted mean of ``checkpoints`` with the first one's metadata, in its dtypes.

    Raises:
        ValueError: not one weight for each checkpoint, weights that do not sum to 1, or
            checkpoints of different models.
    """
    if len(weights) != len(checkpoints) or abs(sum(weights) - 1) > 1e-6:
        raise ValueError(
            f"{len(checkpoints)} checkpoints and weights {list(weights)}: give one weight for each "
            "that sum to 1"
        )
    states = [load_file(path) for path in checkpoints]
    first = states[0]
    for path, state in zip(checkpoints, states, strict=True):
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in first.items()}:
            raise ValueError(f"{path} is of another model than {checkpoints[0]}")
    mean = {
        name: sum(
            weight * state[name].float() for weight, state in zip(weights, states, strict=True)
        ).to(tensor.dtype)  # type: ignore[union-attr]
        for name, tensor in first.items()
    }
    with safe_open(checkpoints[0], framework="pt") as file:
        metadata = file.metadata()
    save_file(mean, out, metadata)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--weights", type=float, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    average(arguments.checkpoints, arguments.weights, arguments.out)


if __name__ == "__main__":
    main()
