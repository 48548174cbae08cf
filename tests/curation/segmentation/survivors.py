"""What a run must be that somebody has cut off, and then gone on with."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation.runs import lease
from fiftyone_persam.curation.runs.folders import MARK

from .. import jobs
from ..discs import state_of, tiny_sam


def persistent(dataset: fo.Dataset) -> fo.Dataset:
    """The dataset, which other processes that end do not delete."""
    dataset.persistent = True
    return dataset


def masks_of(dataset: fo.Dataset, run: str = "x") -> dict[str, np.ndarray]:
    """What was found in each photo, by file name: the object may be absent from some."""
    aside = f"{run}_withheld"
    found = {}
    for sample in dataset:
        withheld = sample[aside] if dataset.has_field(aside) else None
        found[sample.filename] = (withheld or sample[run]).get_mask() > 0
    return found


def referenced_files(dataset: fo.Dataset) -> list[str]:
    found = []
    for name, field in dataset.get_field_schema().items():
        kind = getattr(field, "document_type", None)
        if name.partition("_")[0] != "x":  # another run, with a folder of its own
            continue
        if kind is fo.Segmentation:
            found += [path for path in dataset.values(f"{name}.mask_path") if path]
        elif kind is fo.Detections:
            paths = dataset.values(f"{name}.detections.mask_path", unwind=True)
            found += [path for path in paths if path]
    return found


def expect_whole(dataset: fo.Dataset, expected: dict[str, np.ndarray]) -> None:
    """Every sample has exactly one result, the right one, and every file is some sample's."""
    dataset.reload()
    run = fp.load_run(dataset, "x")
    assert run.state == "done"
    assert run.counts["segmented"] == len(expected) and run.counts["remaining"] == 0
    assert run.errors == {}
    for name, mask in masks_of(dataset).items():
        assert mask.shape == expected[name].shape
        # Photos in another batch may differ in the last bit of a logit.
        assert (mask != expected[name]).mean() < 0.005, name
    for suffix in ("score", "presence", "agreement", "similarity", "prompts", "instances"):
        assert None not in dataset.values(f"x_{suffix}"), suffix
    files = referenced_files(dataset)
    present = {path.name for path in run.masks_dir.iterdir()} - {MARK}
    wanted = {Path(path).name for path in files if Path(path).parent == run.masks_dir}
    assert not [name for name in present if name.endswith(".part")]
    assert wanted <= present
    # A whole file of a photo that was cut off before its database entry is its later result's.
    ids = set(dataset.values("id"))
    assert {name.split(".")[0] for name in present} <= ids
    for path in files:
        with Image.open(path) as image:
            image.load()  # raises on a file that is cut off


def expect_gone(dataset: fo.Dataset, before: dict[str, Any]) -> None:
    """Nothing of the run is left, neither in the database nor on the disk."""
    with pytest.raises(fp.PersamError, match="no run 'x'"):
        fp.load_run(dataset, "x")
    after = state_of(dataset)
    assert after["files"] == before["files"] and after["runs"] == []
    # The lease of a process that is dead keeps nobody out, and the next one takes it over.
    assert all(not lease.is_live(entry["value"]) for entry in after["store"])
    strip = ("last_modified_at",)
    for kept, now in zip(before["samples"], after["samples"], strict=True):
        assert {k: v for k, v in kept.items() if k not in strip} == {
            k: v for k, v in now.items() if k not in strip
        }
    names = [[field["name"] for field in s["dataset"]["sample_fields"]] for s in (before, after)]
    assert names[0] == names[1]
    assert after["dataset"]["mask_targets"] == before["dataset"]["mask_targets"]


def uninterrupted(dataset: fo.Dataset, report: Path, **changes: Any) -> tuple[float, int]:
    """Seconds and dangerous operations of a run that nobody stops."""
    jobs.finish(jobs.start(jobs.segment_job, dataset.name, None, None, out_field="warm_up"))
    dataset.reload()
    fp.delete_run(dataset, "warm_up")
    started = time.monotonic()
    job = jobs.start(jobs.segment_job, dataset.name, None, str(report), **changes)
    assert jobs.finish(job) == 0
    seconds = time.monotonic() - started
    dataset.reload()
    return seconds, json.loads(report.read_text())


def resume(dataset: fo.Dataset, **changes: Any) -> None:
    """What a user does next; a run that was not even registered is started again."""
    dataset.reload()
    if "x" in [run.name for run in fp.list_runs(dataset)]:
        assert fp.load_run(dataset, "x").state in ("interrupted", "done")
        fp.resume_run(dataset, "x", model=tiny_sam(), batch_size=3, num_workers=2)
    else:
        jobs.run_on(dataset, **changes)
