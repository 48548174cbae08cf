"""Carrying a plan out: the run is registered, photos go through the engine, results are saved."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from bson import ObjectId

from ...engine.cache import weights_sha256
from ...engine.choice import backend_name
from ...engine.job import Backend, Job, PhotoResult, PhotoTask
from ...engine.sequences import track_name, with_earlier_frames
from ...errors import PersamError, RunConflictError, RunStoppedError
from .. import database
from ..database import PART, clear_samples, make_durable, with_retries
from ..fiftyone_api import (
    drop_unlisted_runs,
    put_results,
    results_id,
    use_results,
)
from ..progress import Progress, StoppedError, reporting
from ..review.replacing import forget_steps
from ..review.visibility import adopt_threshold, align_masks
from ..runs import fields as run_fields
from ..runs import folders, journal, loading, naming, queries, schema, writing
from ..runs.comparing import compare_photos
from ..runs.lease import Lease
from ..runs.record import (
    EarlierCall,
    ReferenceRecord,
    RunRecord,
    RunState,
    read_outcome,
    read_record,
    versions,
    write_record,
)
from ..runs.stopping import StopRequests
from ..runs.suffixes import ERROR
from .plan import Plan

FLUSH_PHOTOS = 64

FLUSH_SECONDS = 2.0

ROUNDS = 5
"""A database that is killed forgets what it acknowledged just before: these photos are redone."""


def execute(plan: Plan, job: Job, backend: Backend, progress: Progress) -> loading.Run:
    """Run a plan.

    Raises:
        RunConflictError: somebody else writes this run.
        BaseException: whatever stopped it; the run can be resumed then.
    """
    from ...sam.execution import compiles

    with Lease(plan.dataset, plan.name) as lease:
        database.refresh(plan.dataset)
        if (plan.name in naming.run_names(plan.dataset)) != plan.exists:
            raise RunConflictError(
                f"run {plan.name!r} was made or deleted by somebody else in this moment: try again"
            )
        if plan.exists:
            names = naming.names_of(plan.fields)
            schema.check_unlocked(plan.dataset, names, f"writing run {plan.name!r}")
        if plan.new_frames is not None:
            plan.new_frames.write(plan.dataset)
        for mark in plan.marks:  # before the record that names them
            mark.write()
        ended = plan.exists and read_record(plan.dataset, plan.name).state == RunState.DONE
        record = _begin(plan, backend_name(backend), compiles(job.sam))
        started = time.perf_counter()
        state, reason = RunState.FAILED, ""
        saver = _Saver(plan, lease)
        try:
            _prepare(plan, ended)
            _process(saver, job, backend, progress)
            tasks = job.tasks
            for _ in range(ROUNDS):
                if not (forgotten := _forgotten(plan)):
                    break
                saver.saved -= len(forgotten)
                again = with_earlier_frames(tasks, {task.id for task in forgotten})
                _process(saver, replace(job, tasks=again), backend, progress)
            else:
                raise PersamError(
                    f"{len(forgotten)} photos were segmented {ROUNDS} times and the database knows "
                    "no result of them: look at its log, then resume the run"
                )
            if plan.parameters.compare_photos:
                lease.check()
                compare_photos(plan.dataset, plan.fields, plan.parameters.group_by)
                align_masks(plan.dataset, plan.name)
            state = RunState.DONE
        except StoppedError as stopped:
            state = RunState.INTERRUPTED
            raise stopped.cause from None
        except (RunStoppedError, KeyboardInterrupt, SystemExit):
            state = RunState.INTERRUPTED
            raise
        except BaseException as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise
        finally:
            _end(plan, record, state, reason, job, saver.saved, time.perf_counter() - started)
    return loading.load(plan.dataset, plan.name)


def _begin(plan: Plan, backend: str, compiled: bool) -> RunRecord:
    """Register the run, before its first photo: a process that dies leaves a run to resume."""
    dataset = plan.dataset
    record = RunRecord(
        method=plan.method,
        model=plan.sam.name,
        checkpoint_sha256=plan.sam.checkpoint_sha256,
        weights_sha256=_identity(plan.sam),
        device=str(plan.sam.device),
        dtype=str(plan.sam.dtype).removeprefix("torch."),
        backend=backend,
        compiled=compiled,
        references=tuple(ReferenceRecord(**one.to_dict()) for one in plan.references),
        negatives=tuple(ReferenceRecord(**one.to_dict()) for one in plan.negatives),
        parameters=plan.parameters,
        versions=versions(),
        masks_dir=str(plan.masks_dir),
        run_id=plan.run_id,
        state=RunState.RUNNING,
    )
    if plan.exists:
        record = replace(record, earlier=_earlier(read_record(dataset, plan.name), record))
    if plan.exists and plan.overwrite:
        _start_again(plan, record)
    else:
        database.surviving(lambda: _register(plan, record))
    return record


def _register(plan: Plan, record: RunRecord) -> None:
    """Store a run's record; may be repeated where the database has forgotten it."""
    dataset, name = plan.dataset, plan.name
    database.refresh(dataset)
    if name in naming.run_names(dataset):
        write_record(dataset, name, record)
    else:
        drop_unlisted_runs(dataset, name)
        # On the photos of the call, so that a run that is killed right now can still be resumed.
        # One that names more than a document can hold is stored by its results alone.
        view = plan.samples if database.named_in(plan.samples) <= PART else dataset.view()
        view.register_run(name, record.to_config(dataset.init_run()))
    _save_results(plan, ids=plan.ids, timings={})


def _prepare(plan: Plan, ended: bool) -> None:
    """The folder and the fields of a run that is registered; ``ended``: the last call was whole."""
    dataset = plan.dataset
    folders.claim_folder(plan.masks_dir, dataset, plan.name, plan.run_id)
    run_fields.declare(dataset, plan.fields, plan.targets)
    queries.make_index(dataset, plan.name)
    if plan.exists:
        adopt_threshold(dataset, plan.name)
        if plan.overwrite or not ended:  # a killed process has left files behind
            named = run_fields.paths_of(dataset, plan.fields)
            folders.sweep(plan.masks_dir, dataset, plan.run_id, named)


def _start_again(plan: Plan, record: RunRecord) -> None:
    """Empty the photos of the call and record what it was asked for: both, or neither.

    The results are stored under an id that is written down first. Where they are not there yet,
    nothing has happened; where they are, the rest can be done.
    """
    dataset, results = plan.dataset, ObjectId()
    config = record.to_config(dataset.init_run()).serialize()
    earlier = results_id(dataset, "runs", plan.name)
    details: dict[str, Any] = {"name": plan.name, "config": config}
    files = folders.samples_of(run_fields.paths_of(dataset, plan.fields))
    details |= {"results": results, "earlier": earlier, "files": files}
    journal.begin(dataset, plan.name, "overwrite", details)
    made = dataset.init_run_results(plan.name, ids=plan.ids, timings={})

    def start() -> None:
        database.refresh(dataset)  # the database may have forgotten what is in memory
        put_results(made, results)
        _overwrite(dataset, details)

    database.surviving(start)
    journal.end(dataset, plan.name, "overwrite")


def _overwrite(dataset: Any, details: dict[str, Any]) -> None:
    name = details["name"]
    if not use_results(dataset, "runs", name, details["results"], details["earlier"]):
        return  # nothing has happened yet
    record = RunRecord.from_config(SimpleNamespace(**details["config"]), name)
    write_record(dataset, name, record)
    ids = read_outcome(dataset, name).ids or []
    forget_steps(dataset, name, ids)
    clear_samples(dataset, ids, naming.names_of(run_fields.fields_of(name, record)))
    if details.get("files"):
        make_durable()  # no file goes before the database has let go of it for good
        folders.clear_orphans(details["files"])


def _identity(sam: Any) -> str | None:
    """What a checkpoint's hash does not say: weights of one's own, or another backbone."""
    identity = weights_sha256(sam)
    return None if identity == sam.checkpoint_sha256 else identity


def _earlier(old: RunRecord, new: RunRecord) -> tuple[EarlierCall, ...]:
    """Masks of the earlier call may stay: the record says how they were made."""
    names = ("method", "model", "references", "negatives")
    same = all(getattr(old, name) == getattr(new, name) for name in names)
    return old.earlier if same else (*old.earlier, old.call)


def _forgotten(plan: Plan) -> list[PhotoTask]:
    """Photos that the database knows no result of, though they are through."""
    make_durable()  # what it knows then, it does not forget

    def look() -> list[PhotoTask]:
        photos = database.photos_of(plan.dataset)
        ended = set(photos.exists(plan.name).values("id"))
        ended |= set(photos.exists(f"{plan.name}{ERROR}").values("id"))
        missing = {task.id for task in plan.tasks if not task.again} - ended
        if missing:  # those that somebody has deleted in the meantime are not lost
            missing = database.living(plan.dataset, missing)
        return [task for task in plan.tasks if task.id in missing]

    return with_retries(look)


class _Saver:
    """Collects results and writes them in bulk.

    Attributes:
        plan: the run.
        saved: how many photos are in the database.
    """

    def __init__(self, plan: Plan, lease: Lease) -> None:
        self.saved = 0
        self.plan = plan
        self._lease = lease
        self._groups = {task.id: task.group for task in plan.tasks}
        self._sequences = {task.id: track_name(task) for task in plan.tasks if task.sequence}
        self._waiting: list[PhotoResult] = []
        self._flushed = time.monotonic()

    @property
    def finished(self) -> int:
        """How many photos are through, saved or about to be."""
        return self.saved + len(self._waiting)

    def add(self, results: list[PhotoResult]) -> None:
        """Take results; write them when there are enough, or when the last time is long ago."""
        self._waiting += results
        late = time.monotonic() - self._flushed > FLUSH_SECONDS
        if late or len(self._waiting) >= FLUSH_PHOTOS:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting."""
        if self._waiting:
            self._lease.check()
            writing.write(
                self.plan.dataset, self.plan.fields, self._waiting, self._name, self._track
            )
            self.saved += len(self._waiting)
            self._waiting = []
        self._flushed = time.monotonic()

    def _name(self, sample_id: str) -> str:
        return self.plan.object_name(self._groups[sample_id])

    def _track(self, sample_id: str) -> str:
        sequence = self._sequences.get(sample_id, "")
        return f"{self.plan.run_id}|{sequence}" if sequence else ""


def _process(saver: _Saver, job: Job, backend: Backend, progress: Progress) -> None:
    results, total = backend.run(job), sum(not task.again for task in job.tasks)
    requests = StopRequests(saver.plan.dataset, saver.plan.name)
    with reporting(progress, total) as report, closing(results):
        try:
            report(0)
            for chunk in results:
                saver.add(chunk)
                if chunk:  # a hook is called once for each number of photos
                    report(saver.finished)
                if saver.finished < total:
                    requests.check(saver.finished, total)
            saver.flush()
        except (StoppedError, RunStoppedError, KeyboardInterrupt):
            saver.flush()  # what is finished is kept
            raise


def _end(
    plan: Plan, record: RunRecord, state: str, reason: str, job: Job, done: int, seconds: float
) -> None:
    timings = {
        "seconds": round(seconds, 3),
        "photos": done,
        "photos_per_second": round(done / seconds, 3) if seconds > 0 else 0.0,
        "fitting": round(plan.fitting, 3),
        **job.timings.to_dict(),
    }
    ended = replace(record, state=state, reason=reason)

    def store() -> None:
        database.refresh(plan.dataset)  # only what differs is written
        _save_results(plan, ids=plan.ids, timings=timings)
        write_record(plan.dataset, plan.name, ended)

    database.surviving(store)


def _save_results(plan: Plan, **values: Any) -> None:
    """Replace a run's results; written down first, so that a killed process leaves none over."""
    dataset, name, results = plan.dataset, plan.name, ObjectId()
    earlier = results_id(dataset, "runs", name)
    details = {"name": name, "results": results, "earlier": earlier}
    journal.begin(dataset, name, "results", details)
    made = dataset.init_run_results(name, **values)
    with_retries(put_results, made, results)
    with_retries(_use, dataset, details)
    journal.end(dataset, name, "results")


def _use(dataset: Any, details: dict[str, Any]) -> None:
    use_results(dataset, "runs", details["name"], details["results"], details["earlier"])


FINISH = {"overwrite": _overwrite, "results": _use}
