"""Small videos, written as any camera would write them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import fiftyone as fo
import numpy as np

SIZE = (120, 160)  # height, width
COLOURS = {"red": (220, 40, 30), "blue": (20, 60, 230)}

Array = np.ndarray[Any, Any]


def disc(x: int, y: int, radius: int = 24) -> Array:
    """(120, 160) bool."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def scene(discs: Sequence[tuple[str, int, int]], seed: int = 0) -> Array:
    """(120, 160, 3) uint8: coloured discs on soft grey noise."""
    noise = np.random.default_rng(seed).integers(90, 130, (*SIZE, 1))
    picture = np.broadcast_to(noise, (*SIZE, 3)).astype(np.uint8)
    for colour, x, y in discs:
        picture = np.where(disc(x, y)[..., None], np.uint8(COLOURS[colour]), picture)
    return picture


def write_film(
    path: Path,
    pictures: Sequence[Array],
    *,
    rate: int = 5,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write pictures, (H, W, 3) or (H, W, 4) uint8, as a video.

    Args:
        times: of each picture in units of 1 / rate; one after the other if None.
        options: of the codec, such as {"g": "12"} for a keyframe every 12 frames.
    """
    with av.open(str(path), "w") as film:
        stream: Any = film.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.bit_rate = pixels, 2_000_000
        for number, picture in enumerate(pictures):
            kind = "rgba" if picture.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)
            frame.pts = number if times is None else times[number]
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


def turn_film(path: Path) -> None:
    """Say in an MP4 file that it is to be shown a quarter turned clockwise, as phones do."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version, times, reserved, layer
    one, big = 1 << 16, 1 << 30
    content[start : start + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, big)
    path.write_bytes(content)


def moving_discs(path: Path, frames: int) -> fo.Sample:
    """A film of a red disc and a blue one; both are labelled in its first frame."""
    places = [(("red", 30 + 8 * n, 50), ("blue", 120, 40 + 6 * n)) for n in range(frames)]
    film = fo.Sample(str(write_film(path, [scene(one, n) for n, one in enumerate(places)])))
    found = [fo.Detection.from_mask(disc(x, y), label=name) for name, x, y in places[0]]
    film.frames[1] = fo.Frame(ground_truth=fo.Detections(detections=found))
    return film


def placed(detection: fo.Detection) -> Array:
    """(120, 160) bool mask of a detection in such a film."""
    whole = detection.to_segmentation(frame_size=(SIZE[1], SIZE[0]), target=1)
    return np.asarray(whole.mask) > 0
