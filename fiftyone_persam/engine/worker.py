"""What a worker of another process needs, and the worker of `DevicesBackend`'s processes."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import PersamError
from ..sam import Promptable
from ..sam.registry import resolve_device
from .job import Job, OutputSettings, Timings
from .local import LocalBackend, describe

if TYPE_CHECKING:
    from .cache import EmbeddingCache

READY, RESULTS, DONE, ERROR = "ready", "results", "done", "error"


@dataclass(frozen=True, eq=False)
class JobPayload:
    """A job without its photos, free of devices: what every worker of the job is sent once.

    Fitted predictors travel as what their ``save`` writes.
    """

    sam: Promptable
    predictors: Mapping[str, tuple[Any, bytes]]
    output: OutputSettings
    batch_size: int | None
    workers: int | None
    cache: EmbeddingCache | None
    labelled: Mapping[str, Mapping[str, Any]]

    def unpack(self, device: str) -> Job:
        """The job on a device, without photos.

        Raises:
            PersamError: the device is not there.
        """
        sam = self.sam.on(resolve_device(device))
        return Job(
            tasks=(),
            sam=sam,
            predictors={
                group: _load(kind, state, sam) for group, (kind, state) in self.predictors.items()
            },
            output=self.output,
            batch_size=self.batch_size,
            workers=self.workers,
            cache=self.cache,
            labelled=self.labelled,
        )


def pack(job: Job, workers: int | None) -> bytes:
    """A job's `JobPayload`, pickled for a process of the same user.

    Args:
        job: whose predictors have ``save`` and ``load``, as PerSAM and PerSAMF do.
        workers: threads for loading in each process.

    Raises:
        PersamError: the model or the cache cannot be sent to another process.
    """
    payload = JobPayload(
        sam=job.sam.on("cpu"),
        predictors={group: (type(one), _save(one)) for group, one in job.predictors.items()},
        output=job.output,
        batch_size=job.batch_size,
        workers=job.workers or workers,
        cache=job.cache,
        labelled=job.labelled,
    )
    try:
        return pickle.dumps(payload, protocol=5)
    except Exception as error:  # whatever the user's own classes raise
        raise PersamError(
            f"{job.sam.name} or its cache cannot be sent to another process ({describe(error)}): "
            "use a model whose classes can be imported and a DiskCache, or backend='local'"
        ) from error


def portable(error: Exception) -> PersamError:
    """An exception as one that can be sent to another process."""
    if type(error).__module__ == PersamError.__module__ or type(error).__name__ == "WriteError":
        return error if isinstance(error, PersamError) else PersamError(describe(error))
    return PersamError(describe(error))


def _save(predictor: Any) -> bytes:
    with tempfile.TemporaryDirectory(prefix="fiftyone-persam-") as folder:
        return bytes(Path(predictor.save(Path(folder) / "state.safetensors")).read_bytes())


def _load(kind: Any, state: bytes, sam: Promptable) -> Any:
    with tempfile.TemporaryDirectory(prefix="fiftyone-persam-") as folder:
        path = Path(folder) / "state.safetensors"
        path.write_bytes(state)
        return kind.load(path, sam)


# A process of DevicesBackend ----------------------------------------------------------------------


def main(handle: int, device: str, threads: int) -> None:
    """Work off shards from a connection until it ends.

    Args:
        handle: the connection's file descriptor.
        device: where to compute.
        threads: of torch on the CPU; 0 for its own default.
    """
    connection = Connection(handle)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if threads:
        torch.set_num_threads(threads)
    try:
        payload: JobPayload = pickle.loads(connection.recv_bytes())
        job = payload.unpack(device)
    except EOFError:
        return
    except Exception as error:
        connection.send((ERROR, portable(error)))
        return
    connection.send((READY, None))
    while True:
        try:
            tasks = connection.recv()
        except EOFError:
            return
        share = replace(job, tasks=tasks, timings=Timings())
        try:
            for results in LocalBackend().run(share):
                connection.send((RESULTS, (results, share.timings)))
            connection.send((DONE, share.timings))
        except BrokenPipeError:
            return
        except Exception as error:
            connection.send((ERROR, portable(error)))


def _end_with_parent() -> None:
    """Standard input ends with the process that holds its other end, however that dies."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    # Under its real name: what is pickled here belongs to that module, not to __main__.
    from fiftyone_persam.engine import worker

    worker.main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
