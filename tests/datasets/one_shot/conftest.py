from __future__ import annotations

from pathlib import Path

import pytest

from .layouts import Source


@pytest.fixture(scope="session")
def source(album: Path) -> Source:
    """Real photos of two objects, three each, with their masks."""
    return Source(album)
