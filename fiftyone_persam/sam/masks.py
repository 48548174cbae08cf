"""Masks as people and programs write them, and what in them is the object.

One function decides for references, evaluation, import and promotion: `object_in`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import PersamError, did_you_mean
from .mask_images import (
    FEW,
    Array,
    MaskImage,
    check_mask_file,
    mask_of_array,
    packed_colours,
    read_mask_file,
)
from .photo_files import turn_array
from .soft_masks import GRAIN, has_several_hues, is_soft

__all__ = [
    "FoundObject",
    "MaskImage",
    "check_mask_file",
    "classes_in",
    "fit_mask",
    "mask_of_array",
    "object_in",
    "read_mask_file",
    "value_of_class",
]

logger = logging.getLogger(__name__)

BoolMask = npt.NDArray[np.bool_]
MaskValue: TypeAlias = "int | str"
Targets: TypeAlias = Mapping[Any, str]

_LOSSY = 64  # and more than this come from compression, or a photo
_NEAR = 64  # how far compression moves a colour, in one channel
_NAMED = 8  # classes that a message lists
OFF_BY = 2
"""How many pixels a mask's sides may differ from its photo's."""


@dataclass(frozen=True, eq=False)
class FoundObject:
    """The object in a mask.

    Attributes:
        mask: (H, W) bool.
        threshold: the value above which a pixel of a soft mask counts; None if it was not soft.
    """

    mask: BoolMask
    threshold: float | None = None


@dataclass(frozen=True)
class _Wanted:
    number: int
    is_colour: bool = False


def object_in(
    mask: MaskImage,
    value: MaskValue | None = None,
    targets: Targets | None = None,
    where: str = "the mask",
    several: bool = True,
) -> FoundObject:
    """What in a mask is the object: the one decision for references, evaluation and import.

    - Ids, grey or colours: everything but 0 or black, or one value or class if it is asked for.
    - A palette's ids count, whatever their colours; 0 is the background.
    - Soft masks (probabilities, soft edges, JPEG): what is more than half of the brightest value;
      floats of 0 to 1, more than 0.5; scores below and above 0 (logits), more than 0.
    - Transparent pixels are background. Where the colours say nothing more (all the same, or a
      cut-out photo), what is more than half opaque is the object.

    Args:
        mask: see `read_mask_file` and `mask_of_array`.
        value: an id or grey level; "#rrggbb" or its number in colours and palettes; or a class's
            name in ``targets``. None for everything that is not background.
        targets: names of values, as FiftyOne's ``mask_targets``.
        where: how messages call the mask.
        several: whether, without a value, several classes together are the object; if not, they
            are named and asked for.

    Raises:
        PersamError: ``value`` is not a class or colour, or several classes and no value.
    """
    wanted = None if value is None else _resolved(value, targets, where)
    mask, visible = _apply_alpha(mask, wanted)
    if mask.values is None and mask.colours is None:
        assert visible is not None
        return visible
    if wanted is not None:
        return _one_class(mask, wanted, where)
    found = _everything(mask)
    if found is not None:
        return found
    if not several:
        raise PersamError(
            f"{where} holds several classes, {_listed(classes_in(mask, targets))}: choose one with "
            "mask_value"
        )
    if mask.colours is not None and len(np.unique(packed_colours(mask.colours))) > _LOSSY:
        bright = mask.colours.max(axis=2)
        return _above(bright, float(bright.max()) / 2)
    return FoundObject(_marked(mask))


def classes_in(mask: MaskImage, targets: Targets | None = None) -> dict[MaskValue, str]:
    """The classes in a mask, largest first: id or "#rrggbb" -> name; one for a soft mask.

    Args:
        mask: the mask.
        targets: names of values, as FiftyOne's ``mask_targets``.
    """
    mask, visible = _apply_alpha(mask, None)
    if mask.values is None and mask.colours is None:
        return {255: "value 255"} if visible is not None and visible.mask.any() else {}
    names = {_normal(key): str(name) for key, name in (targets or {}).items()}
    if mask.colours is not None:
        found, counts = np.unique(packed_colours(mask.colours)[_marked(mask)], return_counts=True)
        keys: list[MaskValue] = [f"#{value:06x}" for value in found]
    else:
        values = _whole_values(mask)
        assert values is not None
        found, counts = np.unique(values[values > 0], return_counts=True)
        soft = _everything(mask)
        if soft is not None and len(found) > 1:
            found, counts = found[-1:], counts[-1:]
        keys = [int(value) for value in found]
    order = np.argsort(-counts, kind="stable")
    return {
        keys[i]: names.get(keys[i])
        or (str(keys[i]) if isinstance(keys[i], str) else f"value {keys[i]}")
        for i in order
    }


def value_of_class(value: str, targets: Targets | None, where: str = "the mask") -> MaskValue:
    """A class's name, a number or a colour as text -> an integer, or "#rrggbb" in lower case.

    Args:
        value: names are looked up first, in any case if there is no such name in this one.
        targets: names of values, as FiftyOne's ``mask_targets``.
        where: how messages call what has these names.

    Raises:
        PersamError: it is none of these.
    """
    names = {str(name): key for key, name in (targets or {}).items()}
    by_case = {name.casefold(): key for name, key in names.items()}
    key = names.get(value, by_case.get(value.casefold(), value))
    with suppress(ValueError):
        if isinstance(key, str) and key.startswith("#") and len(key) == 7:
            return f"#{int(key[1:], 16):06x}"
        return int(key)
    known = f"one of {', '.join(names)}, " if names else ""
    raise PersamError(
        f"{where}: mask_value {value!r} is neither a class in mask_targets nor a colour like "
        "'#ff0000': "
        f"give {known}an integer, or '#rrggbb'{did_you_mean(value, names)}"
    )


def fit_mask(
    mask: BoolMask,
    size: tuple[int, int],
    where: str = "the mask",
    orientation: int = 1,
    scaled: bool = False,
) -> BoolMask:
    """A mask at the size of its photo as it is shown.

    Sides that differ by up to two pixels are resized with a warning, as FiftyOne's evaluation
    does; a mask drawn over the stored pixels of a photo that EXIF turns is turned.

    Args:
        mask: (h, w) bool.
        size: (H, W) of the photo.
        where: how messages call the mask.
        orientation: the photo's EXIF orientation, 1 to 8.
        scaled: whether a mask of another size but the same proportions will do, as FiftyOne lets
            masks be smaller than their photos.

    Raises:
        PersamError: the mask is of another photo, or of this one before it was turned.
    """
    if mask.shape == size:
        return mask
    if orientation in (5, 6, 7, 8) and mask.shape == size[::-1]:
        return np.ascontiguousarray(turn_array(mask, orientation))
    off = max(abs(mask.shape[0] - size[0]), abs(mask.shape[1] - size[1]))
    if off <= OFF_BY:
        logger.warning(
            "%s is %d x %d pixels but its photo is %d x %d: resized",
            *(where, mask.shape[1], mask.shape[0], size[1], size[0]),
        )
    elif not (scaled and _same_proportions(mask.shape, size)):
        raise PersamError(
            f"{where} is {mask.shape[1]} x {mask.shape[0]} pixels but its photo is "
            f"{size[1]} x {size[0]}{' as it is shown' if scaled else ''}: make both one size"
        )
    resized = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(resized, dtype=np.bool_)


# ------------------------------------------------------------------------------------------------


def _apply_alpha(mask: MaskImage, wanted: _Wanted | None) -> tuple[MaskImage, FoundObject | None]:
    """Without its alpha: transparent pixels 0, or the mask that the alpha is."""
    if mask.alpha is None or mask.alpha.min() > 127:
        return MaskImage(mask.values, mask.colours, None, mask.palette), None
    visible = mask.alpha > 127
    content = packed_colours(mask.colours) if mask.colours is not None else mask.values
    assert content is not None
    shown = np.unique(content[visible])
    few = len(shown) <= FEW
    several = few and len(shown) > 1
    is_ids = mask.palette is not None and few
    if wanted is not None or several or is_ids:
        values = None if mask.values is None else np.where(visible, mask.values, 0)
        colours = None if mask.colours is None else np.where(visible[:, :, None], mask.colours, 0)
        if colours is not None or values is not None:
            return MaskImage(values, colours, None, mask.palette), None
    soft = bool(((mask.alpha > 0) & (mask.alpha < 255)).any())
    return MaskImage(), FoundObject(visible, 127.5 if soft else None)


def _everything(mask: MaskImage) -> FoundObject | None:
    """All that is not background; None if that is several classes."""
    if mask.colours is not None:
        return _every_colour(mask.colours)
    values = mask.values
    assert values is not None
    if values.dtype == np.bool_:
        return FoundObject(values)
    whole = _whole_values(mask)
    if whole is None:
        numbers = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=0.0)
        return _above(numbers, _half(numbers))
    found = _distinct(whole)
    above = found[found > 0]
    if len(above) <= 1:
        return FoundObject(whole > 0)
    if mask.palette is None and is_soft(whole, found):
        return _above(whole, float(found[-1]) / 2)
    return None


def _every_colour(colours: npt.NDArray[np.uint8]) -> FoundObject | None:
    bright = colours.max(axis=2)
    packed = np.unique(packed_colours(colours))
    if len(packed[packed > 0]) <= 1:
        return FoundObject(bright > 0)
    if has_several_hues(colours):
        return None
    found = _distinct(bright)
    if len(found[found > 0]) > 1 and not is_soft(bright, found):
        return None
    return _above(bright, float(found[-1]) / 2)


def _above(values: Array, threshold: float) -> FoundObject:
    return FoundObject(np.asarray(values > threshold, dtype=np.bool_), threshold)


def _half(values: Array) -> float:
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < 0 and high > 1:
        return 0.0  # scores before the sigmoid
    return 0.5 if high <= 1 else high / 2


def _marked(mask: MaskImage) -> BoolMask:
    if mask.colours is not None:
        return np.asarray(mask.colours.any(axis=2))
    assert mask.values is not None
    return np.asarray(mask.values > 0)


def _one_class(mask: MaskImage, wanted: _Wanted, where: str) -> FoundObject:
    if mask.colours is not None:
        return FoundObject(_of_colour(mask.colours, wanted))
    values, number = mask.values, wanted.number
    assert values is not None
    if mask.palette is not None:
        hit = values == (-1 if wanted.is_colour else number)
        if wanted.is_colour or (number > 255 and not hit.any()):
            hit = np.isin(values, np.flatnonzero(packed_colours(mask.palette) == number))
        return FoundObject(np.asarray(hit))
    if wanted.is_colour:
        level = number & 0xFF
        if number != level * 0x010101:
            raise PersamError(f"{where} is not a colour mask: mask_value is an integer, not a text")
        number = level
    # The brightest value of a soft mask stands for all that is more than half as bright.
    everything = _everything(mask)
    if everything is not None and everything.threshold is not None:
        top = float(np.nanmax(values))
        if top - GRAIN <= number <= top + 0.5 and number > everything.threshold:
            return everything
    return FoundObject(np.asarray(values == number))


def _of_colour(colours: npt.NDArray[np.uint8], wanted: _Wanted) -> BoolMask:
    packed, number = packed_colours(colours), wanted.number
    hit: BoolMask = packed == number
    if not wanted.is_colour and number <= 255 and not hit.any():  # a level of a mask in one hue
        return np.asarray(colours.max(axis=2) == number)
    if len(np.unique(packed)) <= _LOSSY:
        return hit
    rgb = np.array([number >> 16 & 255, number >> 8 & 255, number & 255], np.int16)
    apart = np.abs(colours.astype(np.int16) - rgb)
    nearer = apart.sum(axis=2) < colours.astype(np.int16).sum(axis=2)
    return np.asarray((apart.max(axis=2) <= _NEAR) & nearer)


def _resolved(value: MaskValue, targets: Targets | None, where: str) -> _Wanted:
    plain = value_of_class(value, targets, where) if isinstance(value, str) else value
    if isinstance(plain, str):
        return _Wanted(int(plain[1:], 16), is_colour=True)
    return _Wanted(int(plain))


def _normal(key: Any) -> Any:
    return key.lower() if isinstance(key, str) else key


def _listed(classes: dict[MaskValue, str]) -> str:
    parts = [
        str(key) if name in (f"value {key}", str(key)) else f"{key} ({name})"
        for key, name in classes.items()
    ]
    more = f" and {len(parts) - _NAMED} more" if len(parts) > _NAMED else ""
    return ", ".join(parts[:_NAMED]) + more


def _distinct(values: Array) -> Array:
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.reshape(-1), minlength=256)).astype(np.uint8)
    return np.unique(values)


def _whole_values(mask: MaskImage) -> Array | None:
    """Ids or levels; None where they are fractions."""
    values = mask.values
    assert values is not None
    if values.dtype.kind in "biu":
        return values
    numbers = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if (numbers != np.floor(numbers)).any() or np.abs(numbers).max(initial=0) > 2**31:
        return None
    return numbers.astype(np.int64)


def _same_proportions(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    # Each side may be off by the rounding of one pixel of the smaller picture.
    scale_y, scale_x = shape[0] / size[0], shape[1] / size[1]
    return abs(scale_y / scale_x - 1) <= 1 / min(*shape, *size)
