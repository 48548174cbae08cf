from __future__ import annotations

from pathlib import Path

import pytest

from training.bank import Bank, load_bank
from training.pack import pack

from .tiny_data import write_data


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training data in miniature. Do not write to it."""
    return write_data(tmp_path_factory.mktemp("training-data"))


@pytest.fixture(scope="session")
def archive(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "train_pack.zip"
    pack(data_folder, path)
    return path


@pytest.fixture(scope="session")
def bank(archive: Path) -> Bank:
    return load_bank(archive)
