"""The main job by mouse: pick a photo, run, see the masks; the same delegated to a worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest
from playwright.sync_api import expect

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_counts

from .driver import SLOW, App

FORM = "Segment my object"
MANY = 100  # three photos each: more than any machine segments before a click
WORKER = "from fiftyone.core.cli import main; main()"  # the command `fiftyone`


@pytest.fixture
def photos(dataset, album: Path) -> fo.Dataset:
    """Three photos of a cat, the first one is the reference."""
    return dataset(
        fo.Dataset.from_dir(dataset_dir=str(album), dataset_type=fp.PerSegDataset, objects=["cat"])
    )


def test_pick_run_and_see(app: App, photos):
    app.open(photos.name)
    app.select(0)
    app.action("segment_from_reference").click()
    form = app.form
    expect(form.locator("img[src^='data:image']")).to_be_visible(timeout=SLOW)
    expect(form.get_by_text("3 photos will be segmented")).to_be_visible()
    app.shot("segment-1-form")
    app.submit("Segment")
    expect(app.page.get_by_text("my_object: 3 segmented")).to_be_visible(timeout=SLOW)
    app.shot("segment-2-done")

    photos.reload()
    run = fp.load_run(photos, "my_object")
    assert run.counts["segmented"] == 3
    app.expect_shown("my_object")
    panel = app.panel("review_masks")
    expect(panel.get_by_role("button", name="To do 3")).to_be_enabled()
    app.shot("segment-3-review")

    app.start(FORM)
    expect(app.form.get_by_text(re.compile("as in run 'my_object'"))).to_be_visible()


def test_the_evaluation_panel_has_the_sdk_s_numbers(app: App, photos):
    fp.segment(photos, reference=photos.first(), out_field="mine")
    results = fp.evaluate(photos, "mine", eval_key="mine_eval")
    photos.reload()
    app.open(photos.name)
    app.open_panel("model_evaluation_panel_builtin")
    panel = app.open_evaluation("mine_eval")
    for name in ("mIoU", "bIoU"):
        value = f"{results.metrics()[name]:.3f}".rstrip("0")  # as the panel writes numbers
        row = panel.get_by_role("row").filter(has_text=re.compile(rf"^{name}, objects"))
        expect(row.get_by_role("cell").last).to_have_text(value)
    app.shot("evaluate-panel")


def test_a_run_that_is_stopped_can_be_resumed(app: App, photos):
    paths = photos.values("filepath")
    photos.add_samples([fo.Sample(path, role="target") for path in paths * MANY])
    app.open(photos.name)
    app.select(0)
    app.action("segment_from_reference").click()
    expect(app.form.get_by_text(f"{len(photos)} photos will be segmented")).to_be_visible(
        timeout=SLOW
    )
    app.submit("Segment")
    panel = app.panel("review_masks")
    expect(panel.get_by_text(re.compile(r"Segmenting: [1-9]\d* of"))).to_be_visible(timeout=SLOW)
    app.shot("stop-1-running")
    panel.get_by_role("button", name="Stop").click()
    expect(app.page.get_by_text("was stopped at")).to_be_visible(timeout=SLOW)
    app.shot("stop-2-stopped")
    run = fp.load_run(photos, "my_object")
    done = run.counts["segmented"]
    assert run.state == "interrupted" and 0 < done < len(photos)

    left = [i for i in photos.values("id") if i not in set(photos.exists("my_object").values("id"))]
    photos.delete_samples(left[2:])  # what stays is enough to see that it goes on
    app.reload()
    panel = app.panel("review_masks")
    expect(panel.get_by_text("Stopped: 2 photos left")).to_be_visible()
    app.shot("stop-3-resume")
    panel.get_by_role("button", name="Resume").click()
    app.submit("Resume")
    expect(app.page.get_by_text(f"my_object: {done + 2} segmented")).to_be_visible(timeout=SLOW)
    expect(panel.get_by_role("button", name=f"To do {done + 2}")).to_be_enabled()
    expect(panel.get_by_role("button", name="Resume")).to_have_count(0)
    assert fp.load_run(photos, "my_object").state == "done"


@pytest.fixture
def worker() -> Iterator[subprocess.Popen]:
    """A real worker: `fiftyone delegated launch` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, "delegated", "launch", "-t", "local"],
        start_new_session=True,
    )
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_delegated_to_a_worker(app: App, photos, worker):
    app.open(photos.name)
    app.select(0)
    app.start(FORM)
    expect(app.form.get_by_text("3 photos will be segmented")).to_be_visible(timeout=SLOW)
    app.schedule()
    expect(app.page.get_by_text("my_object: 3 segmented")).to_be_visible(timeout=SLOW)
    app.shot("segment-4-delegated")
    # The grid knows the new field without anybody reloading the page.
    expect(app.page.locator("[data-cy=checkbox-my_object]")).to_be_visible()
    photos.reload()
    assert fp.load_run(photos, "my_object").counts["segmented"] == 3


def test_again_with_a_second_reference(app: App, photos):
    first, second, *_ = photos.values("id")
    fp.segment(photos, reference=first, out_field="mine")
    set_review(photos, "mine", "accepted", [first])
    kept = photos[first]["mine"].mask_path
    stamp = os.stat(kept).st_mtime_ns
    app.open(photos.name)
    panel = app.open_panel("review_masks")
    expect(panel.get_by_role("button", name="Accepted 1")).to_be_enabled()
    app.select(1)
    panel.get_by_role("button", name="Add reference").click()
    expect(app.form.get_by_text("2 photos will be segmented again")).to_be_visible(timeout=SLOW)
    app.shot("again-1-form")
    app.submit("Run again")
    expect(app.page.get_by_text("mine: 3 segmented")).to_be_visible(timeout=SLOW)
    again = fp.load_run(photos, "mine")
    assert [r["sample_id"] for r in again.config.references] == [first, second]
    assert first not in again.ids()
    assert os.stat(kept).st_mtime_ns == stamp
    counts = review_counts(photos, "mine")
    assert (counts.accepted, counts.todo) == (1, 2)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nothing selected", "Click the photo that shows your object"),
        ("no label", "has no label in"),
        ("empty mask", "is empty"),
        ("two instances", "choose one"),
        ("not downloaded", "is not on this machine"),
    ],
)
def test_what_the_form_refuses(app: App, photos, fault, message):
    if fault == "no label":
        photos.clear_sample_field("ground_truth")
    elif fault == "empty mask":
        sample = photos.first()
        sample["ground_truth"] = fo.Segmentation(mask=sample["ground_truth"].get_mask() * 0)
        sample.save()
    elif fault == "two instances":
        box = fo.Detection(label="cat", bounding_box=[0.1, 0.1, 0.5, 0.5])
        photos.delete_sample_field("ground_truth")
        photos.set_values(
            "boxes", [fo.Detections(detections=[box.copy(), box.copy()]) for _ in photos]
        )
    photos.set_values("role", ["target"] * len(photos))  # no group references to fall back on
    app.open(photos.name)
    if fault != "nothing selected":
        app.select(0)
    app.start(FORM)
    if fault == "not downloaded":
        expect(app.form.get_by_text("3 photos will be segmented")).to_be_visible(timeout=SLOW)
        app.choose("sam_lite", "mobile_sam")
        expect(app.form.get_by_text(re.compile("Download mobile_sam"))).to_be_visible()
    expect(app.form.get_by_text(re.compile(message)).first).to_be_visible(timeout=SLOW)
    expect(app.button("Segment")).to_be_disabled()
    if fault == "not downloaded":
        app.form.get_by_role("checkbox", name=re.compile("Download mobile_sam")).click()
        expect(app.button("Segment")).to_be_enabled()
    app.shot(f"refused-{fault.replace(' ', '-')}")


def test_an_object_is_marked_in_a_photo_without_labels(app: App, dataset, album):
    """Photos and nothing else: the form takes a box too, and the panel leads on."""
    files = sorted((album / "Images" / "cat").iterdir())
    photos = dataset([fo.Sample(str(path)) for path in files])
    app.open(photos.name)
    app.expect_drawn()
    app.select(0)
    form = app.start("Segment my object")
    expect(form.get_by_text("show your object here")).to_be_visible(timeout=SLOW)
    form.get_by_role("radio", name="A box").click()
    expect(form.get_by_alt_text("The photo and the box")).to_be_visible(timeout=SLOW)
    app.submit("Segment")
    panel = app.panel("review_masks")
    expect(panel.get_by_role("button", name="Accept", exact=True)).to_be_visible(timeout=SLOW)
    photos.reload()
    (marked,) = photos.first()["my_object_reference"].detections
    (run,) = fp.list_runs(photos)
    assert run.config.references[0]["label_id"] == marked.id
