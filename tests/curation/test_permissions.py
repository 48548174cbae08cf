"""Folders that the user may not write to: one line, and nothing has changed."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation

from . import jobs
from .discs import Make, files_of, make_photos, state_of

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user of the machine may look into, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="persam-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def photos(dataset: Make, public: Path) -> fo.Dataset:
    """Run "x", accepted and evaluated, with masks in ``public/masks``."""
    (public / "photos").mkdir()
    made = dataset(make_photos(public / "photos", 3))
    made.persistent = True  # another process ends without asking
    options = {"label_type": "segmentation", "presence_threshold": 0}
    jobs.run_on(made, progress=False, masks_dir=public / "masks", **options)
    curation.set_review(made.limit(2), "x", "accepted")
    fp.evaluate(made, "x", eval_key="e", include_references=True)
    return made


CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "delete": lambda d, f: fp.delete_run(d, "x"),
    "promote": lambda d, f: curation.promote(d, "x", "mine"),
    "promote elsewhere": lambda d, f: curation.promote(d, "x", "mine", masks_dir=f / "mine"),
    "threshold": lambda d, f: curation.set_presence_threshold(d, "x", 1),
    "export": lambda d, f: curation.export_masks(d, "x", f / "out"),
    "export as FiftyOne": lambda d, f: curation.export_masks(d, "x", f / "out", format="fiftyone"),
    "export for training": lambda d, f: fp.export_dreambooth(d, "x", f / "out"),
    "segment": lambda d, f: jobs.run_on(d, out_field="y", masks_dir=f / "masks2", progress=False),
    "overwrite": lambda d, f: jobs.run_on(
        d, overwrite=True, progress=False, label_type="segmentation", presence_threshold=0
    ),
}


def as_nobody_job(name: str, what: str, folder: str, report: str) -> None:
    """Does it as a user without any right, and reports what it raised."""
    file = open(report, "w")  # noqa: SIM115  # nobody may not open it
    dataset = fo.load_dataset(name)
    for module in pkgutil.walk_packages(fp.__path__, "fiftyone_persam."):
        if ".curation" in module.name or ".datasets" in module.name:
            importlib.import_module(module.name)  # nobody may not read Python's own files
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        CALLS[what](dataset, Path(folder))
        found: list[Any] = ["", ""]
    except BaseException as error:
        found = [isinstance(error, fp.PersamError) and "one", f"{error!s}"]
    with file:
        json.dump(found, file)


@pytest.mark.parametrize("what", CALLS)
def test_a_folder_without_the_right_to_write(
    photos: fo.Dataset, public: Path, tmp_path: Path, what: str
) -> None:
    for folder in (public, public / "masks"):
        folder.chmod(0o555)
    before, files = _plain(photos), files_of(public)
    report = tmp_path / "report.json"
    job = jobs.start(as_nobody_job, photos.name, what, str(public), str(report))
    assert jobs.finish(job) == 0
    kind, message = json.loads(report.read_text())
    assert kind == "one", message
    assert "ermission" in message and str(public) in message and "\n" not in message
    photos.reload()
    assert _plain(photos) == before and files_of(public) == files
    for folder in (public, public / "masks"):
        folder.chmod(0o755)
    CALLS[what](photos, public)  # and then it works
    assert photos.first().filepath and all(run.state == "done" for run in fp.list_runs(photos))
    if what == "delete":
        assert not (public / "masks").exists() and not photos.has_field("x")


def _plain(photos: fo.Dataset) -> dict[str, Any]:
    """What the database has, without times."""
    found = state_of(photos)
    document = found["dataset"]
    samples = [{k: v for k, v in s.items() if k != "last_modified_at"} for s in found["samples"]]
    fields = [field["name"] for field in document["sample_fields"]]
    runs = [{k: v for k, v in run.items() if k != "last_modified_at"} for run in found["runs"]]
    stores = [s["value"] for s in found["store"] if s["store_name"] == "fiftyone-persam-review"]
    return {
        "samples": samples,
        "fields": fields,
        "runs": runs,
        "stores": stores,
        "evaluations": document["evaluations"],
        "targets": document["mask_targets"],
    }
