"""How well photos of more than 8 bits are segmented, next to the same photos in 8 bits.

    python -m benchmarks.deep_photos ALBUM

Every photo of the album is written in the formats that cameras, thermal cameras and scientific
instruments use, the reference too, and segmented with the bundled model. Printed is the mIoU of
each, the difference from the 8-bit photos, and the worst object's difference.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

import fiftyone_persam as fp
from fiftyone_persam.sam import load_sam

from .album import Photo, read_album

Array = npt.NDArray[Any]


def _grey(photo: Array) -> Array:
    weights = np.array([0.299, 0.587, 0.114])
    return np.asarray(photo @ weights)


def _noisy(values: Array, pixels: tuple[tuple[int, float], ...]) -> Array:
    changed = values.copy()
    for number, value in pixels:
        changed.reshape(-1)[number * 997] = value
    return changed


def _exposed(photo: Array, rng: np.random.Generator) -> Array:
    """12 bits with the same sensor and another exposure for each photo, as with a fixed gain."""
    return np.round(photo * (4095 / 255) * rng.uniform(0.4, 1.0)).astype(np.uint16)


FORMATS: dict[str, tuple[str, Callable[[Array, np.random.Generator], Array]]] = {
    "colour, 10 bits": ("colour", lambda p, _: np.round(p * (1023 / 255)).astype(np.uint16)),
    "colour, 12 bits": ("colour", lambda p, _: np.round(p * (4095 / 255)).astype(np.uint16)),
    "colour, 12 bits, exposures": ("colour", _exposed),
    "colour, 14 bits": ("colour", lambda p, _: np.round(p * (16383 / 255)).astype(np.uint16)),
    "colour, 16 bits": ("colour", lambda p, _: p.astype(np.uint16) * 257),
    "colour, 12 bits, hot pixels": (
        "colour",
        lambda p, _: _noisy(
            np.round(p * (4095 / 255)).astype(np.uint16), ((5, 65535), (70, 65535))
        ),
    ),
    "colour, int16 around 0": (
        "colour",
        lambda p, _: (p.astype(np.int32) * 257 - 32768).astype("i2"),
    ),
    "colour, float64 of 0 to 1": ("colour", lambda p, _: p / 255),
    "colour, float32 of 0 to 255, NaN": (
        "colour",
        lambda p, _: _noisy(p.astype(np.float32), ((5, np.nan), (70, np.nan), (99, np.inf))),
    ),
    "grey, 10 bits": ("grey", lambda p, _: np.round(_grey(p) * (1023 / 255)).astype(np.uint16)),
    "grey, 12 bits": ("grey", lambda p, _: np.round(_grey(p) * (4095 / 255)).astype(np.uint16)),
    "grey, thermal counts": ("grey", lambda p, _: np.round(29000 + 8 * _grey(p)).astype(np.uint16)),
    "grey, int32": ("grey", lambda p, _: np.round(_grey(p) * 4000 - 300000).astype(np.int32)),
    "grey, Kelvin in float64, hot pixel": (
        "grey",
        lambda p, _: _noisy(285.0 + _grey(p) / 10, ((5, 1e6),)),
    ),
    "grey, reflectance in float32": ("grey", lambda p, _: (_grey(p) / 255 * 0.04).astype("f4")),
}


def _segmented(
    sam: fp.PromptableSam, album: list[list[Photo]], make: Callable[[Array], Array], folder: Path
) -> dict[str, float]:
    """MIoU of every object, its photos written and read as files."""
    found = {}
    for photos in album:
        paths = []
        for number, photo in enumerate(photos):
            paths.append(folder / f"{number}.tif")
            values = make(photo.image)
            kind = "rgb" if values.ndim == 3 else "minisblack"
            tifffile.imwrite(paths[-1], values, photometric=kind)
        reference = fp.Reference(paths[0], mask=photos[0].mask)
        persam = fp.PerSAM(sam, presence_threshold=0.0).fit(reference)
        predictions = persam.predict(paths[1:])
        truths = [photo.mask for photo in photos[1:]]
        found[photos[0].object] = float(
            np.mean([_iou(p.mask, t) for p, t in zip(predictions, truths, strict=True)])
        )
    return found


def _iou(a: Array, b: Array) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def measure(
    album: list[list[Photo]], model: str = "sam_lite", only: Sequence[str] = ()
) -> Iterator[tuple[str, float, float, float]]:
    """Yield (format, mIoU, difference from 8 bits, the worst object's difference).

    Args:
        album: the photos of each object, the reference first.
        model: which segments.
        only: formats in whose names one of these is; all if empty.
    """
    sam = load_sam(model)
    plain: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, make in (
            ("colour", lambda p: p),
            ("grey", lambda p: np.round(_grey(p)).astype(np.uint8)),
        ):
            plain[kind] = _segmented(sam, album, make, Path(folder))
            yield f"{kind}, 8 bits", float(np.mean(list(plain[kind].values()))), 0.0, 0.0
        for name, (kind, convert) in FORMATS.items():
            if only and not any(one in name for one in only):
                continue
            rng = np.random.default_rng(0)
            found = _segmented(sam, album, lambda p: convert(p, rng), Path(folder))  # noqa: B023
            change = [found[one] - plain[kind][one] for one in found]
            yield name, float(np.mean(list(found.values()))), float(np.mean(change)), min(change)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("album", type=Path, help="folder in PerSeg's layout")
    parser.add_argument("--model", default="sam_lite")
    parser.add_argument("--only", default="", help="formats whose name has this in it")
    parser.add_argument("--objects", nargs="*", help="these only")
    options = parser.parse_args(arguments)
    album = list(read_album(options.album, options.objects))
    print(f"{'format':38} {'mIoU':>7} {'change':>8} {'worst':>8}")
    for name, miou, change, worst in measure(album, options.model, [options.only]):
        print(f"{name:38} {100 * miou:7.2f} {100 * change:+8.2f} {100 * worst:+8.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
