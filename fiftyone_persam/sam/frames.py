"""Single frames of video files."""

from __future__ import annotations

import os

import cv2

from ..errors import PhotoError
from .photos import Photo


def load_frame(path: str | os.PathLike[str], frame: int) -> Photo:
    """Read one frame of a video file.

    Args:
        path: of the video.
        frame: its number, from 1.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        PhotoError: the file is missing or is not a video, or has no such frame.
    """
    name = os.path.basename(path)
    if not os.path.isfile(path):
        raise PhotoError(f"video {path} does not exist: check its path")
    if frame < 1:
        raise PhotoError(f"frame {frame} of {name} is not a frame: they are counted from 1")
    video = cv2.VideoCapture(os.fspath(path))
    try:
        if not video.isOpened():
            raise PhotoError(f"{name} cannot be read as a video: replace it")
        video.set(cv2.CAP_PROP_POS_FRAMES, frame - 1)
        found, pixels = video.read()
    finally:
        video.release()
    if not found:
        raise PhotoError(f"video {name} has no frame {frame}: check its length")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)  # type: ignore[no-any-return]
