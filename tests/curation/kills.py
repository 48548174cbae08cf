"""A process killed before each thing it does to the database and to files, operation by operation.

    python -m tests.curation.kills [OPERATION ...] [--every K] [--first N] [--after]

A child, forked from a process that has imported everything, kills itself before its n-th write
command or file operation, for every n. Then somebody looks at the dataset's runs, as any next call
does. An operation that is one step to the user must have happened as a whole or not at all, and
must work when it is called again; one that can be gone on with must end as if nobody had killed it.
In neither case may anything be left: no file that nobody names, no stored results of nobody, no
lease, no intent.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    import tests.conftest  # noqa: F401  # a database and folders of its own

import fiftyone as fo

import fiftyone_persam as fp

from . import jobs
from .kill_operations import OPERATIONS, Operation
from .world import World, differences


def killed_job(
    name: str, operation: str, folder: str, after: bool, n: int | None, report: str | None
) -> None:
    """The child: does it, and kills itself before the n-th thing it does, or after a write too."""
    dataset = fo.load_dataset(name)
    jobs.light(n, [folder, fo.config.default_dataset_dir], before_only=not after)
    OPERATIONS[operation].act(dataset, Path(folder))
    if report is not None:
        Path(report).write_text(json.dumps(jobs.FUSE.count))


@dataclass
class Report:
    """What came of the kills of one operation."""

    operation: str
    points: int = 0
    tried: list[int] = field(default_factory=list)
    faults: dict[int, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.operation}: {len(self.tried)} of {self.points} points tried, "
        return text + f"{len(self.faults)} left something"


def kill_everywhere(
    name: str,
    folder: Path,
    every: int = 1,
    first: int = 1,
    log: Callable[[str], Any] = print,
    after: bool = False,
    most: int | None = None,
) -> Report:
    """Kill an operation before every ``every``-th thing it does, and look at what is left.

    Args:
        name: one of `OPERATIONS`.
        folder: an empty one.
        every: of so many points one is tried.
        first: the first of them; those of ``most`` begin at another one each time instead.
        log: told of what was left.
        after: kill after each write of the database too, when it was carried out.
        most: try so many points, spread evenly.
    """
    operation = OPERATIONS[name]
    world = World(folder)
    try:
        operation.prepare(world.dataset, world.folder)
        world.keep()
        before = world.picture()
        count = folder / "count.json"
        start = (jobs.start, killed_job, world.dataset.name, name, str(world.folder), after)
        code = jobs.finish(start[0](*start[1:], None, str(count)))
        if code:
            raise AssertionError(f"{name} ended with {code} though nobody killed it")
        world.dataset.reload()
        after = world.picture()
        report = Report(name, json.loads(count.read_text()))
        points = range(first, report.points + 1, every)
        if most is not None:
            every = max(1, report.points // most)
            points = range(1 + (first - 1) % every, report.points + 1, every)[:most]
        for n in points:
            world.put_back()
            code = jobs.finish(start[0](*start[1:], n, None))
            report.tried.append(n)
            faults = _judge(world, operation, before, after)
            if code not in (-signal.SIGKILL, 0):
                faults.append(f"it ended with {code}")
            if faults:
                report.faults[n] = faults
                log(f"{name}, point {n}:")
                for fault in faults[:12]:
                    log(f"    {fault}")
        return report
    finally:
        world.close()


def _judge(
    world: World, operation: Operation, before: dict[str, Any], after: dict[str, Any]
) -> list[str]:
    try:
        fp.list_runs(world.dataset)  # as anybody does who comes next
        now = world.picture()
        nearest = min((differences(now, one) for one in (before, after)), key=len)
        if operation.whole and nearest:
            return [f"after the next look: {line}" for line in nearest]
        if not operation.whole or not differences(now, before):
            (operation.go_on or operation.act)(world.dataset, world.folder)
            now = world.picture()
        return [f"gone on with: {line}" for line in differences(now, after)]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def main(given: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--after", action="store_true", help="after each write of the database too")
    arguments = parser.parse_args(None if given is None else list(given))
    reports = []
    for name in arguments.operations:
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            report = kill_everywhere(
                name, Path(folder), arguments.every, arguments.first, after=arguments.after
            )
            print(f"{report}, {time.monotonic() - started:.0f} s", flush=True)
            reports.append(report)
    print(
        f"{sum(len(r.tried) for r in reports)} kills, "
        f"{sum(len(r.faults) for r in reports)} left something"
    )
    return int(any(report.faults for report in reports))


if __name__ == "__main__":
    sys.exit(main())
