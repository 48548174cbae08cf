"""Reading photos of any kind into one form: uint8 (H, W, 3) RGB, upright."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import PhotoError
from .contrast import Contrast, shared_contrast, to_8_bits
from .deep_files import DeepImage, read_deep, read_tiff
from .photo_files import one_line, upright, use_image

Photo: TypeAlias = npt.NDArray[np.uint8]
PhotoSource: TypeAlias = "str | os.PathLike[str] | Image.Image | npt.NDArray[Any]"

_NUMBERS = ("int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


def load_photo(source: PhotoSource, contrast: Contrast | None = None) -> Photo:
    """Read one photo.

    Args:
        source: path of a file, a PIL image, or an array: (H, W), (H, W, 1), (H, W, 3) RGB or
            (H, W, 4) RGBA; uint8, bool, or numbers of any range: 8 to 32 bit integers, signed or
            not, or floats, with NaN where nothing was measured.
        contrast: which values of a photo of more than 8 bits become black and white: that of the
            run's reference, see `read_photo`; the photo's own if None, or if the photo does not
            fit it. Photos of 8 bits stay as they are.

    Returns:
        (H, W, 3) uint8 RGB. EXIF rotation is applied, transparency is laid over white, of an
        animation or a file of several pages the first is taken. More than 8 bits are mapped by
        `contrast_of`.

    Raises:
        PhotoError: the file is missing, empty, truncated or no photo, or the array has another
            shape or type, or holds nothing but one value that is not 0.
    """
    return read_photo(source, contrast)[0]


def read_photo(
    source: PhotoSource, contrast: Contrast | None = None
) -> tuple[Photo, Contrast | None]:
    """Read one photo, and tell which of its values became black and white.

    Args:
        source: see `load_photo`.
        contrast: the window of values that other photos of this run have.

    Returns:
        The photo, and the window that was used; None for photos of 8 bits, which have none.

    Raises:
        PhotoError: see `load_photo`.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, contrast)
    if isinstance(source, Image.Image):
        try:
            return _from_pil(source, None, contrast)
        except PhotoError:
            raise
        except Exception as error:  # decoders raise anything on a damaged file
            raise PhotoError(
                f"photo the given PIL image cannot be decoded ({one_line(error)}): replace it"
            ) from None
    if isinstance(source, (str, os.PathLike)):
        return _from_file(Path(source).expanduser(), contrast)
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


def _from_file(path: Path, contrast: Contrast | None) -> tuple[Photo, Contrast | None]:
    def read(image: Image.Image | None, file: BinaryIO) -> tuple[Photo, Contrast | None]:
        if image is None:
            return _shown(read_tiff(file), contrast)
        return _from_pil(image, file, contrast)

    return use_image(path, read)


def _from_pil(
    image: Image.Image, file: BinaryIO | None, contrast: Contrast | None
) -> tuple[Photo, Contrast | None]:
    deep = read_deep(image, file)
    if deep is not None:
        return _shown(deep, contrast)
    pixels = upright(image)
    if pixels.mode == "LAB":
        return np.array(_lab_to_rgb(pixels)), None
    bands = pixels.getbands()
    if "A" in bands or "a" in bands or "transparency" in pixels.info:
        return _over_white(np.asarray(pixels.convert("RGBA"))), None
    # A copy: PIL lends its own buffer read-only.
    return np.array(pixels.convert("RGB")), None


def _from_array(
    array: npt.NDArray[Any], contrast: Contrast | None
) -> tuple[Photo, Contrast | None]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise PhotoError(
            f"a photo of shape {array.shape} cannot be used: pass (H, W), (H, W, 3) or (H, W, 4)"
        )
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype != np.uint8:
        return _shown(_checked(array), contrast)
    if array.shape[2] == 4:
        return _over_white(array), None
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2), None
    return np.ascontiguousarray(array), None


def _checked(array: npt.NDArray[Any]) -> DeepImage:
    """An array (H, W, 1, 3 or 4) of more than 8 bits that there is something to see in."""
    if array.dtype.name not in _NUMBERS:
        raise PhotoError(
            f"a photo of type {array.dtype} cannot be used: pass uint8, uint16 or float"
        )
    colours = array[:, :, :3] if array.shape[2] == 4 else array
    if array.dtype.kind == "f":
        finite = colours[np.isfinite(colours)]
        if not finite.size or (finite.min() == finite.max() and not 0 <= finite.flat[0] <= 1):
            only = f"{finite.flat[0]:g}" if finite.size else "NaN or infinity"
            raise PhotoError(
                f"a photo of type {array.dtype} that holds one value only must lie in [0, 1], "
                f"this one is all {only}: scale it, or pass uint8"
            )
    alpha = None
    if array.shape[2] == 4:
        top = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)
        alpha = np.clip(array[:, :, 3].astype(np.float32) / top, 0, 1)
    return DeepImage(colours, alpha)


def _shown(deep: DeepImage, wanted: Contrast | None) -> tuple[Photo, Contrast]:
    """A deep image in 8 bits, RGB over white."""
    contrast = shared_contrast(deep.values, wanted)
    pixels = to_8_bits(deep.values, contrast)
    if deep.inverted:
        pixels = np.uint8(255) - pixels
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if deep.alpha is not None:
        pixels = _blended(pixels, deep.alpha[:, :, None])
    return np.ascontiguousarray(pixels), contrast


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    """Pillow itself cannot; Little CMS can, which its wheels have."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise PhotoError("is in LAB colours that cannot be converted: save it as RGB")
    return converted


def _over_white(rgba: Photo) -> Photo:
    return _blended(rgba[:, :, :3], rgba[:, :, 3:].astype(np.float32) / np.float32(255))


def _blended(colours: Photo, alpha: npt.NDArray[np.float32]) -> Photo:
    blended = colours * alpha + 255 * (1 - alpha)
    return np.round(blended).astype(np.uint8)
