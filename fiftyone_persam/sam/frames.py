"""Frames of video files, decoded forwards by FFmpeg, which PyAV brings: no program is needed.

Frames are counted from 1 in the order in which they are shown, as FiftyOne counts them, whatever
time lies between them.
"""

from __future__ import annotations

import mimetypes
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from ..errors import PhotoError
from .photos import Photo, load_photo

FEWEST_KEPT, MOST_KEPT, KEPT_BYTES = 16, 64, 1 << 28
"""How many frames a reader keeps that are wanted later: at least 16, at most 64, and 256 MiB."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file is, without decoding it.

    Attributes:
        frames: how many there are.
        width, height: of a frame as it is shown, in pixels.
        rate: frames per second, on average.
        duration: seconds.
        size_bytes: of the file.
        mime_type: such as "video/mp4".
        encoding: the codec's four letters, or its name.
    """

    frames: int
    width: int
    height: int
    rate: float
    duration: float
    size_bytes: int
    mime_type: str
    encoding: str


def load_frame(path: str | os.PathLike[str], frame: int) -> Photo:
    """Read one frame of a video file; for many of one video, `FrameReader` is faster.

    Args:
        path: of the video.
        frame: its number, from 1.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        PhotoError: the file is missing or is not a video, or has no such frame.
    """
    with closing(FrameReader(path)) as reader:
        return reader.read(frame)


def video_info(path: str | os.PathLike[str]) -> VideoInfo:
    """Look into a video file; its frames are counted, not taken from what its header says.

    Raises:
        PhotoError: the file is missing, is not a video, or has no frame.
    """
    name = os.path.basename(path)
    with _opened(path) as container:
        stream = container.streams.video[0]
        frames = 0
        try:
            for packet in container.demux(stream):
                frames += packet.size > 0
        except av.FFmpegError:
            pass  # what comes after a fault cannot be read
        if not frames:
            raise PhotoError(f"video {name} has no frame: replace it")
        first = next(_decoded(path), None)
        if first is None:
            raise PhotoError(f"no frame of video {name} can be read: replace it")
        rate = float(stream.average_rate or stream.base_rate or stream.guessed_rate or 25)
        kind = mimetypes.guess_type(os.fspath(path))[0] or f"video/{container.format.name}"
        height, width = _pixels(first).shape[:2]
        return VideoInfo(
            frames=frames,
            width=width,
            height=height,
            rate=rate,
            duration=frames / rate,
            size_bytes=os.path.getsize(path),
            mime_type=kind,
            encoding=stream.codec_context.codec_tag.strip("\0 ") or stream.codec_context.name,
        )


class FrameReader:
    """Reads frames of one video, decoding each only once while they are asked for in order.

    Safe to use from several threads, which may come a little out of turn: frames that are passed
    on the way are kept if they are ``wanted``, until they are read or `forget` is called, and the
    latest of them where they are many. So who asks backwards has the file begun anew only once for
    each handful of frames.

    Args:
        path: of the video.
        wanted: the numbers that will be asked for.
    """

    def __init__(self, path: str | os.PathLike[str], wanted: Iterable[int] = ()) -> None:
        self._path = path
        self._wanted = set(wanted)
        self._kept: dict[int, Photo] = {}
        self._frames: Iterator[Any] | None = None
        self._last = 0
        self._lock = threading.Lock()

    def read(self, frame: int) -> Photo:
        """One frame; see `load_frame`."""
        name = os.path.basename(self._path)
        if frame < 1:
            raise PhotoError(f"frame {frame} of {name} is not a frame: they are counted from 1")
        with self._lock:
            self._wanted.discard(frame)
            if frame in self._kept:
                return self._kept.pop(frame)
            if self._frames is None or frame <= self._last:
                self._rewind()
            assert self._frames is not None
            for decoded in self._frames:
                self._last += 1
                if self._last == frame:
                    return _pixels(decoded)
                if self._last in self._wanted:
                    self._keep(_pixels(decoded))
            read = self._last
            self._rewind()
        if not read:
            raise PhotoError(f"no frame of video {name} can be read: replace it")
        raise PhotoError(f"video {name} has no frame {frame}: {read} frames of it can be read")

    def _keep(self, pixels: Photo) -> None:
        self._kept[self._last] = pixels
        if len(self._kept) > max(FEWEST_KEPT, min(MOST_KEPT, KEPT_BYTES // pixels.nbytes)):
            del self._kept[min(self._kept)]

    def forget(self, frame: int) -> None:
        """Say that a frame will not be asked for after all."""
        with self._lock:
            self._wanted.discard(frame)
            self._kept.pop(frame, None)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._kept.clear()
            if self._frames is not None:
                self._frames.close()  # type: ignore[attr-defined]
                self._frames = None

    def _rewind(self) -> None:
        if self._frames is not None:
            self._frames.close()  # type: ignore[attr-defined]
        self._frames, self._last = _decoded(self._path), 0


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    name = os.path.basename(path)
    if not os.path.isfile(path):
        raise PhotoError(f"video {path} does not exist: check its path")
    try:
        # Only what is local: a playlist could name files of other machines.
        container = av.open(os.fspath(path), options={"protocol_whitelist": "file"})
    except (av.FFmpegError, ValueError, OSError):
        raise PhotoError(f"{name} cannot be read as a video: replace it") from None
    with container:
        if not container.streams.video:
            raise PhotoError(f"{name} has no pictures, only sound or text: give a video")
        yield container


def _decoded(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The frames of a video in the order in which they are shown, up to where it is damaged."""
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            yield from container.decode(stream)
        except (av.FFmpegError, EOFError):
            return


def _pixels(frame: Any) -> Photo:
    """A decoded frame as it is shown: turned upright, transparency over white."""
    clear = any(part.is_alpha for part in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if clear else "rgb24")
    if turns := round(getattr(frame, "rotation", 0) / 90) % 4:
        pixels = np.ascontiguousarray(np.rot90(pixels, turns))
    return load_photo(pixels)
