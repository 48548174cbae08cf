"""The worker processes of a process, as the kernel knows them."""

from __future__ import annotations

from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")


def workers_of(parent: int) -> set[int]:
    """Process ids."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            its_parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended in this moment
            continue
        if its_parent == parent and b"fiftyone_persam.engine.worker" in command:
            found.add(int(folder.name))
    return found
