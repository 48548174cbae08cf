from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.curation.runs import lease, loading, naming, writing
from fiftyone_persam.curation.segmentation.segment import segment

from ..discs import Make, files_of, make_photos, state_of, tiny_sam


def run_on(samples: Any, name: str = "x", **changes: Any) -> loading.Run:
    values = {"model": tiny_sam(), "method": "persam", "presence_threshold": 0}
    values |= {"reference": samples.first(), "out_field": name}
    return segment(samples, **{**values, **changes})


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 3))


def in_another_process(code: str) -> Any:
    """Run code that prints JSON, with this process's FiftyOne settings."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_runs_are_listed_and_loaded(photos: fo.Dataset) -> None:
    assert fp.list_runs(photos) == []
    photos.register_run("other_tool", photos.init_run(method="something"))
    run_on(photos, "x")
    run_on(photos, "a", similarity=True, label_type="detections")
    assert [run.name for run in fp.list_runs(photos.limit(1))] == ["x", "a"]
    run = fp.load_run(photos, "a")
    assert run.config.parameters["label_type"] == "detections"
    assert run.config.versions["fiftyone"] == fo.__version__
    assert run.config.checkpoint_sha256 is None and run.config.model == "custom"
    assert run.config.references[0]["sample_id"] == photos.first().id
    assert run.ids() == photos.values("id") == run.view().values("id")
    assert str(run) == "a: 3 segmented" and "done" in repr(run)
    with pytest.raises(fp.PersamError, match=r"no run 'y'.*\(a, x\)"):
        fp.load_run(photos, "y")
    with pytest.raises(fp.PersamError, match="not a FiftyOne dataset"):
        fp.list_runs("photos")


@pytest.mark.parametrize("label_type", ["segmentation", "detections", "objects"])
def test_what_was_decided_is_not_counted_as_absent(photos: fo.Dataset, label_type: str) -> None:
    """A mask that somebody has judged stays as it is under another threshold."""
    ids = photos.values("id")
    if label_type == "objects":
        box = fo.Detection(label="other", bounding_box=[0, 0, 0.3, 0.3])
        sample = photos[ids[1]]
        sample["boxes"] = fo.Detections(detections=[box])
        sample.save()
        sample = photos[ids[0]]
        sample["boxes"] = fo.Detections(
            detections=[fo.Detection(label="disc", bounding_box=[0.3, 0.3, 0.4, 0.4])]
        )
        sample.save()
        named = {"disc": ids[0], "other": ids[1]}
        run_on(photos, reference=named, label_field="boxes")
    else:
        run_on(photos, label_type=label_type)
    curation.set_review(photos, "x", "accepted", ids[:1])
    curation.set_review(photos, "x", "rejected", ids[1:2])
    curation.set_presence_threshold(photos, "x", 1.0)
    run, counts = fp.load_run(photos, "x"), curation.review_counts(photos, "x")
    assert run.counts["absent"] == counts.absent == 1
    assert str(run) == "x: 3 segmented (1 of them absent)"
    # An empty mask is absent whatever is said of it.
    curation.set_review(photos, "x", "accepted", ids[2:])
    assert fp.load_run(photos, "x").counts["absent"] == 1


def test_a_run_is_there_in_another_process(photos: fo.Dataset) -> None:
    run_on(photos)
    found = in_another_process(f"""
        import json, fiftyone as fo, fiftyone_persam as fp
        run = fp.load_run(fo.load_dataset({photos.name!r}), "x")
        print(json.dumps([run.state, run.counts, run.timings["photos"], len(run.ids())]))
    """)
    assert found == ["done", {"segmented": 3, "absent": 0, "failed": 0, "remaining": 0}, 3, 3]


def test_what_another_process_does_is_seen(photos: fo.Dataset) -> None:
    view = photos.limit(2)
    view.first()  # the view has been looked through
    in_another_process(f"""
        import fiftyone as fo, fiftyone_persam as fp
        from tests.curation.discs import tiny_sam
        dataset = fo.load_dataset({photos.name!r})
        fp.segment(dataset, dataset.first(), model=tiny_sam(), method="persam", out_field="x")
        print("{{}}")
    """)
    assert fp.load_run(photos, "x").counts["segmented"] == 3
    assert photos.first().x is not None


def test_deleting_a_run_leaves_nothing(photos: fo.Dataset) -> None:
    before = state_of(photos)
    schema = set(photos.get_field_schema())
    run = run_on(photos, label_type="both", similarity=True, prompts=True, mask_storage="file")
    fp.curation.set_review(photos, "x", "accepted")
    assert run.masks_dir.is_dir()
    fp.delete_run(photos, "x")
    assert set(photos.get_field_schema()) == schema
    assert not run.masks_dir.exists() and fp.list_runs(photos) == []
    assert "x" not in photos.mask_targets
    after = state_of(photos)
    strip = ("last_modified_at",)
    for kept, now in zip(before["samples"], after["samples"], strict=True):
        assert {k: v for k, v in kept.items() if k not in strip} == {
            k: v for k, v in now.items() if k not in strip
        }
    assert after["files"] == before["files"] and after["store"] == []
    run_on(photos)  # the name is free again


def test_other_runs_and_files_survive_a_deletion(photos: fo.Dataset) -> None:
    first = run_on(photos, "x", mask_storage="file")
    second = run_on(photos, "y", mask_storage="file")
    (first.masks_dir / "notes.txt").write_text("mine")
    kept = files_of(second.masks_dir)
    fp.delete_run(photos, "x")
    assert [path.name for path in first.masks_dir.iterdir()] == ["notes.txt"]
    assert files_of(second.masks_dir) == kept
    assert fp.load_run(photos, "y").counts["segmented"] == 3


def test_a_clone_never_touches_its_original(photos: fo.Dataset, dataset: Make) -> None:
    run = run_on(photos, mask_storage="file")
    before = files_of(run.masks_dir)
    clone = dataset(photos.clone())
    segment(
        clone, clone.first(), out_field="x", model=tiny_sam(), method="persam", overwrite=True,
        mask_storage="file", presence_threshold=0,
    )  # fmt: skip
    assert not {*clone.values("x.mask_path")} & {*photos.values("x.mask_path")}
    fp.delete_run(clone, "x")
    assert files_of(run.masks_dir) == before


def test_renaming(photos: fo.Dataset) -> None:
    run_on(photos, "x", label_type="both", prompts=True)
    run_on(photos, "taken")
    masks = photos.values("x.id")
    run = fp.rename_run(photos, "x", "y")
    assert run.name == "y" and photos.values("y.id") == masks
    assert not [name for name in photos.get_field_schema() if name.startswith("x")]
    assert photos.mask_targets["y"] == {255: "object"} and "x" not in photos.mask_targets
    for name, message in (
        ("taken", "belongs to run 'taken'"),
        ("ground_truth", "no run has written"),
        ("a b", "new_name 'a b'"),
    ):
        with pytest.raises(fp.PersamError, match=message):
            fp.rename_run(photos, "y", name)
    fp.delete_run(photos, "y")
    assert not [name for name in photos.get_field_schema() if name.startswith("y")]


def test_two_runs_do_not_share_fields(photos: fo.Dataset) -> None:
    run_on(photos, "x", label_type="both")
    for name in ("x_instances", "x_score"):
        with pytest.raises(fp.RunConflictError, match=f"{name}.*belongs to run 'x'"):
            run_on(photos, name)
    photos.register_run("other", photos.init_run(method="something"))
    with pytest.raises(fp.RunConflictError, match="of another tool"):
        run_on(photos, "other")


@pytest.mark.parametrize("companion", ["review", "edit", "score", "withheld"])
def test_a_run_never_takes_a_field_over(photos: fo.Dataset, companion: str) -> None:
    """Also none that only its review would write: it would be deleted with the run."""
    photos.set_values(f"x_{companion}", ["my notes"] * 3)
    before = state_of(photos)
    with pytest.raises(fp.PersamError, match=f"'x_{companion}' that no run has written"):
        run_on(photos, "x")
    assert state_of(photos) == before
    run_on(photos, "y")
    with pytest.raises(fp.PersamError, match=f"'x_{companion}' that no run has written"):
        fp.rename_run(photos, "y", "x")
    fp.delete_run(photos, "y")
    assert photos.values(f"x_{companion}") == ["my notes"] * 3


@pytest.mark.parametrize("companion", ["review", "edit"])
def test_the_fields_of_a_review_belong_to_the_run(photos: fo.Dataset, companion: str) -> None:
    run_on(photos, "x")
    assert naming.owner_of(photos, f"x_{companion}") == "x"
    with pytest.raises(fp.RunConflictError, match=f"x_{companion}.*belongs to run 'x'"):
        run_on(photos, f"x_{companion}")


def test_one_writer_at_a_time(photos: fo.Dataset) -> None:
    run_on(photos.limit(1))
    with lease.Lease(photos, "x"):
        before = state_of(photos)
        assert lease.holder_of(photos, "x")["pid"] == os.getpid()
        for action in (
            lambda: run_on(photos, skip_existing=True),
            lambda: fp.delete_run(photos, "x"),
            lambda: fp.rename_run(photos, "x", "y"),
        ):
            with pytest.raises(fp.RunConflictError, match=f"'x'.*process {os.getpid()} on "):
                action()
        assert state_of(photos) == before
    assert lease.holder_of(photos, "x") is None
    assert run_on(photos, skip_existing=True).counts["segmented"] == 3


def test_of_many_only_one_gets_the_lease(photos: fo.Dataset) -> None:
    won: list[int] = []
    refused: list[int] = []
    barrier, done = threading.Barrier(8), threading.Event()

    def grab(number: int) -> None:
        barrier.wait()
        try:
            with lease.Lease(photos, "x"):
                won.append(number)
                done.wait(30)
        except fp.RunConflictError:
            refused.append(number)
            if len(refused) == 7:
                done.set()

    threads = [threading.Thread(target=grab, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(refused) == 7


def test_a_lease_whose_end_was_forgotten_stands_in_nobodys_way(photos: fo.Dataset) -> None:
    """As by a database that is killed just after, while the process that had it lives on."""
    store = lease._store(photos._doc.id)
    with lease.Lease(photos, "x"):
        forgotten = store.get("x")
    store.set("x", forgotten)
    with lease.Lease(photos, "x"):
        assert store.get("x")["token"] != forgotten["token"]
        with pytest.raises(fp.RunConflictError), lease.Lease(photos, "x"):
            pass


def test_a_lease_that_was_taken_over_is_noticed(
    photos: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW", 0.01)
    with lease.Lease(photos, "x") as held:
        held.check()
        lease._store(photos._doc.id).set("x", {"token": "another", "host": "far", "pid": 1})
        assert held._lost.wait(10)
        with pytest.raises(fp.RunConflictError, match="taken over"):
            held.check()
    assert lease._store(photos._doc.id).get("x")["token"] == "another"


@pytest.mark.parametrize(
    ("host", "pid", "age", "live"),
    [
        (None, os.getpid(), 0, True),
        (None, 2**22 + 1, 0, False),
        ("far", 1, 0, True),
        ("far", 1, lease.EXPIRE + 1, False),
        (None, os.getpid(), lease.EXPIRE + 1, False),
    ],
    # Of this process's number none is made: each run of the tests would have other ones.
    ids=["this process", "no such process", "elsewhere", "elsewhere, silent", "this one, silent"],
)
def test_who_is_alive(host: str | None, pid: int, age: float, live: bool) -> None:
    import time

    holder = {"host": host or lease._me()["host"], "pid": pid, "time": time.time() - age}
    assert lease.is_live(holder) == live


KILLED = """
    import os, signal, sys
    import fiftyone as fo, fiftyone_persam as fp
    dataset = fo.load_dataset({name!r})
    def stop(done, total):
        if done >= {after}:
            os.kill(os.getpid(), signal.SIGKILL)
    fp.segment(dataset, dataset.first(), method="persam", out_field="x", mask_storage="file",
               batch_size=1, presence_threshold=0, progress=stop)
"""


def test_a_killed_run_is_resumed(dataset: Make, tmp_path: Path) -> None:
    made = dataset(make_photos(tmp_path, 5))
    made.persistent = True  # the other process ends without asking
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED.format(name=made.name, after=2))],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = fp.load_run(made, "x")
    assert run.state == "interrupted" and run.counts["remaining"] > 0
    assert run.config.model == "sam_lite" and run.config.checkpoint_sha256
    done = dict(zip(*made.exists("x").values(["id", "x.id"]), strict=True))
    part = run.masks_dir / f".{made.last().id}.png.{'0' * 32}.part"
    part.write_bytes(b"half")
    resumed = fp.resume_run(made, "x")
    assert resumed.state == "done" and resumed.counts["segmented"] == 5
    now = dict(zip(*made.values(["id", "x.id"]), strict=True))
    assert {i: now[i] for i in done} == done
    assert not part.exists()
    for path in made.values("x.mask_path"):
        assert np.asarray(Image.open(path)).shape == (48, 64)
    fp.delete_run(made, "x")
    assert not run.masks_dir.exists()


def test_a_run_that_was_stopped_while_it_began(
    photos: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fiftyone_persam.curation.runs.folders.claim_folder", stop)
        patch.setattr("fiftyone.Dataset.save_run_results", stop)
        with pytest.raises(KeyboardInterrupt):
            run_on(photos.limit(2), model="sam_lite")
    run = fp.load_run(photos, "x")
    assert run.state == "interrupted" and run.ids() == photos.limit(2).values("id")
    assert run.counts["remaining"] == 2
    run = fp.resume_run(photos, "x")
    assert run.state == "done" and run.counts["segmented"] == 2
    assert len(photos.load_run_view("x")) == 2


def test_a_resumed_run_keeps_to_its_reference(photos: fo.Dataset) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(photos, batch_size=1, progress=stop)
    with pytest.raises(fp.PersamError, match="model of your own"):
        fp.resume_run(photos, "x")
    with pytest.raises(fp.RunConflictError, match="other weights"):
        fp.resume_run(photos, "x", model="sam_lite")
    first = photos.first()
    mask = first.ground_truth.mask.copy()
    first.ground_truth = fo.Segmentation(mask=np.roll(mask, 2, axis=1))
    first.save()
    with pytest.raises(fp.BadReferenceError, match="has changed since the run began"):
        fp.resume_run(photos, "x", model=tiny_sam())
    first.ground_truth = fo.Segmentation(mask=mask)
    first.save()
    assert fp.resume_run(photos, "x", model=tiny_sam()).counts["segmented"] == 3
    photos.delete_samples(photos.skip(2).values("id"))
    assert fp.resume_run(photos, "x", model=tiny_sam()).counts["segmented"] == 2


@pytest.mark.parametrize("label_type", ["segmentation", "both"])
@pytest.mark.parametrize("storage", ["file", "inline"])
def test_withholding_loses_nothing(photos: fo.Dataset, label_type: str, storage: str) -> None:
    run = run_on(photos, label_type=label_type, mask_storage=storage)
    masks = [sample.x.get_mask() for sample in photos]
    ids = photos.values("id")[:2]
    writing.withhold(photos, run.fields, run.masks_dir, ids, absent=True)
    writing.withhold(photos, run.fields, run.masks_dir, ids, absent=True)  # twice is once
    for sample, mask in zip(photos, masks, strict=True):
        shown = sample.x.get_mask()
        assert shown.shape == mask.shape
        np.testing.assert_array_equal(shown, 0 if sample.id in ids else mask)
    writing.withhold(photos, run.fields, run.masks_dir, photos.values("id"), absent=False)
    for sample, mask in zip(photos, masks, strict=True):
        np.testing.assert_array_equal(sample.x.get_mask(), mask)
        assert sample.x_withheld is None
        if label_type == "both":
            assert len(sample.x_instances.detections) == 1
    fp.delete_run(photos, "x")
    assert not run.masks_dir.exists()


def test_what_was_said_of_old_masks_goes_with_them(photos: fo.Dataset) -> None:
    first, _, third = photos.values("id")
    run_on(photos)
    fp.curation.set_review(photos, "x", "accepted", [first, third])
    make_editable(photos, "x")
    run_on(photos.limit(2), overwrite=True)
    counts = fp.curation.review_counts(photos, "x")
    assert (counts.todo, counts.accepted) == (2, 1)
    assert photos.exists("x_edit").values("id") == [third]
    assert photos.values("x_review") == [None, None, "accepted"]
