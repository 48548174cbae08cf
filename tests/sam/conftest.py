from __future__ import annotations

import pytest

from benchmarks.seeded import small_sam
from fiftyone_persam.sam import PromptableSam, load_sam


@pytest.fixture(scope="session")
def seeded() -> PromptableSam:
    """Seeded weights of SAM's own architecture: 192 px input, 12 x 12 cells, 32 channels."""
    return load_sam(small_sam(192), dtype="float32")
