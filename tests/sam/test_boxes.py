from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.sam.boxes import tight_box


@pytest.mark.parametrize("pixels", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("seed", range(3))
def test_a_tight_box_is_pillow_s(pixels: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = np.zeros((17, 31), np.uint8)
    mask[generator.integers(0, 17, pixels), generator.integers(0, 31, pixels)] = 255
    expected = Image.fromarray(mask).getbbox()
    assert tight_box(mask) == expected and tight_box(mask > 0) == expected
