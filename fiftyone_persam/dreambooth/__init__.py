"""DreamBooth on masked photos: a diffusion model learns the object and not what is behind it.

Source: Zhang et al., Personalize Segment Anything Model with One Shot, section 3.4, whose code was
not released. Needs the optional extra ``dreambooth``; run it with
``python -m fiftyone_persam.dreambooth --help``. Names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "TrainSettings": "settings",
    "Trained": "training",
    "Trainer": "trainer",
    "latent_weights": "loss",
    "train": "training",
    "weighted_mse": "loss",
}

__all__ = ["TrainSettings", "Trained", "Trainer", "latent_weights", "train", "weighted_mse"]

if TYPE_CHECKING:
    from .loss import latent_weights, weighted_mse
    from .settings import TrainSettings
    from .trainer import Trainer
    from .training import Trained, train


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
