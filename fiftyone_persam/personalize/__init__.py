"""The methods: references, location prior, PerSAM, PerSAM-F. Imports torch, never fiftyone."""

from .persam import PerSAM
from .persam_f import PerSAMF
from .prediction import Prediction
from .reference import Reference
from .state import FittedState
from .tuning import Tuning, tune_scales

__all__ = [
    "FittedState",
    "PerSAM",
    "PerSAMF",
    "Prediction",
    "Reference",
    "Tuning",
    "tune_scales",
]
