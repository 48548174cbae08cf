"""Photos, and the command line over them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_persam.cli.main import main
from fiftyone_persam.curation.handover.importing import import_perseg

from ..curation.discs import Make
from ..encoded_once import encoded_once
from .commands import NAME, Call


@pytest.fixture(scope="package", autouse=True)
def each_picture_is_encoded_once() -> Iterator[None]:
    with encoded_once():
        yield


@pytest.fixture
def photos(album: Path, dataset: Make) -> fo.Dataset:
    """Six photos of two objects."""
    return dataset(import_perseg(album, NAME, progress=False))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*arguments: Any) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
