from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fiftyone_persam.personalize import METHODS, Reference
from fiftyone_persam.personalize.together import predict_masks
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

Array = np.ndarray[Any, Any]
KINDS = [
    ("persam", {"presence_threshold": 0.0}),
    ("persam_f", {"presence_threshold": 0.0}),
    ("persam_f", {"mode": "reference"}),
    ("persam", {"presence_threshold": 0.4}),  # presence is each one's own
    ("persam", {"presence_threshold": 0.0, "max_instances": 2}),
]


@pytest.mark.parametrize(("name", "options"), KINDS)
def test_a_batch_of_methods_gives_what_each_gives(
    sam: PromptableSam,
    photos: list[Array],
    embeddings: list[ImageEmbedding],
    name: str,
    options: dict[str, Any],
) -> None:
    """Three objects, each of another photo's middle, and three photos of other shapes."""
    methods = []
    for number in range(3):
        mask = np.zeros(photos[number].shape[:2], bool)
        height, width = mask.shape
        mask[height // 4 : height // 2 + 20 * number, width // 4 : width // 2] = True
        method = METHODS[name](sam, **options)
        methods.append(method.fit(Reference(photos[number], mask=mask), [embeddings[number]]))
    wanted = embeddings[1:4]
    found = predict_masks(methods, wanted)
    for method, photo, mask in zip(methods, wanted, found, strict=True):
        expected = method.predict_embeddings([photo])[0].mask
        assert mask.shape == expected.shape
        assert (mask != expected).mean() < 1e-3
    assert any(mask.any() for mask in found) or options.get("presence_threshold")
