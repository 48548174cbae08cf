"""A Ray cluster of two machines, each a handful of processes of its own; one is killed."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation.runs import stopping
from fiftyone_persam.engine import Job, LocalBackend, RayBackend, ray_backend
from fiftyone_persam.errors import PersamError
from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import Reference

from ..curation.discs import SIZE, Make, make_photos, tiny_sam
from ..films import moving_discs, placed
from .fitted import MEETING, Meeting, make_job, paint, tiny

ray = pytest.importorskip("ray", reason="needs Ray: pip install fiftyone-persam[ray]")

pytestmark = pytest.mark.slow

PHOTOS = 12
STORE_BYTES = 80 * 2**20
# So that the death of a machine is noticed in seconds.
HEARTBEATS = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two machines with one core each; the first one is the head."""
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": STORE_BYTES}
    # Their processes import this package and these tests as this one does.
    os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ[MEETING] = str(tmp_path_factory.mktemp("meeting"))
    made = Cluster(
        initialize_head=True,
        head_node_args={**machine, "_system_config": HEARTBEATS, "include_dashboard": False},
    )
    made.second = made.add_node(**machine)
    try:
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, PHOTOS)


def collect(chunks: Iterator[list[Any]], job: Job) -> dict[str, Any]:
    """Results by id; every photo has exactly one."""
    results = [result for chunk in chunks for result in chunk]
    assert sorted(result.id for result in results) == sorted(task.id for task in job.tasks)
    return {result.id: result for result in results}


def test_photos_that_a_machine_does_not_see(cluster: Any, job: Job, tmp_path: Path) -> None:
    """One that nobody sees is an error of its own; a folder of masks that is not shared, of all."""
    Path(job.tasks[3].path).unlink()
    backend = RayBackend(address=cluster.address, workers=1)
    found = collect(backend.run(job), job)
    assert [name for name, result in found.items() if result.error] == ["photo3"]
    assert not ray.is_initialized()
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    (tmp_path / "masks").rmdir()
    with pytest.raises(PersamError, match=r"folder .*masks is not there on .*: choose a masks_dir"):
        list(backend.run(job))


def test_a_whole_run(cluster: Any, dataset: Make, tmp_path: Path) -> None:
    """The same record and fields as in one process."""
    (tmp_path / "bad.png").write_bytes(b"no photo")
    photos = dataset([*make_photos(tmp_path, 4), fo.Sample(str(tmp_path / "bad.png"))])
    backend = RayBackend(address=cluster.address, workers=1)
    run = fp.segment(
        photos,
        photos.first(),
        method="persam",
        model=tiny_sam(),
        out_field="x",
        mask_storage="file",
        presence_threshold=0,
        backend=backend,
    )
    assert (run.state, run.config.backend) == ("done", "ray")
    assert run.counts == {"segmented": 4, "absent": 0, "failed": 1, "remaining": 0}
    assert list(run.errors) == [photos.last().id]
    assert run.timings["photos_encoded"] == 4
    assert all(sample["x"].get_mask().shape == SIZE for sample in photos.limit(4))


def test_a_sequence_is_told_as_it_grows(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, although it is one shard that one actor has."""
    monkeypatch.setattr(ray_backend, "STEP_SECONDS", 0.0)
    job = make_job(tmp_path, 6)
    job.tasks = [replace(task, sequence="film", order=-n) for n, task in enumerate(job.tasks)]
    chunks = [*filter(None, RayBackend(address=cluster.address, workers=1).run(job))]
    assert len(chunks) > 2 and job.timings.photos_encoded == 6
    assert [one.id for chunk in chunks for one in chunk] == [t.id for t in job.tasks[::-1]]


def test_a_run_over_a_film_is_stopped_and_goes_on(
    cluster: Any, dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several objects; what it comes to is what one process comes to without a stop."""
    monkeypatch.setattr(ray_backend, "STEP_SECONDS", 0.0)
    monkeypatch.setattr(stopping, "INTERVAL", 0)
    videos = dataset([moving_discs(tmp_path / "film.mp4", 8)])
    settings = {"method": "persam", "model": tiny_sam(), "batch_size": 1, "presence_threshold": 0}
    objects = curation.objects_in((videos.first(), 1))
    assert len(objects) == 2
    whole = fp.segment(videos, objects, out_field="whole", progress=False, **settings)
    backend = RayBackend(address=cluster.address, workers=1)
    asked: list[bool] = []

    def ask(done: int, total: int) -> None:
        if done and not asked:
            asked.append(fp.stop_run(videos, "x"))

    with pytest.raises(fp.RunStoppedError, match=r"stopped at \d of 8 photos"):
        fp.segment(videos, objects, out_field="x", progress=ask, backend=backend, **settings)
    stopped = fp.load_run(videos, "x")
    assert asked == [True] and stopped.state == "interrupted"
    assert 0 < stopped.counts["segmented"] < 6 and stopped.counts["remaining"] > 2
    run = fp.resume_run(videos, "x", model=tiny_sam(), backend=backend, progress=False)
    assert (run.state, run.counts) == ("done", whole.counts)
    for frame in videos.first().frames.values():
        for one, same in zip(frame["whole"].detections, frame["x"].detections, strict=True):
            assert (one.label, one.index) == (same.label, same.index)
            assert iou(placed(one), placed(same)) > 0.99


def test_more_than_the_cluster_has(cluster: Any, job: Job) -> None:
    with pytest.raises(PersamError, match="no machine of the Ray cluster has 2 GPU and 1 CPU: ask"):
        list(RayBackend(address=cluster.address, gpus_per_worker=2).run(job))


def test_a_machine_is_killed_in_the_middle(cluster: Any, tmp_path: Path) -> None:
    """The last test: the second machine does not come back."""
    job = make_job(tmp_path, PHOTOS)
    expected = collect(LocalBackend().run(job), job)
    masks = {name: Image.open(one.mask.path).tobytes() for name, one in expected.items()}
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    # Both actors have photos in hand when the first result comes.
    photo, mask = paint(0)
    job.predictors = {"": Meeting(tiny()).fit(Reference(photo, mask=mask))}
    alive = []

    def killing() -> Iterator[list[Any]]:
        for chunk in RayBackend(address=cluster.address).run(job):
            if chunk and not alive:
                alive.append(sum(node["Alive"] for node in ray.nodes()))
                cluster.remove_node(cluster.second, allow_graceful=False)
            yield chunk

    found = collect(killing(), job)
    assert alive == [2]
    assert len(list(Path(os.environ[MEETING]).iterdir())) >= 2
    for name, result in found.items():
        assert result.error is None
        assert result.score == pytest.approx(expected[name].score, abs=1e-4)
        assert Image.open(result.mask.path).tobytes() == masks[name]
    assert len(list((tmp_path / "masks").iterdir())) == PHOTOS
    assert job.timings.photos_encoded >= PHOTOS


def test_nobody_at_the_address(job: Job) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(PersamError, match=f"no Ray cluster answers at {address} .*: start it"):
            list(RayBackend(address=address).run(job))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, "workers 0 .*: give"),
        ({"workers": True}, "workers True .*: give"),
        ({"gpus_per_worker": -1}, "gpus_per_worker -1 .*: give"),
        ({"cpus_per_worker": "2"}, "cpus_per_worker '2' .*: give"),
        ({"address": ""}, "address '' .*: give"),
    ],
)
def test_settings_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PersamError, match=message):
        RayBackend(**changes)
