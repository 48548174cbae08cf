"""Frames of video files, decoded by FFmpeg, which PyAV brings: no program is needed.

Frames are counted from 1 in the order in which they are shown, as FiftyOne counts them, whatever
time lies between them.
"""

from __future__ import annotations

import functools
import mimetypes
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from ..errors import PhotoError
from .photos import Photo, load_photo

FEWEST_KEPT, MOST_KEPT, KEPT_BYTES = 16, 64, 1 << 28
"""How many frames a reader keeps that are wanted later: at least 16, at most 64, and 256 MiB."""
NEAR = 16
"""Frames that are rather decoded on the way than skipped by seeking."""
EARLIER = (0, 2, 10)
"""Seconds before a keyframe at which to look for it: streams without an index are only guessed."""
HIDING = ("vp8",)
"""Codecs with packets of frames that are never shown."""


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
                frames += packet.size > 0 and not packet.is_discard
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
    """Reads frames of one video, decoding as few others as its keyframes allow.

    Forwards each frame is decoded once. What lies far ahead, or behind, is sought from the keyframe
    before it, if the file says where that is: every frame is the one that reading from the start
    comes to, or it is read from the start.

    Safe to use from several threads, which may come a little out of turn: frames that are passed
    on the way are kept if they are ``wanted``, until they are read or `forget` is called, and the
    latest of them where they are many. So who asks backwards has each stretch between two keyframes
    decoded once, or a few times where it is long.

    Args:
        path: of the video.
        wanted: the numbers that will be asked for.
    """

    def __init__(self, path: str | os.PathLike[str], wanted: Iterable[int] = ()) -> None:
        self._path = path
        self._wanted = set(wanted)
        self._kept: dict[int, Any] = {}
        self._frames: Iterator[Any] | None = None
        self._last = 0
        self._sought = False
        self._index: FrameIndex | None = None
        self._is_indexed = False
        self._lock = threading.Lock()

    def read(self, frame: int) -> Photo:
        """One frame; see `load_frame`."""
        if frame < 1:
            name = os.path.basename(self._path)
            raise PhotoError(f"frame {frame} of {name} is not a frame: they are counted from 1")
        with self._lock:
            self._wanted.discard(frame)
            decoded = self._kept.pop(frame, None)
            if decoded is None:
                decoded = self._decode(frame)
        return _pixels(decoded)

    def _decode(self, frame: int) -> Any:
        """A frame that is not kept, as it was decoded."""
        first = self._first(frame)
        if first is not None:
            self._begin(first)
        while True:
            for decoded in self._frames or ():
                self._last += 1
                if not self._is_in_its_place(decoded):
                    break
                if self._last == frame:
                    return decoded
                if self._last in self._wanted:
                    self._keep(decoded)
            if not self._sought:
                break
            # Not what the file promised, or less: reading from the start is what counts.
            self._index, self._is_indexed = None, True
            self._begin(1)
        read, name = self._last, os.path.basename(self._path)
        self._begin(1)
        if not read:
            raise PhotoError(f"no frame of video {name} can be read: replace it")
        raise PhotoError(f"video {name} has no frame {frame}: {read} frames of it can be read")

    def _first(self, frame: int) -> int | None:
        """The frame with which to begin anew; None where going on is as near."""
        goes_on = self._frames is not None and self._last < frame
        if frame - (self._last if goes_on else 0) <= NEAR:
            return None if goes_on else 1
        if not self._is_indexed:
            self._index, self._is_indexed = frame_index(self._path), True
        first = 1 if self._index is None else self._index.keyframe(frame)
        return None if goes_on and first <= self._last + NEAR else first

    def _begin(self, first: int) -> None:
        if self._frames is not None:
            self._frames.close()  # type: ignore[attr-defined]
        self._sought = first > 1
        at = None if self._index is None or not self._sought else self._index.times[first - 1]
        self._frames, self._last = _decoded(self._path, at), first - 1

    def _is_in_its_place(self, decoded: Any) -> bool:
        """Whether a frame has the time that its number says; where nothing was sought, it has."""
        if self._index is None:
            return True
        times = self._index.times
        same = self._last <= len(times) and decoded.pts == times[self._last - 1]
        if not same and not self._sought:
            self._index = None  # frames are not what packets are: nothing is sought in this file
            return True
        return bool(same)

    def _keep(self, decoded: Any) -> None:
        self._kept[self._last] = decoded
        bytes_ = sum(plane.buffer_size for plane in decoded.planes)
        if len(self._kept) > max(FEWEST_KEPT, min(MOST_KEPT, KEPT_BYTES // bytes_)):
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


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Where the frames of a video are, as its packets say.

    Attributes:
        times: (n,) int64, when each frame is shown, in the stream's own unit; rising.
        keyframes: (k,) int64, numbers of the frames with which decoding may begin; 1 is the first.
    """

    times: npt.NDArray[np.int64]
    keyframes: npt.NDArray[np.int64]

    def keyframe(self, frame: int) -> int:
        """The last keyframe that is not after a frame."""
        return int(self.keyframes[np.searchsorted(self.keyframes, frame, side="right") - 1])


def frame_index(path: str | os.PathLike[str]) -> FrameIndex | None:
    """Where a video's frames are, without decoding it; None where its packets do not tell.

    Raises:
        PhotoError: see `load_frame`.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return _indexed(os.fspath(path), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _indexed(path: str, *_: int) -> FrameIndex | None:
    times: list[int] = []
    keys: list[int] = []
    with _opened(path) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name in HIDING:
            return None
        try:
            for packet in container.demux(stream):
                if not packet.size or packet.is_discard:
                    continue
                if packet.pts is None or packet.is_corrupt:
                    return None
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        except av.FFmpegError:
            pass  # what comes after a fault cannot be read
    rising = np.unique(np.array(times, np.int64))
    # Two frames at one time, or some that are shown before the first keyframe and may be lost.
    if len(rising) < len(times) or not keys or min(keys) != rising[0]:
        return None
    return FrameIndex(rising, np.searchsorted(rising, np.sort(keys)) + 1)


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


def _decoded(path: str | os.PathLike[str], at: int | None = None) -> Iterator[Any]:
    """The frames of a video in the order in which they are shown, up to where it is damaged.

    Args:
        path: of the video.
        at: the time of a keyframe, with which to begin; None for the start. Nothing comes where it
            is not found.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            if at is None:
                yield from container.decode(stream)
                return
            for seconds in EARLIER:
                container.seek(int(at - seconds / stream.time_base), stream=stream)
                # What is shown before the keyframe may need frames that were not decoded.
                shown = (one for one in container.decode(stream) if (one.pts or 0) >= at)
                first = next(shown, None)
                if first is not None and first.pts == at:
                    yield first
                    yield from shown
                    return
        except (av.FFmpegError, EOFError):
            return


def _pixels(frame: Any) -> Photo:
    """A decoded frame as it is shown: turned upright, transparency over white."""
    clear = any(part.is_alpha for part in frame.format.components)
    pixels = frame.to_ndarray(format="rgba" if clear else "rgb24")
    if turns := round(getattr(frame, "rotation", 0) / 90) % 4:
        pixels = np.ascontiguousarray(np.rot90(pixels, turns))
    return load_photo(pixels)
