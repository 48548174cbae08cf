"""Which files datasets name, and removing only those that none names, however long the database
takes to come back; see `fiftyone_persam.datasets.named_files`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..datasets import named_files as found
from ..datasets.named_files import files_below
from .database import with_retries

__all__ = ["files_below", "named_below", "named_files", "remove_unnamed"]


def named_files(paths: Iterable[str | os.PathLike[str]]) -> set[Path]:
    """Those of ``paths`` that some dataset of this database names; they need not exist."""
    asked = list(paths)
    return with_retries(found.named_files, asked)


def named_below(folder: str | os.PathLike[str]) -> set[Path]:
    """The files and links in a folder, at any depth, that some dataset of this database names."""
    return with_retries(found.named_below, folder)


def remove_unnamed(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Remove those files that no dataset of this database names; those that are left."""
    asked = list(paths)
    return with_retries(found.remove_unnamed, asked)
