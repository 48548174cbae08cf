"""Runs in processes that may be killed: forked from a server that has imported everything."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from pymongo import monitoring

WRITES = {"insert", "update", "delete", "findAndModify", "findandmodify", "drop"}
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


class Fuse:
    """Kills this process, without a word, at its n-th dangerous operation.

    Dangerous is what changes a run's files or the database: before a file is opened for writing,
    renamed or removed, and before a writing command is sent and after it was carried out.
    """

    def __init__(self) -> None:
        self.count = 0
        self.blows_at: int | None = None
        self.folders: tuple[str, ...] | None = None
        self.before_only = False

    def burn(self) -> None:
        self.count += 1
        if self.count == self.blows_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folders is None or event not in FILE_EVENTS:
            return
        if event == "open" and not isinstance(args[2], int | None):
            return
        if event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        if str(args[0]).startswith(self.folders):
            self.burn()


class _Commands(monitoring.CommandListener):
    def started(self, event: Any) -> None:
        if event.command_name in WRITES and FUSE.folders is not None:
            FUSE.burn()

    def succeeded(self, event: Any) -> None:
        if not FUSE.before_only:
            self.started(event)

    def failed(self, event: Any) -> None:
        pass


FUSE = Fuse()
monitoring.register(_Commands())  # before fiftyone connects

import fiftyone as fo  # noqa: E402
import torch  # noqa: E402

import fiftyone_persam as fp  # noqa: E402
from fiftyone_persam.curation.runs import schema, stopping  # noqa: E402
from fiftyone_persam.curation.segmentation.segment import segment  # noqa: E402

from .discs import tiny_sam  # noqa: E402

torch.set_num_threads(1)
tiny_sam()

SETTINGS: dict[str, Any] = {
    "method": "persam",
    "out_field": "x",
    "label_type": "both",
    "mask_storage": "file",
    "similarity": True,
    "prompts": True,
    "batch_size": 3,
    "num_workers": 2,
}


def run_on(samples: Any, **changes: Any) -> Any:
    settings = {"reference": samples._root_dataset.first(), "model": tiny_sam(), **SETTINGS}
    return segment(samples, **{**settings, **changes})


# Jobs: what a process does ------------------------------------------------------------------------


def segment_job(name: str, blows_at: int | None, report: str | None, **changes: Any) -> None:
    dataset = fo.load_dataset(name)
    _light(blows_at)
    run_on(dataset, progress=False, **changes)
    if report is not None:
        Path(report).write_text(json.dumps(FUSE.count))


def delete_job(name: str, blows_at: int | None, report: str | None) -> None:
    dataset = fo.load_dataset(name)
    _light(blows_at)
    fp.delete_run(dataset, "x")
    if report is not None:
        Path(report).write_text(json.dumps(FUSE.count))


def rename_job(name: str, blows_at: int | None, report: str | None) -> None:
    dataset = fo.load_dataset(name)
    _light(blows_at)
    fp.rename_run(dataset, "x", "y")
    if report is not None:
        Path(report).write_text(json.dumps(FUSE.count))


def fields_job(name: str, prefix: str, count: int, together: Any) -> None:
    """Adds fields one by one, in the same moments as other processes."""
    dataset = fo.load_dataset(name)
    for number in range(count):
        together.wait(120)
        schema.add_fields(dataset, {f"{prefix}{number}": fo.FloatField()})


def beside_job(name: str, out_field: str, together: Any) -> None:
    """A run that begins in the same moment as others."""
    dataset = fo.load_dataset(name)
    together.wait(120)
    run_on(dataset, out_field=out_field, progress=False)


def held_job(name: str, begun: Any, go_on: Any) -> None:
    """A run that stands still in the middle until it is told to go on."""
    stopping.INTERVAL = 0  # so that it notices at once if it was told to stop

    def hold(done: int, total: int) -> None:
        if done:
            begun.set()
            go_on.wait(120)

    run_on(fo.load_dataset(name), progress=hold)


def limited_job(
    name: str, report: str, largest_file: int, last: bool = False, **changes: Any
) -> None:
    """A run that cannot write files above a size, as if the disk were full.

    Args:
        name: of the dataset.
        report: a file for what it raised.
        largest_file: in bytes.
        last: whether the last photo is the reference, at a threshold that some photos are below.
        changes: of `SETTINGS`.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
    error: BaseException | None = None
    dataset = fo.load_dataset(name)
    if last:
        changes |= {"reference": dataset.last(), "presence_threshold": 0.5}
    try:
        run_on(dataset, progress=False, **changes)
    except BaseException as caught:
        error = caught
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Path(report).write_text(json.dumps([type(error).__name__, str(error)]))


def _light(blows_at: int | None) -> None:
    light(blows_at, [fo.config.default_dataset_dir])


def light(blows_at: int | None, folders: Iterable[str], before_only: bool = False) -> None:
    """Count what is dangerous from now on, and die at the n-th.

    Args:
        blows_at: n, from 1; None to count only.
        folders: those whose files count.
        before_only: whether only what is before a command counts, not what is after it as well.
    """
    FUSE.folders = tuple(str(Path(folder).absolute()) for folder in folders)
    FUSE.before_only = before_only
    FUSE.blows_at = blows_at
    FUSE.count = 0
    sys.addaudithook(FUSE.audit)


# Starting them ------------------------------------------------------------------------------------


def context() -> Any:
    """A fork server that has this module: a process costs milliseconds, not seconds."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__])
    return made


def start(job: Callable[..., None], *args: Any, **kwargs: Any) -> ForkServerProcess:
    process: ForkServerProcess = context().Process(target=job, args=args, kwargs=kwargs)
    process.start()
    return process


def finish(process: ForkServerProcess, timeout: float = 240.0) -> int:
    """Its exit code: 0, or -9 if it was killed."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"process {process.pid} did not end within {timeout:.0f} s")
    return process.exitcode
