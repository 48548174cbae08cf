"""The methods: references, location priors, presence, PerSAM, PerSAM-F. Torch, never fiftyone.

Names are resolved on first use, so asking which methods there are needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "CANDIDATES": "registries",
    "LOCATION_PRIORS": "registries",
    "METHODS": "registries",
    "CascadeMethod": "cascade_method",
    "EvfSam": "evf_sam",
    "FittedState": "state",
    "LocationPrior": "location",
    "Method": "method",
    "MethodInfo": "registries",
    "PerSAM": "persam",
    "PerSAMF": "persam_f",
    "Prediction": "prediction",
    "Reference": "reference",
    "SequenceSession": "session",
    "Session": "session",
    "TextReference": "reference",
    "Tuning": "tuning",
    "dtype_for": "precision",
    "find_phrase": "evf_sam",
    "is_absent": "threshold",
    "list_methods": "registries",
    "method_info": "registries",
    "sequence_session": "session",
    "session_of": "session",
    "tune_scales": "tuning",
}

__all__ = [
    "CANDIDATES",
    "LOCATION_PRIORS",
    "METHODS",
    "CascadeMethod",
    "EvfSam",
    "FittedState",
    "LocationPrior",
    "Method",
    "MethodInfo",
    "PerSAM",
    "PerSAMF",
    "Prediction",
    "Reference",
    "SequenceSession",
    "Session",
    "TextReference",
    "Tuning",
    "dtype_for",
    "find_phrase",
    "is_absent",
    "list_methods",
    "method_info",
    "sequence_session",
    "session_of",
    "tune_scales",
]

if TYPE_CHECKING:
    from .cascade_method import CascadeMethod
    from .evf_sam import EvfSam, find_phrase
    from .location import LocationPrior
    from .method import Method
    from .persam import PerSAM
    from .persam_f import PerSAMF
    from .precision import dtype_for
    from .prediction import Prediction
    from .reference import Reference, TextReference
    from .registries import (
        CANDIDATES,
        LOCATION_PRIORS,
        METHODS,
        MethodInfo,
        list_methods,
        method_info,
    )
    from .session import SequenceSession, Session, sequence_session, session_of
    from .state import FittedState
    from .threshold import is_absent
    from .tuning import Tuning, tune_scales


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
