"""Live progress of a library call that blocks, in the App and across processes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import fiftyone.operators as foo

from fiftyone_persam.curation.fiftyone_api import dataset_id
from fiftyone_persam.errors import RunStoppedError

PROGRESS_STORE = "fiftyone-persam-runs"
INTERVAL = 0.25  # seconds between two updates of a progress bar
PUBLISH_INTERVAL = 1.0  # seconds between two entries on the board
SILENCE = 30.0  # seconds without news, after which a run that nobody holds has died

RUNNING, DONE, STOPPED, ERROR = "running", "done", "stopped", "error"


class ProgressStore:
    """What is running on a dataset, in whichever process.

    Kept in FiftyOne's execution store, so the App's server, delegated workers and the panel all
    see it.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._store = foo.ExecutionStore.create(PROGRESS_STORE, dataset_id(dataset))

    def publish(self, run: str, state: str, label: str = "", fraction: float = 0.0) -> None:
        """Tell everybody how far ``run`` is."""
        entry = {"state": state, "label": label, "fraction": fraction, "time": time.time()}
        self._store.set(f"run/{run}", entry)

    def mark_shown(self, run: str) -> None:
        """The App that started the run has shown how it ended: no need to tell it again."""
        if entry := self._store.get(f"run/{run}"):
            self._store.set(f"run/{run}", {**entry, "shown": True})

    def entries(self) -> dict[str, dict[str, Any]]:
        """What was published last about each run, by its name."""
        keys = [key for key in self._store.list_keys() if key.startswith("run/")]
        found = {key.removeprefix("run/"): self._store.get(key) for key in keys}
        return {run: entry for run, entry in found.items() if entry}

    def running(self) -> dict[str, dict[str, Any]]:
        """What is in progress now; what a killed process has left does not count."""
        from fiftyone_persam.curation.runs.lease import holder_of

        now = time.time()
        return {
            run: entry
            for run, entry in self.entries().items()
            if entry.get("state") == RUNNING
            and (now - entry["time"] < SILENCE or holder_of(self._dataset, run))
        }

    def remove(self, run: str) -> None:
        """Forget a run."""
        self._store.delete(f"run/{run}")


@dataclass
class Progress:
    """How far a run is. Call it with photos done and their total.

    Raises `RunStoppedError` after `stop`; what is finished stays.
    """

    on_report: Callable[[Progress], None] | None = None
    done: int = 0
    total: int = 0
    stage: str = "Segmenting"
    started: float = field(default_factory=time.monotonic)
    _last: float = 0.0
    _looked: float = 0.0
    _published_in: ProgressStore | None = None
    _run: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """End the run at its next photo."""
        self._stop.set()

    def published(
        self, dataset: Any, run: str, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do the work of a run, and tell everybody how far it is and how it ends.

        Args:
            dataset: the run's dataset
            run: its name
            work: gives the operator's result, with its ``summary``
        """
        self._published_in, self._run = ProgressStore(dataset), run
        self._published_in.publish(run, RUNNING, "Preparing")
        state, label = ERROR, ""
        try:
            result = work()
            state, label = DONE, str(result["summary"])
            return result
        except BaseException as error:
            state = STOPPED if isinstance(error, RunStoppedError) else ERROR
            label = str(error)
            raise
        finally:
            self._published_in.publish(run, state, label, self.fraction)

    def __call__(self, done: int, total: int) -> None:
        """Take note of photos done; raises `RunStoppedError` if the run shall stop."""
        self.done, self.total = done, total
        if self._stop.is_set():
            raise self._stopped()
        now = time.monotonic()
        if self.on_report and (now - self._last >= INTERVAL or done >= total):
            self._last = now
            self.on_report(self)
        if self._published_in and now - self._looked >= PUBLISH_INTERVAL:
            self._looked = now
            self._published_in.publish(self._run, RUNNING, str(self), self.fraction)

    def _stopped(self) -> RunStoppedError:
        return RunStoppedError(
            f"run {self._run!r} was stopped at {self.done} of {self.total} photos: "
            "resume it to segment the rest"
        )

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.done / self.total if self.total else 0.0

    def __str__(self) -> str:
        if not self.total:
            return "Preparing"
        text = f"{self.stage}: {self.done} of {self.total}"
        if 0 < self.done < self.total:
            seconds = time.monotonic() - self.started
            text += f", {duration(seconds / self.done * (self.total - self.done))} left"
        return text


def duration(seconds: float) -> str:
    """Seconds as a person would say them: 40 s, 3 min, 2.5 h."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


DETACHED = object()


def stream(
    ctx: Any, work: Callable[[Progress], Any], elsewhere: Callable[[], Any] | None = None
) -> Generator[Any, None, Any]:
    """Run ``work`` in a thread and yield the App's progress updates until it is done.

    Returns what ``work`` returns and raises what it raises. Closing the generator, as a closed
    browser does, lets the work go on: its results are in the database either way.

    Args:
        ctx: the execution's context
        work: what to do
        elsewhere: makes the one update that is yielded, at the first report, where something else
            shows the progress and the end: the App's own dialog covers the page until the
            generator ends, and cannot stop anything. Returns ``DETACHED`` then, at once.
    """
    reports: queue.Queue[tuple[str, float] | None] = queue.Queue()
    outcome: dict[str, Any] = {}
    progress = Progress(on_report=lambda p: reports.put((str(p), p.fraction)))

    def target() -> None:
        try:
            outcome["result"] = work(progress)
        except BaseException as error:
            outcome["error"] = error
        finally:
            reports.put(None)

    thread = threading.Thread(target=target, name="fiftyone-persam", daemon=True)
    thread.start()
    if elsewhere is None:
        yield ctx.ops.set_progress(label=str(progress), progress=0.0)
    try:
        while (report := reports.get()) is not None:
            if elsewhere is not None:
                yield elsewhere()
                return DETACHED
            yield ctx.ops.set_progress(label=report[0], progress=report[1])
    except KeyboardInterrupt:  # Ctrl-C in an SDK call; the run ends at its next photo
        progress.stop()
        thread.join()
        raise
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]
