"""Masks as files and arrays hold them, before anybody decides what the object is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import PersamError
from .deep_files import DeepImage, read_deep, read_tiff
from .photo_files import shown_size, upright, use_image

Array = npt.NDArray[Any]

FEW = 16
"""More colours, or ids of a palette, than this are not classes that a person painted."""
_MIDDLE = 127


@dataclass(frozen=True, eq=False)
class MaskImage:
    """What a mask's file or array holds.

    Attributes:
        values: (H, W) ids, grey levels, probabilities or bool; None in colour masks.
        colours: (H, W, 3) uint8 RGB; None in others.
        alpha: (H, W) uint8; None if there is none.
        palette: (n, 3) uint8 colours of the ids; None without.
    """

    values: Array | None = None
    colours: npt.NDArray[np.uint8] | None = None
    alpha: npt.NDArray[np.uint8] | None = None
    palette: npt.NDArray[np.uint8] | None = None

    def first_channel(self) -> npt.NDArray[np.uint8] | None:
        """(H, W) red of what the mask looks like as a picture; None for what is not a picture.

        Numbers below the middle are ids, which no picture shows.
        """
        if self.colours is not None:
            return self.colours[:, :, 0]
        if self.values is None or self.values.dtype not in (np.uint8, np.bool_):
            return None
        if self.values.dtype == np.bool_:
            return self.values.astype(np.uint8) * np.uint8(255)
        if self.palette is not None:
            return self.palette[self.values][:, :, 0]
        return self.values if self.values.max(initial=0) > _MIDDLE else None


def read_mask_file(path: Path) -> MaskImage:
    """Read a mask's file of any format that photos may have, turned as its EXIF says.

    Raises:
        PhotoError: missing, damaged, not an image or not a regular file, or with too many pixels.
    """

    def read(image: Image.Image | None, file: BinaryIO) -> MaskImage:
        if image is None:
            return _of_deep(read_tiff(file))
        deep = read_deep(image, file)
        return _of_deep(deep) if deep is not None else _of_image(image)

    return use_image(path, read, "mask")


def check_mask_file(path: Path) -> None:
    """Raise PhotoError for a file that cannot be a mask: by its kind, header and checksums.

    Much cheaper than to decode it.
    """

    def check(image: Image.Image | None, file: BinaryIO) -> None:
        if image is not None:
            image.verify()

    use_image(path, check, "mask")


def mask_size(path: Path) -> tuple[int, int]:
    """(H, W) of a mask's file as it is shown, from its header; raises like `read_mask_file`."""

    def read(image: Image.Image | None, file: BinaryIO) -> tuple[int, int] | None:
        if image is not None and image.format == "PNG" and "exif" not in image.info:
            # Pillow would read all pixels to look for EXIF behind them, where nobody writes it.
            return image.height, image.width
        return None if image is None else shown_size(image)

    if (size := use_image(path, read, "mask")) is not None:
        return size
    stored = read_mask_file(path)
    pixels = stored.colours if stored.values is None else stored.values
    height, width = np.asarray(pixels).shape[:2]
    return height, width


def mask_of_array(array: Array, where: str = "the mask") -> MaskImage:
    """A mask in memory: (H, W), or (H, W, C) with 1, 3 (RGB), 2 or 4 channels (alpha last).

    Raises:
        PersamError: another shape, no pixels, or no numbers.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels = array.shape[2] if array.ndim == 3 else 0
    if array.ndim not in (2, 3) or channels not in (0, 2, 3, 4) or 0 in array.shape:
        raise PersamError(
            f"{where} is an array of shape {array.shape}: it must be (H, W), or (H, W, 3) in "
            "colours, with pixels in it"
        )
    if array.dtype.kind not in "biuf":
        raise PersamError(f"{where} is of type {array.dtype}: it must be bool, integer or float")
    if array.ndim == 2:
        return MaskImage(array)
    bytes_ = _in_bytes(array)
    alpha = bytes_[:, :, -1] if channels in (2, 4) else None
    if channels == 2:
        return MaskImage(bytes_[:, :, 0], alpha=alpha)
    return MaskImage(colours=bytes_[:, :, :3], alpha=alpha)


def packed_colours(colours: Array) -> npt.NDArray[np.int32]:
    """(..., 3) RGB -> (...) 0xRRGGBB."""
    wide = colours.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


# ------------------------------------------------------------------------------------------------


def _of_deep(deep: DeepImage) -> MaskImage:
    alpha = None if deep.alpha is None else np.round(deep.alpha * 255).astype(np.uint8)
    values = deep.values[:, :, 0] if deep.values.ndim == 3 and deep.values.shape[2] == 1 else None
    if deep.values.ndim == 2:
        values = deep.values
    if values is not None:
        return MaskImage(values, alpha=alpha)
    return MaskImage(colours=_in_bytes(deep.values), alpha=alpha)


def _of_image(image: Image.Image) -> MaskImage:
    image = upright(image)
    if image.mode in ("1", "L"):
        return MaskImage(np.asarray(image))
    if image.mode == "P":
        return _of_palette(image)
    if image.mode in ("LA", "La"):
        both = np.asarray(image.convert("LA"))
        return MaskImage(both[:, :, 0], alpha=both[:, :, 1])
    if image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        return MaskImage(colours=rgba[:, :, :3], alpha=rgba[:, :, 3])
    return MaskImage(colours=np.asarray(image.convert("RGB")))


def _of_palette(image: Image.Image) -> MaskImage:
    ids = np.asarray(image)
    alpha = None
    if "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[:, :, 3]
    colours = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours)] = colours[:256]
    used = np.unique(ids)
    grey = (palette[used] == palette[used, :1]).all()
    # A grey picture that was saved with a palette, a GIF's for one, is grey. Few ids are ids.
    if len(used) > FEW and grey:
        return MaskImage(palette[ids][:, :, 0], alpha=alpha)
    if image.format == "GIF" and (palette[used] == 0).all(axis=1).any():
        return MaskImage(colours=palette[ids], alpha=alpha)
    return MaskImage(ids, alpha=alpha, palette=palette)


def _in_bytes(array: Array) -> npt.NDArray[np.uint8]:
    """Channels of any type -> uint8."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    values = np.nan_to_num(array.astype(np.float64), nan=0.0)
    top = float(values.max(initial=0))
    if top > 255:
        values = values / 257
    elif array.dtype.kind == "f" and top <= 1:
        values = values * 255
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
