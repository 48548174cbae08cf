"""The dtype that a method's options ask for, where the user has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dtype_for(dtype: Any, options: Mapping[str, Any]) -> Any:
    """What to load a model with: reference mode is float32 unless the user asks for less.

    Half precision, the default on CUDA, is not exactly what the released code computes.

    Args:
        dtype: as for `load_sam`; "auto" if the user has not asked.
        options: of the method.
    """
    return "float32" if dtype == "auto" and options.get("mode") == "reference" else dtype
