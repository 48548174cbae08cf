"""Reading photos of any kind into one form: uint8 (H, W, 3) RGB, upright."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import PhotoError

Photo: TypeAlias = npt.NDArray[np.uint8]
PhotoSource: TypeAlias = "str | os.PathLike[str] | Image.Image | npt.NDArray[Any]"

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


def load_photo(source: PhotoSource) -> Photo:
    """Read one photo.

    Args:
        source: path of a file, a PIL image, or an array: (H, W), (H, W, 1), (H, W, 3) RGB or
            (H, W, 4) RGBA; uint8, uint16 (full range), bool, or float in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB. EXIF rotation is applied, transparency is laid over white, of an
        animation the first frame is taken, 16-bit grey is scaled to 8 bits.

    Raises:
        PhotoError: the file is missing, empty, truncated or no photo, or the array has another
            shape, type or range.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_pil(source, "the given PIL image")
    if isinstance(source, (str, os.PathLike)):
        return _from_file(Path(source))
    raise PhotoError(
        f"a photo cannot be read from {type(source).__name__}: "
        "pass a path, a PIL image, or an array of shape (H, W, 3)"
    )


def photo_size(height: int, width: int, image_size: int) -> tuple[int, int]:
    """Height and width of a photo after its long side is resized to ``image_size``, as SAM does."""
    scale = image_size / max(height, width)
    # A 1 x 5000 strip still needs a pixel.
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_photo(photo: Photo, image_size: int) -> Photo:
    """(H, W, 3) uint8 -> (h, w, 3) uint8 whose long side is ``image_size`` (PIL, bilinear)."""
    height, width = photo_size(photo.shape[0], photo.shape[1], image_size)
    if (height, width) == photo.shape[:2]:
        return photo
    resized = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _from_file(path: Path) -> Photo:
    try:
        if path.exists() and not path.is_file():
            # Opening a pipe would wait for ever.
            raise PhotoError(f"photo {path} is no file: replace or remove it")
        with warnings.catch_warnings():
            # A user's own 100 megapixel panorama is no attack; PIL still refuses twice that size.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _from_pil(image, str(path))
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(f"photo {path} does not exist: check its path") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise PhotoError(
            f"photo {path} has more than {limit:,} pixels: make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        ) from None
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        reason = "is empty" if empty else "is not an image that PIL can read"
        raise PhotoError(f"photo {path} {reason}: replace or remove it") from None
    except (OSError, ValueError) as error:  # the latter for a NUL in the path
        reason = getattr(error, "strerror", None) or _line(error)
        raise PhotoError(f"photo {_short(path)} cannot be read ({reason}): replace it") from None


def _from_pil(image: Image.Image, name: str) -> Photo:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _DEEP_MODES:
            return _from_array(_scale_deep(np.asarray(upright)))
        if "A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info:
            return _over_white(np.asarray(upright.convert("RGBA")))
        # A copy: PIL lends its own buffer read-only.
        return np.array(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        # PIL's decoders raise any of these on a damaged file.
        raise PhotoError(f"photo {name} cannot be decoded ({_line(error)}): replace it") from None


def _from_array(array: npt.NDArray[Any]) -> Photo:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise PhotoError(
            f"a photo of shape {array.shape} cannot be used: pass (H, W), (H, W, 3) or (H, W, 4)"
        )
    pixels = _to_uint8(array)
    if pixels.shape[2] == 4:
        return _over_white(pixels)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels)


def _to_uint8(array: npt.NDArray[Any]) -> Photo:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return np.round(array / 257.0).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        # NaN fails both comparisons.
        if not (array.min() >= 0 and array.max() <= 1):
            raise PhotoError(
                f"a photo of type {array.dtype} must lie in [0, 1], this one spans "
                f"[{array.min():g}, {array.max():g}]: scale it, or pass uint8"
            )
        return np.round(array * 255.0).astype(np.uint8)
    raise PhotoError(f"a photo of type {array.dtype} cannot be used: pass uint8, uint16 or float")


def _scale_deep(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Grey values of more than 8 bits -> uint8, uint16, or float in [0, 1]."""
    if values.dtype == np.uint16:
        return values
    if np.issubdtype(values.dtype, np.integer):
        # PIL widens 16-bit (and some 8-bit) grey to 32 bits.
        top = 255 if values.max() <= 255 else 65535
        return np.clip(values / top, 0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values
    # A float image has no agreed range: spread what is there.
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _over_white(rgba: Photo) -> Photo:
    alpha = rgba[:, :, 3:].astype(np.float32) / 255
    blended = rgba[:, :, :3] * alpha + 255 * (1 - alpha)
    return np.round(blended).astype(np.uint8)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"...{text[-197:]}"
