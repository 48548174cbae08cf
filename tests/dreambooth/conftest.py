from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers")

from benchmarks.tiny_diffusion import build_pipeline
from fiftyone_persam.dreambooth import TrainSettings

from .concepts import SIDE, write_cat


@pytest.fixture(scope="session", autouse=True)
def quiet() -> None:
    from fiftyone_persam.dreambooth.__main__ import _silence_libraries

    _silence_libraries()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion folder of 65,000 random weights. Do not write to it."""
    folder = tmp_path_factory.mktemp("model")
    build_pipeline(folder / "tokenizer").save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture(scope="session")
def concept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real photo of a cat with a mask of its face, as it is exported. Do not write to it."""
    return write_cat(tmp_path_factory.mktemp("concept") / "cat")


@pytest.fixture
def settings(model: Path, concept: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    """Settings for a training of a few steps."""

    def make(**options: Any) -> TrainSettings:
        given: dict[str, Any] = {
            "data": concept,
            "model": model,
            "output": tmp_path / "out",
            "resolution": SIDE,
            "steps": 4,
            "learning_rate": 1e-3,
            "device": "cpu",
        }
        return TrainSettings(**{**given, **options})

    return make
