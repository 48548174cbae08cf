"""The back end of a Ray cluster: actors hold the model, on as many machines as there are."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import pickle
import platform
import socket
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import PersamError
from ..options import as_plain
from .job import INLINE, Job, OutputSettings, PhotoResult, PhotoTask, Timings
from .local import LocalBackend
from .memory import BATCH
from .sharding import LISTEN_SECONDS, Shards
from .worker import JobPayload, pack, portable

logger = logging.getLogger(__name__)

SHARD_BATCHES = (1, 8)
"""Batches of a shard, at least and at most: so much is done again when a machine dies."""
CONNECT_SECONDS = 10.0
PATIENCE = 30.0
"""Seconds without any news after which a line in the log says what is waited for."""
STEP_SECONDS = 1.0
"""For so long an actor works before it says what it has: a sequence, which is one shard however
long it is, is saved as it grows, and can be stopped."""


class RayBackend:
    """Shares a job's photos among actors of a Ray cluster.

    Photos and masks are read and written by the actors themselves, so their paths must mean the
    same on every machine; results come back to this process, which alone writes to the database.
    A machine that dies costs no photo: its shards go to other actors, and a new actor is asked for.

    Args:
        address: of the cluster; the environment's (RAY_ADDRESS), one that runs on this machine, or
            else a cluster of this machine alone, for this job, if None.
        workers: actors; one per GPU if None, or one per machine where there is no GPU.
        gpus_per_worker: 1 if None, or 0 in a cluster without GPUs.
        cpus_per_worker: cores that each actor reserves.

    Raises:
        PersamError: Ray is not installed, or a number is out of range.
    """

    name = "ray"
    help = "a Ray cluster (RAY_ADDRESS)"

    @staticmethod
    def available() -> bool:
        """Whether RAY_ADDRESS names a cluster and Ray is here; nothing is connected to."""
        return bool(os.environ.get("RAY_ADDRESS")) and importlib.util.find_spec("ray") is not None

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        cpus_per_worker: float = 1,
    ) -> None:
        _ray()
        workers = as_plain(workers)
        if workers is not None and (
            isinstance(workers, bool) or not isinstance(workers, int) or workers < 1
        ):
            raise PersamError(f"workers {workers!r} is not a number of them: give 1 or more")
        gpus_per_worker, cpus_per_worker = as_plain(gpus_per_worker), as_plain(cpus_per_worker)
        for name, value in (
            ("gpus_per_worker", 0 if gpus_per_worker is None else gpus_per_worker),
            ("cpus_per_worker", cpus_per_worker),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise PersamError(f"{name} {value!r} is not a number of them: give 0 or more")
        if address is not None and (not isinstance(address, str) or not address):
            raise PersamError(
                f"address {address!r} is not an address: give one such as 'host:6379'"
            )
        self.address = address
        self.workers = workers
        self.gpus_per_worker = gpus_per_worker
        self.cpus_per_worker = cpus_per_worker

    def run(self, job: Job) -> Generator[list[PhotoResult], None, None]:
        """See `Backend.run`.

        Raises:
            PersamError: the cluster is not there or lacks what the actors need, a machine does
                not see the photos or the masks' folder, or actors die again and again.
        """
        if not job.tasks:
            return
        ray = _ray()
        with _connected(ray, self.address):
            count, options = self._size(ray)
            count = min(count, len(job.tasks))
            batch = job.batch_size or BATCH["cuda" if options["num_gpus"] else "cpu"]
            at_least, at_most = (batch * batches for batches in SHARD_BATCHES)
            shards = Shards(job.tasks, count, at_least, at_most)
            pool = _ActorPool(ray, ray.put(pack(job, None)), options)
            try:
                for _ in range(count):
                    pool.start()
                while not shards.finished:
                    pool.assign(shards)
                    for actor, answer in pool.answers():
                        yield _take(job, shards, pool, actor, answer)
                    yield []  # whoever listens may want to stop, however long nobody answers
            finally:
                pool.stop()

    def _size(self, ray: Any) -> tuple[int, dict[str, Any]]:
        """How many actors there are to be, and what each of them needs."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = self.gpus_per_worker
        if gpus is None:
            gpus = 1 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
        need = {"GPU": gpus, "CPU": self.cpus_per_worker}
        fitting = [node for node in nodes if all(node.get(k, 0) >= v for k, v in need.items() if v)]
        if not fitting:
            raise PersamError(
                f"no machine of the Ray cluster has {gpus:g} GPU and {self.cpus_per_worker:g} CPU: "
                "ask for less with RayBackend(gpus_per_worker=..., cpus_per_worker=...)"
            )
        count = len(fitting)
        if gpus:
            count = sum(int(node["GPU"] // gpus) for node in fitting)
        options = {
            "num_gpus": gpus,
            "num_cpus": self.cpus_per_worker,
            "scheduling_strategy": "SPREAD",
            "max_restarts": 0,  # what a dead actor had is assigned anew
        }
        return self.workers or count, options


@dataclass(frozen=True, eq=False)
class Answer:
    """What an actor answers.

    Attributes:
        host: the actor's machine.
        results: of the shard, since the last answer.
        timings: of that time.
        unseen: paths that do not exist there.
        error: why the actor cannot work at all.
        done: whether that was the last of its shard.
    """

    host: str
    results: list[PhotoResult] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)
    unseen: list[str] = field(default_factory=list)
    error: PersamError | None = None
    done: bool = True


class Worker:
    """One actor: holds the model from its first shard on."""

    def __init__(self) -> None:
        self._host = platform.node()
        self._job: Job | None = None
        self._paths: dict[str, str] = {}
        self._chunks: Iterator[list[PhotoResult]] = iter(())
        self._timings, self._told = Timings(), Timings()

    def prepare(self, payload: bytes) -> Answer:
        """Load the model."""
        try:
            unpacked: JobPayload = pickle.loads(payload)
            _check_folder(unpacked.output, self._host)
            self._job = unpacked.unpack("auto")
        except Exception as error:
            return Answer(self._host, error=portable(error))
        return Answer(self._host)

    def run(self, tasks: list[PhotoTask], seconds: float) -> Answer:
        """Begin with a shard; see `go_on`."""
        if self._job is None:
            raise RuntimeError("prepare() comes first")
        self._paths = {task.id: task.path for task in tasks}
        self._timings, self._told = Timings(), Timings()
        job = replace(self._job, tasks=tasks, timings=self._timings)
        self._chunks = LocalBackend().run(job)
        return self.go_on(seconds)

    def go_on(self, seconds: float) -> Answer:
        """Segment for some seconds, one batch at least, or to the end of the shard."""
        started, done = time.monotonic(), True
        results: list[PhotoResult] = []
        try:
            for chunk in self._chunks:
                results += chunk
                if time.monotonic() - started >= seconds:
                    done = False
                    break
        except Exception as error:
            return Answer(self._host, error=portable(error))
        failed = [result.id for result in results if result.error is not None]
        unseen = [self._paths[name] for name in failed if not _exists(self._paths[name])]
        timings, self._told = self._timings.since(self._told), replace(self._timings)
        return Answer(self._host, results, timings, unseen, done=done)


class _ActorPool:
    """The actors, and what each of them is doing."""

    def __init__(self, ray: Any, payload: Any, options: dict[str, Any]) -> None:
        self._ray = ray
        self._payload = payload
        self._kind = ray.remote(**options)(Worker)
        self._busy: dict[Any, Any] = {}  # reference to the answer -> actor
        self._shards: dict[Any, list[PhotoTask]] = {}
        self._idle: list[Any] = []
        self._heard = time.monotonic()

    def start(self) -> None:
        """Ask for one more actor; it may have to wait for a machine that has room."""
        actor = self._kind.remote()
        self._busy[actor.prepare.remote(self._payload)] = actor

    def assign(self, shards: Shards) -> None:
        """Give idle actors something to do."""
        while self._idle and (shard := shards.take()):
            actor = self._idle.pop()
            self._shards[actor] = shard
            self._busy[actor.run.remote(shard, STEP_SECONDS)] = actor

    def answers(self) -> Iterator[tuple[Any, Answer | str]]:
        """What actors have answered, or why they have died; waits a second for the first."""
        ready, _ = self._ray.wait(list(self._busy), num_returns=1, timeout=LISTEN_SECONDS)
        now = time.monotonic()
        if ready:
            self._heard = now
        elif now - self._heard >= PATIENCE:
            self._heard = now
            logger.info(
                "Waiting for %d Ray actors that work, or wait for a free machine", len(self._busy)
            )
        for reference in ready:
            actor = self._busy.pop(reference)
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError:
                raise
            except self._ray.exceptions.RayError as error:  # the actor, its node, or the answer
                yield actor, " ".join(str(error).split())[:200] or type(error).__name__
            else:
                if answer.done:
                    self._idle.append(actor)
                else:
                    self._busy[actor.go_on.remote(STEP_SECONDS)] = actor
                yield actor, answer

    def replace(self, actor: Any) -> list[PhotoTask]:
        """Ask for another actor in the place of a dead one; returns what that had."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)
        self.start()
        return self._shards.pop(actor, [])

    def stop(self) -> None:
        """End all actors, whatever they are doing."""
        for actor in [*self._busy.values(), *self._idle]:
            with contextlib.suppress(Exception):  # the cluster itself may be gone
                self._ray.kill(actor)


def _take(
    job: Job, shards: Shards, pool: _ActorPool, actor: Any, answer: Answer | str
) -> list[PhotoResult]:
    if isinstance(answer, str):
        return shards.give_back(pool.replace(actor), answer)
    if answer.error is not None:
        raise answer.error
    for path in answer.unseen:
        if _exists(path):
            raise PersamError(
                f"photo {path} is here but not on {answer.host}: keep photos in a folder that "
                "every machine of the cluster has under the same path, then resume the run"
            )
    job.timings.add(answer.timings)
    return shards.deliver(answer.results)


def _check_folder(output: OutputSettings, host: str) -> None:
    folder = Path(output.masks_dir)
    if output.storage != INLINE and not folder.is_dir():
        raise PersamError(
            f"the masks' folder {folder} is not there on {host}: choose a masks_dir that every "
            "machine of the cluster has under the same path, or mask_storage='inline'"
        )


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)
    except ValueError:  # no path at all
        return False


@contextlib.contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Use the caller's connection, or have one for the length of this job."""
    if ray.is_initialized():
        yield
        return
    _check_address(address or os.environ.get("RAY_ADDRESS") or "")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PersamError(
            f"the Ray cluster {address or os.environ.get('RAY_ADDRESS') or 'of this machine'} "
            f"does not answer ({error}): start it with `ray start`, or check its address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise PersamError if nobody listens there: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # "auto" and "local" are not addresses
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise PersamError(
            f"no Ray cluster answers at {address} ({error}): start it with `ray start --head`, or "
            "check the address"
        ) from error


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise PersamError(
            "backend='ray' needs Ray, which is not installed: pip install fiftyone-persam[ray]"
        ) from None
