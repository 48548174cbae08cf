"""The tests' own database: FiftyOne would attach to whichever one the same user has running."""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def start(folder: Path) -> int | None:
    """Start FiftyOne's mongod on a free port, until this process ends.

    Does not wait for it: clients retry until it answers.

    Args:
        folder: where the data go; an empty one

    Returns:
        the port, or None where FiftyOne has brought no mongod along
    """
    if _mongod() is None:
        return None
    port = free_port()
    process = subprocess.Popen(
        command(folder, port),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the tests, which still delete their datasets
        preexec_fn=die_with_parent if sys.platform == "linux" else None,
    )
    owner = os.getpid()

    def stop() -> None:
        if os.getpid() == owner:  # not in forked workers
            process.terminate()
            process.wait()

    atexit.register(stop)
    return port


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def command(folder: Path, port: int) -> list[str]:
    """How to start FiftyOne's mongod on a folder and a port."""
    start = [str(_mongod()), "--dbpath", str(folder), "--port", str(port)]
    return [*start, "--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]


def _mongod() -> Path | None:
    spec = importlib.util.find_spec("fiftyone")  # finds it without importing it
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        program = Path(folder) / "db" / "bin" / "mongod"
        if program.is_file():
            return program
    return None


def die_with_parent() -> None:
    """In a child that was just forked: end when the parent ends."""
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
