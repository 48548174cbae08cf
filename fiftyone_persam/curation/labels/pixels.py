"""The pixels of a FiftyOne label's mask, inline or in a file, and the names of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import PersamError
from ...sam.masks import (
    FoundObject,
    MaskImage,
    MaskValue,
    mask_of_array,
    object_in,
    read_mask_file,
    value_of_class,
)

BoolMask = npt.NDArray[np.bool_]


def mask_pixels(label: Any, where: str) -> MaskImage | None:
    """What a `Segmentation` or `Detection` has as its mask; None for nothing.

    FiftyOne's own reader forgets a palette's ids, and waits for ever at a pipe.

    Raises:
        PersamError: the mask cannot be read, or is not a mask.
    """
    try:
        inline = label.mask
    except Exception as error:  # what is in the database may be damaged
        raise PersamError(f"{where} cannot be read ({_line(error)}): draw it again") from None
    if inline is not None:
        return mask_of_array(np.asarray(inline), where)
    if not label.mask_path:
        return None
    try:
        return read_mask_file(Path(label.mask_path))
    except PersamError as error:
        raise PersamError(f"{where} cannot be read ({error}): check its file") from None


def found_object(
    label: Any,
    where: str,
    value: MaskValue | None = None,
    targets: dict[Any, str] | None = None,
    several: bool = True,
) -> FoundObject | None:
    """What in a label's mask is the object, see `object_in`; None for a label without a mask.

    Raises:
        PersamError: the mask cannot be read, or see `object_in`.
    """
    pixels = mask_pixels(label, where)
    return None if pixels is None else object_in(pixels, value, targets, where, several)


def targets_of(dataset: Any, field: str) -> dict[Any, str]:
    """The names of the values of a field's masks: value or "#rrggbb" -> name; empty for none."""
    named = dataset.mask_targets.get(field) or dataset.default_mask_targets or {}
    return {_plain(key): str(name) for key, name in named.items()}


def plain_value(dataset: Any, field: str, value: MaskValue | None) -> MaskValue | None:
    """A ``mask_value`` as an integer or "#rrggbb" in lower case: a class's name is looked up.

    Raises:
        PersamError: a text that is neither a class of the field, a number, nor a colour.
    """
    if not isinstance(value, str):
        return value
    return value_of_class(value, targets_of(dataset, field), f"field {field!r}")


def _plain(key: Any) -> Any:
    return key.lower() if isinstance(key, str) else key


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
