"""The command line in this process and in one of its own, and what tests give to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo

ROOT = Path(__file__).resolve().parents[2]
NAME = "album-of-the-command-line"
Call = Callable[..., tuple[int, str, str]]


def spawn(
    *arguments: str, on_interrupt: str = "SIG_DFL", **environment: str
) -> subprocess.Popen[str]:
    """A command in a process of its own, which is started with SIGINT ignored or not."""
    start = (
        f"import os, signal, sys; signal.signal(signal.SIGINT, signal.{on_interrupt});"
        "os.execv(sys.executable, [sys.executable, '-m', 'fiftyone_persam.cli', *sys.argv[1:]])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reference_of(photos: fo.Dataset, name: str) -> str:
    chosen = (fo.ViewField("object") == name) & (fo.ViewField("role") == "reference")
    return str(photos.match(chosen).first().id)
