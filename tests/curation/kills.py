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
import hashlib
import json
import math
import shutil
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
import fiftyone.core.odm as odm

import fiftyone_persam as fp
from fiftyone_persam.curation.runs.folders import MARK

from . import jobs
from .discs import make_photos, tiny_sam

PHOTOS = 3
THRESHOLDS = (0.2, 0.99)


# What is done -------------------------------------------------------------------------------------


def _segment(dataset: Any, folder: Path) -> None:
    jobs.run_on(dataset, progress=False, presence_threshold=THRESHOLDS[0])


def _segmented(dataset: Any, folder: Path) -> None:
    _segment(dataset, folder)
    fp.curation.set_review(dataset.limit(1), "x", "accepted")
    fp.evaluate(dataset, "x", eval_key="scores", include_references=True, progress=False)


def _interrupted(dataset: Any, folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    try:
        jobs.run_on(dataset, progress=stop, batch_size=1, presence_threshold=THRESHOLDS[0])
    except KeyboardInterrupt:
        return
    raise AssertionError("the run was not interrupted")


def _resume(dataset: Any, folder: Path) -> None:
    fp.resume_run(dataset, "x", model=tiny_sam(), batch_size=3, progress=False)


def _overwrite(dataset: Any, folder: Path) -> None:
    # FiftyOne's `last` goes by an estimate of how many there are, wrong after a killed database.
    last = dataset[dataset.values("id")[-1]]
    jobs.run_on(dataset, progress=False, overwrite=True, reference=last, presence_threshold=0.5)


def _segment_or_resume(dataset: Any, folder: Path) -> None:
    (_resume if fp.list_runs(dataset) else _segment)(dataset, folder)


def _overwrite_or_resume(dataset: Any, folder: Path) -> None:
    done = fp.load_run(dataset, "x").state == "done"
    (_overwrite if done else _resume)(dataset, folder)


def _tried(dataset: Any, folder: Path) -> None:
    """A run of a model that can be tried again, of which one mask is to be the next reference."""
    settings = {"method": "persam", "out_field": "x", "mask_storage": "file"}
    fp.segment(
        dataset, dataset.first(), model="sam_lite", presence_threshold=0, progress=False, **settings
    )
    fp.curation.set_review(dataset.limit(1), "x", "accepted")


def _again(dataset: Any, folder: Path) -> None:
    fp.curation.segment_again(dataset, "x", dataset.last(), label_field="x", progress=False)


def _again_or_resume(dataset: Any, folder: Path) -> None:
    run = fp.load_run(dataset, "x")
    if run.state != "done":
        fp.resume_run(dataset, "x", progress=False)
    elif len(run.record.references) == 1:
        _again(dataset, folder)


def _evaluate(dataset: Any, folder: Path) -> None:
    fp.evaluate(dataset, "x", eval_key="scores", progress=False)


def _evaluate_anew(dataset: Any, folder: Path) -> None:
    fp.evaluate(dataset, "x", eval_key="other", progress=False)


def _threshold(dataset: Any, folder: Path) -> None:
    fp.curation.set_presence_threshold(dataset, "x", THRESHOLDS[1])


def _threshold_moved(dataset: Any, folder: Path) -> None:
    _segmented(dataset, folder)
    _threshold(dataset, folder)


def _review(dataset: Any, folder: Path) -> None:
    fp.curation.set_review(dataset.limit(2), "x", "rejected")


def _promote(dataset: Any, folder: Path) -> None:
    fp.curation.promote(dataset, "x", "labels", overwrite=True)


def _promoted(dataset: Any, folder: Path) -> None:
    _segmented(dataset, folder)
    _promote(dataset, folder)
    fp.curation.set_review(dataset, "x", "accepted")


def _export(dataset: Any, folder: Path) -> None:
    fp.curation.export_masks(dataset, "x", folder / "out", format="masks", overwrite=True)


def _exported(dataset: Any, folder: Path) -> None:
    _segmented(dataset, folder)
    _export(dataset, folder)
    fp.curation.set_review(dataset, "x", "accepted")


def _orphaned(dataset: Any, folder: Path) -> None:
    """Fields of a run without its record, as in a clone of a view."""
    _segment(dataset, folder)
    fp.curation.set_review(dataset.limit(1), "x", "accepted")
    dataset.delete_run("x")


def _accepted(dataset: Any, folder: Path) -> None:
    jobs.run_on(dataset, progress=False, presence_threshold=0)
    fp.curation.set_review(dataset, "x", "accepted")


def _rejected(dataset: Any, folder: Path) -> None:
    """A run with a mask that a later run can learn from."""
    _segmented(dataset, folder)
    fp.curation.set_presence_threshold(dataset, "x", 0)
    fp.curation.set_review(dataset.skip(1).limit(1), "x", "rejected")


def _training_set(dataset: Any, folder: Path) -> None:
    fp.export_dreambooth(dataset, "x", folder / "out", overwrite=True)


Act = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Operation:
    """Something that is done to a dataset.

    Attributes:
        prepare: what the dataset is before.
        act: what is done.
        go_on: what a user does after it was killed; the same again if None.
        whole: whether it must have happened as a whole or not at all, without going on.
    """

    prepare: Act
    act: Act
    go_on: Act | None = None
    whole: bool = True


OPERATIONS: dict[str, Operation] = {
    "segment": Operation(lambda d, f: None, _segment, _segment_or_resume, whole=False),
    "resume": Operation(_interrupted, _resume, _resume, whole=False),
    "overwrite": Operation(_segmented, _overwrite, _overwrite_or_resume, whole=False),
    "again": Operation(_tried, _again, _again_or_resume, whole=False),
    "rename": Operation(_segmented, lambda d, f: fp.rename_run(d, "x", "y") and None),
    "delete": Operation(_rejected, lambda d, f: fp.delete_run(d, "x")),
    "evaluate": Operation(_segmented, _evaluate_anew),
    "evaluate anew": Operation(_segmented, _evaluate),
    "threshold": Operation(_segmented, _threshold),
    "undo threshold": Operation(_threshold_moved, lambda d, f: fp.curation.undo_review(d, "x")),
    "review": Operation(_segmented, _review, whole=False),
    "promote": Operation(_segmented, _promote, whole=False),
    "promote again": Operation(_promoted, _promote, whole=False),
    "export": Operation(_segmented, _export, whole=False),
    "export again": Operation(_exported, _export, whole=False),
    "training set": Operation(_accepted, _training_set, whole=False),
    "adopt": Operation(_orphaned, lambda d, f: fp.adopt_run(d, "x") and None),
}


def killed_job(
    name: str, operation: str, folder: str, after: bool, n: int | None, report: str | None
) -> None:
    """The child: does it, and kills itself before the n-th thing it does, or after a write too."""
    dataset = fo.load_dataset(name)
    jobs.light(n, [folder, fo.config.default_dataset_dir], before_only=not after)
    OPERATIONS[operation].act(dataset, Path(folder))
    if report is not None:
        Path(report).write_text(json.dumps(jobs.FUSE.count))


# What there is ------------------------------------------------------------------------------------


class World:
    """A dataset that can be put back to what it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "world"
        (self.folder / "photos").mkdir(parents=True)
        self.dataset = fo.Dataset(f"kills-{time.monotonic_ns()}", persistent=True)
        self.dataset.add_samples(make_photos(self.folder / "photos", PHOTOS))
        self.masks = Path(fo.config.default_dataset_dir) / self.dataset.slug
        self._places = {self.folder: folder / "kept_world", self.masks: folder / "kept_masks"}
        self._stored: dict[str, tuple[dict[str, Any], list[Any]]] = {}

    def keep(self) -> None:
        """Note what there is, in the database and on the disk."""
        database = odm.get_db_conn()
        identity = self.dataset._doc.id
        of_dataset = {
            "datasets": {"_id": identity},
            self.dataset._sample_collection_name: {},
            "runs": {"_dataset_id": identity},
            "execution_store": {"dataset_id": identity},
            "fs.files": {},
            "fs.chunks": {},
        }
        self._stored = {
            name: (which, list(database[name].find(which))) for name, which in of_dataset.items()
        }
        for place, kept in self._places.items():
            shutil.rmtree(kept, ignore_errors=True)
            if place.exists():
                shutil.copytree(place, kept)

    def put_back(self) -> None:
        """Make it all as it was."""
        database = odm.get_db_conn()
        for name, (which, documents) in self._stored.items():
            database[name].delete_many(which)
            if documents:
                database[name].insert_many(documents)
        for place, kept in self._places.items():
            shutil.rmtree(place, ignore_errors=True)
            if kept.exists():
                shutil.copytree(kept, place)
        self.dataset.reload()

    def picture(self) -> dict[str, Any]:
        """What a user sees of it, without ids, times and names of files; and what is left over."""
        database = odm.get_db_conn()
        identity = self.dataset._doc.id
        document = database.datasets.find_one({"_id": identity})
        runs = {run["_id"]: run for run in database.runs.find({"_dataset_id": identity})}
        files = {one["_id"] for one in database["fs.files"].find({}, {"_id": 1})}
        chunks = set(database["fs.chunks"].distinct("files_id"))
        named: set[str] = set()
        samples = {}
        collection = database[self.dataset._sample_collection_name]
        for sample in collection.find():
            samples[sample["filepath"]] = {
                name: _plain(value, named)
                for name, value in sample.items()
                if name not in ("_id", "last_modified_at", "created_at", "filepath", "_media_type")
                and value is not None
            }
        config = document.get("app_config", {})
        present = [
            path
            for path in self.masks.rglob("*")
            if path.is_file() and path.name != MARK and str(path) not in named
        ]
        exported = self.folder / "out"
        stores = list(database.execution_store.find({"dataset_id": identity}))
        return {
            "fields": sorted(one["name"] for one in document["sample_fields"]),
            "targets": document.get("mask_targets", {}),
            "label schemas": sorted(document.get("label_schemas") or {}),
            "sidebar": [
                [g["name"], sorted(g["paths"])]
                for g in config.get("sidebar_groups") or []
                if g["paths"]
            ],
            "runs": {key: _run(runs.get(i), files) for key, i in document["runs"].items()},
            "evaluations": {
                key: _run(runs.get(i), files) for key, i in document["evaluations"].items()
            },
            "samples": samples,
            "exported": {
                str(path.relative_to(exported)): _hash(path.read_bytes())
                for path in exported.rglob("*")
                if path.is_file() and path.suffix == ".png"
            },
            "reviews": {
                one["key"]: [_without_ids(one["value"])]
                for one in stores
                if one["store_name"] == "fiftyone-persam-review"
            },
            "left": {
                "files": sorted(path.name for path in present),
                "staging": [path.name for path in self.folder.iterdir() if path.name[0] == "."],
                "results": len(files - {run.get("results") for run in database.runs.find()}),
                "chunks": len(chunks - files),
                "runs": len(set(runs) - set(_ids(document))),
                "stores": sorted(
                    f"{one['store_name']}: {one['key']}"
                    for one in stores
                    if one["store_name"] != "fiftyone-persam-review"
                ),
            },
        }

    def close(self) -> None:
        self.dataset.delete()
        shutil.rmtree(self.masks, ignore_errors=True)


def _ids(document: dict[str, Any]) -> list[Any]:
    return [*document["runs"].values(), *document["evaluations"].values()]


def _run(document: dict[str, Any] | None, files: set[Any]) -> dict[str, Any]:
    if document is None:
        return {"gone": True}
    config = {
        name: document["config"].get(name)
        for name in ("state", "parameters", "references", "method", "pred_field", "gt_field")
    }
    return {**config, "key": document["key"], "results": document.get("results") in files}


def _plain(value: Any, named: set[str]) -> Any:
    if isinstance(value, dict):
        found = {}
        for name, inner in value.items():
            if name in ("mask_path", "map_path") and inner:
                named.add(inner)
                path = Path(inner)
                found[name] = _hash(path.read_bytes()) if path.is_file() else "missing"
            elif name != "_id":
                found[name] = _plain(inner, named)
        return found
    if isinstance(value, list):
        return [_plain(one, named) for one in value]
    return _hash(value) if isinstance(value, bytes) else value


def _without_ids(value: Any) -> Any:
    steps = [{k: v for k, v in step.items() if k != "id"} for step in value["undo"]]
    return {**value, "undo": steps}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two pictures differ, a line each.

    Numbers may differ by the rounding of batches of another size, which a resumed run has.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for name in sorted({*one, *other}, key=str):
            found += differences(one.get(name), other.get(name), f"{where}/{Path(str(name)).name}")
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for n, pair in pairs for line in differences(*pair, f"{where}/{n}")]
    same = one == other
    if isinstance(one, float) and isinstance(other, float):
        same = math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6)
    return [] if same else [f"{where}: {one!r:.120} instead of {other!r:.120}"]


# Killing ------------------------------------------------------------------------------------------


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
