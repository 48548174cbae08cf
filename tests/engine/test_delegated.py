"""Several of FiftyOne's own workers, each with a shard of the same dataset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

import fiftyone_persam as fp

from ..operators.context import link_plugin, operator

COMMAND = [sys.executable, "-c", "from fiftyone.core.cli import main; main()"]  # `fiftyone`
PATIENCE = 150.0


@pytest.fixture
def workers() -> Iterator[list[subprocess.Popen]]:
    """Two times `fiftyone delegated launch`."""
    link_plugin()
    started = [
        subprocess.Popen([*COMMAND, "delegated", "launch"], start_new_session=True)
        for _ in range(2)
    ]
    yield started
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def operations(service: Any, dataset: fo.Dataset) -> list[Any]:
    return list(service.list_operations(dataset_name=dataset.name))


@pytest.mark.slow
def test_two_workers_share_a_dataset(
    dataset: Any, album: Path, workers: list[subprocess.Popen]
) -> None:
    photos = dataset(fo.Dataset.from_dir(dataset_dir=str(album), dataset_type=fp.PerSegDataset))
    photos.persistent = True
    reference, service = photos.first(), DelegatedOperationService()
    ids = photos.values("id")
    shards = {f"shard_{n}": photos.select(ids[n::2]) for n in range(2)}
    for name, shard in shards.items():
        operator("segment_from_reference")(shard, reference, out_field=name, delegate=True)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        states = [one.run_state for one in operations(service, photos)]
        if set(states) <= {"completed", "failed"}:
            break
        time.sleep(0.25)
    done = operations(service, photos)
    for one in done:
        service.delete_operation(one.id)
    assert [one.run_state for one in done] == ["completed"] * 2, [one.result for one in done]
    assert all(process.poll() is None for process in workers)
    photos.reload()
    for name, shard in shards.items():
        run = fp.load_run(photos, name)
        assert run.state == "done" and run.counts["remaining"] == run.counts["failed"] == 0
        assert sorted(photos.exists(name).values("id")) == sorted(shard.values("id"))
