"""The back end of several devices of one machine: one process for each, with its own model."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

import torch

from ..errors import PersamError
from ..sam.registry import resolve_device
from .job import Job, PhotoResult, PhotoTask, Timings
from .local import default_workers
from .memory import BATCH
from .sharding import LISTEN_SECONDS, Shards
from .worker import DONE, ERROR, READY, RESULTS, pack

SHARD_BATCHES = (2, 32)
"""Batches of a shard, at least and at most: the pipeline of a worker runs empty between two."""


class DevicesBackend:
    """Shares a job's photos among processes, one per device.

    A process that dies costs no photo: what it had not delivered goes to another one, and a new
    process takes its place. All of them end with this one, even if it is killed.

    Args:
        devices: such as ["cuda:0", "cuda:1"]; a device named twice gets two processes. All CUDA
            devices if None.

    Raises:
        PersamError: a device is not there, or the system has no way to share pipes with processes.
    """

    name = "devices"
    help = "all CUDA devices of this machine"

    @staticmethod
    def available() -> bool:
        """Whether there are several CUDA devices."""
        return torch.cuda.device_count() > 1

    def __init__(self, devices: Sequence[str | torch.device] | None = None) -> None:
        if os.name != "posix":
            raise PersamError("backend='devices' needs Linux or macOS: use 'local' or 'ray'")
        if devices is None:
            devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
            if not devices:
                raise PersamError(
                    "there is no CUDA device: use backend='local', or name devices as in "
                    "DevicesBackend(['cpu', 'cpu'])"
                )
        if not isinstance(devices, (str, Sequence)) and isinstance(devices, Iterable):
            devices = list(devices)
        if isinstance(devices, str) or not isinstance(devices, Sequence) or not devices:
            raise PersamError(f"devices {devices!r} is not a list of devices: give ['cuda:0', ...]")
        self.devices = [str(resolve_device(device)) for device in devices]

    def run(self, job: Job) -> Generator[list[PhotoResult], None, None]:
        """See `Backend.run`; raises PersamError if processes die again and again."""
        if not job.tasks:
            return
        devices = self.devices[: len(job.tasks)]
        batch = job.batch_size or BATCH.get(torch.device(devices[0]).type, 4)
        at_least, at_most = (batch * batches for batches in SHARD_BATCHES)
        shards = Shards(job.tasks, len(devices), at_least, at_most)
        payload = pack(job, max(1, default_workers() // len(devices)))
        threads = max(1, (os.cpu_count() or 1) // len(devices))
        processes: list[_Process] = []
        try:
            for device in devices:
                processes.append(_Process(device, threads))
            for process in processes:
                process.send_bytes(payload)
            while not shards.finished:
                for process in processes:
                    if process.idle and (shard := shards.take()):
                        process.start(shard)
                yield []  # whoever listens may want to stop, however long nobody answers
                for connection in wait([p.connection for p in processes], LISTEN_SECONDS):
                    index, process = next(
                        (n, one) for n, one in enumerate(processes) if one.connection is connection
                    )
                    kind, value = process.receive()
                    if kind == RESULTS:
                        yield shards.deliver(value)
                    elif kind == DONE:
                        job.timings.add(process.take_timings())
                    elif kind == ERROR:
                        raise value
                    elif kind == DIED:
                        process.stop()
                        job.timings.add(process.take_timings())
                        yield shards.give_back(process.shard, f"on {process.device}: {value}")
                        processes[index] = _Process(process.device, threads)
                        processes[index].send_bytes(payload)
            for process in processes:
                job.timings.add(process.take_timings())
        finally:
            for process in processes:
                process.stop()


DIED = "died"


class _Process:
    """One worker process, as this process sees it."""

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        self.shard: list[PhotoTask] = []
        self._timings = Timings()  # of the shard, as far as it is known
        self.idle = False
        self.connection, theirs = Pipe()
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        threads = threads if device.startswith("cpu") else 0
        command = [sys.executable, "-m", "fiftyone_persam.engine.worker"]
        # A process of its own program: a spawned one would run the caller's script once more.
        self._process = subprocess.Popen(
            [*command, str(theirs.fileno()), device, str(threads)],
            stdin=subprocess.PIPE,  # stays open as long as this process lives
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the others
        )
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send_bytes(self, content: bytes) -> None:
        """Send; that it is dead shows when it is listened to."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(content)

    def start(self, shard: list[PhotoTask]) -> None:
        """Send photos."""
        self.shard, self.idle = shard, False
        with contextlib.suppress(OSError):
            self.connection.send(shard)

    def receive(self) -> tuple[str, Any]:
        """The next message, or ("died", why)."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            self._process.kill()
            return DIED, _cause(self._process.wait())
        if kind == RESULTS:
            value, self._timings = value
        elif kind == DONE:
            self._timings = value
        if kind in (READY, DONE):
            self.shard, self.idle = [], True
        return kind, value

    def take_timings(self) -> Timings:
        """What the shard has taken so far, once."""
        taken, self._timings = self._timings, Timings()
        return taken

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self.connection.close()


def _cause(code: int) -> str:
    if code >= 0:
        return f"it ended with code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
