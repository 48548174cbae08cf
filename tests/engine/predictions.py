"""Predictions whose every number is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_persam.personalize.prediction import Prediction


def prediction(mask: np.ndarray, presence: float = 0.9, **changes: Any) -> Prediction:
    """A prediction of ``mask`` (H, W) with one point in its middle."""
    values: dict[str, Any] = {
        "mask": mask,
        "candidate": mask,
        "score": 0.8,
        "presence": presence,
        "similarity": np.zeros((2, 2), np.float32),
        "points": np.array([[1, 1], [0, 0]]),
        "labels": np.array([1, 0]),
        "box": None,
        "stage": "refinement_2",
        "agreement": 0.7,
    }
    return Prediction(**{**values, **changes})
