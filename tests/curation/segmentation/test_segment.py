from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation.runs.folders import MARK
from fiftyone_persam.curation.segmentation.segment import segment
from fiftyone_persam.engine import DiskCache, MemoryCache, WriteError

from ..discs import SIZE, Make, disc, make_photos, state_of, tiny_sam


def run_on(samples: Any, **changes: Any) -> fp.curation.Run:
    root = samples._root_dataset
    values = {
        "reference": root.first(),
        "model": tiny_sam(),
        "method": "persam",
        "out_field": "x",
        "presence_threshold": 0,
    }
    return segment(samples, **{**values, **changes})


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 4))


def test_what_a_run_writes(photos: fo.Dataset) -> None:
    run = run_on(photos, similarity=True, prompts=True)
    assert run.state == "done" and run.errors == {}
    assert run.counts == {"segmented": 4, "absent": 0, "failed": 0, "remaining": 0}
    assert run.timings["photos"] == 4 and run.timings["photos_per_second"] > 0
    assert photos.mask_targets["x"] == {255: "object"}
    for sample in photos:
        mask = sample.x.get_mask()
        assert mask.shape == SIZE and set(np.unique(mask)) <= {0, 255}
        assert 0 <= sample.x_presence <= 1 and isinstance(sample.x_score, float)
        assert sample.x_error is None
        assert sample.x_similarity.map.dtype == np.uint8
        (positive, negative) = sample.x_prompts.keypoints
        assert (positive.label, negative.label) == ("object", "background")
        assert all(0 <= v <= 1 for v in positive.points[0])
    text = run.summary()
    assert "persam with custom on cpu" in text and "red_0.png" in text and "4 segmented" in text


def test_predictions_are_those_of_the_library(photos: fo.Dataset) -> None:
    run_on(photos, model="sam_lite", method="persam_f", similarity=True)
    first = photos.first()
    reference = fp.Reference(first.filepath, mask=first.ground_truth.mask > 0)
    predictor = fp.PerSAMF(fp.load_sam("sam_lite"), presence_threshold=0).fit(reference)
    for sample in photos:
        (expected,) = predictor.predict([sample.filepath])
        got = sample.x.get_mask() > 0
        # Photos in a batch may differ from single ones in the last bit of a logit.
        assert (got != expected.mask).mean() < 0.002
        assert sample.x_score == pytest.approx(expected.score, abs=1e-4)
        assert sample.x_presence == pytest.approx(expected.presence, abs=1e-3)
        heat = np.clip(expected.similarity, 0, 1) * 255
        np.testing.assert_allclose(sample.x_similarity.map, heat, atol=1)


@pytest.mark.parametrize("label_type", ["segmentation", "detections", "both"])
@pytest.mark.parametrize("storage", ["file", "inline"])
def test_label_types_and_storage(photos: fo.Dataset, label_type: str, storage: str) -> None:
    run = run_on(photos, label_type=label_type, mask_storage=storage)
    names = {path.name for path in run.masks_dir.iterdir()} - {MARK}
    for sample in photos:
        whole = sample["x"] if label_type != "detections" else None
        found = {"segmentation": None, "detections": "x", "both": "x_instances"}[label_type]
        if whole is not None:
            assert (whole.mask_path is not None) == (storage == "file")
        if found is not None:
            (instance,) = sample[found].detections
            assert instance.label == "object" and instance.confidence == sample.x_score
            assert (instance.mask_path is not None) == (storage == "file")
            pasted = instance.to_segmentation(frame_size=(SIZE[1], SIZE[0])).mask
            crop = instance.get_mask()
            assert crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any()
            if whole is not None:
                np.testing.assert_array_equal(pasted > 0, whole.get_mask() > 0)
    assert bool(names) == (storage == "file")
    ids = set(photos.values("id"))
    assert {name.split(".")[0] for name in names} <= ids


def test_small_masks_are_inline_and_large_ones_files(dataset: Make, tmp_path: Path) -> None:
    small, large = make_photos(tmp_path, 2)
    Image.new("RGB", (300, 300), (200, 30, 30)).save(large.filepath)
    made = dataset([small, large])
    run_on(made)
    paths = made.values("x.mask_path")
    assert paths[0] is None
    assert Path(paths[1]).name == f"{made.last().id}.png"
    assert cv2.imread(paths[1], cv2.IMREAD_UNCHANGED).shape == (300, 300)


def test_each_group_has_its_own_reference(dataset: Make, tmp_path: Path) -> None:
    made = dataset(make_photos(tmp_path, 3, ("red", "blue")))
    references = made.match(fo.ViewField("role") == "reference")
    run = run_on(
        made,
        reference=references,
        group_by="colour",
        similarity=True,
        label_type="both",
    )
    assert run.counts["segmented"] == 6
    assert [one["group"] for one in run.config.references] == ["red", "blue"]
    assert "2 photos of 2 objects" in run.summary()
    for colour in ("red", "blue"):
        alone = made.match(fo.ViewField("colour") == colour)
        run_on(alone, reference=alone.first(), out_field=colour, similarity=True)
        for sample in alone:
            np.testing.assert_allclose(
                sample.x_similarity.map.astype(int),
                sample[f"{colour}_similarity"].map.astype(int),
                atol=1,
            )
            (instance,) = sample.x_instances.detections
            assert instance.label == colour


def test_references_of_several_objects_without_groups(
    dataset: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = dataset(make_photos(tmp_path, 2, ("red", "blue")))
    photos.set_values("object", photos.values("colour"))
    view = photos.match(fo.ViewField("role") == "reference")
    run_on(photos, reference=view, group_by="object")
    run_on(photos, reference=photos.limit(2), out_field="y")
    assert caplog.messages == []
    run_on(photos, reference=view, out_field="z")
    (message,) = caplog.messages
    assert message.startswith("the references show 2 objects (blue, red) and are taken as one")


def test_a_group_without_a_reference_is_named(dataset: Make, tmp_path: Path) -> None:
    made = dataset(make_photos(tmp_path, 2, ("red", "blue")))
    with pytest.raises(fp.BadReferenceError, match="no reference for 'blue' in 'colour'"):
        run_on(made, group_by="colour")
    made.set_values("colour", [None, "red", "red", "red"])
    with pytest.raises(fp.PersamError, match="1 photos have no value in 'colour'"):
        run_on(made, reference=made.last(), group_by="colour")


def test_several_references_of_one_object(photos: fo.Dataset) -> None:
    run = run_on(photos, reference=photos.limit(2))
    assert [one["group"] for one in run.config.references] == ["", ""]
    assert [one["sample_id"] for one in run.config.references] == photos.limit(2).values("id")
    assert run.counts == {"segmented": 4, "absent": 0, "failed": 0, "remaining": 0}


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        (fo.Detection(label="ball", bounding_box=[0.125, 0.25, 0.375, 0.5]), "box"),
        (fo.Keypoint(label="ball", points=[(0.3125, 0.5)]), "points"),
    ],
)
def test_references_without_a_mask(photos: fo.Dataset, label: Any, kind: str) -> None:
    first = photos.first()
    first["mark"] = label
    first.save()
    # Real weights: random ones may see nothing in the box.
    run = run_on(
        photos, reference=first.id, label_field="mark", label_type="detections", model="sam_lite"
    )
    assert run.config.references[0]["kind"] == kind and run.counts["segmented"] == 4
    for index, sample in enumerate(photos):
        (found,) = sample.x.detections
        assert found.label == "ball"
        mask = found.to_segmentation(frame_size=(SIZE[1], SIZE[0])).mask > 0
        assert fp.iou(mask, disc(20 + 8 * index, 24)) > 0.5


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "text"])
def test_a_bad_photo_costs_only_itself(photos: fo.Dataset, fault: str) -> None:
    bad = photos.skip(1).first()
    content = Path(bad.filepath).read_bytes()
    if fault == "missing":
        Path(bad.filepath).unlink()
    else:
        broken = {"empty": b"", "truncated": content[:100], "text": b"no photo"}[fault]
        Path(bad.filepath).write_bytes(broken)
    run = run_on(photos)
    assert list(run.errors) == [bad.id]
    assert run.counts["segmented"] == 3 and run.counts["failed"] == 1
    assert "red_1.png" in photos[bad.id].x_error and "\n" not in photos[bad.id].x_error
    assert photos[bad.id].x is None
    assert bad.id in run.summary()
    # Mended, it is tried again, and nothing else is.
    Path(bad.filepath).write_bytes(content)
    before = dict(zip(*photos.values(["id", "x.id"]), strict=True))
    again = fp.resume_run(photos, "x", model=tiny_sam())
    after = dict(zip(*photos.values(["id", "x.id"]), strict=True))
    assert again.counts["segmented"] == 4 and again.errors == {}
    assert {i for i in after if after[i] != before[i]} == {bad.id}


def test_an_absent_object(photos: fo.Dataset) -> None:
    run = run_on(photos, presence_threshold=1.0, label_type="both", mask_storage="file")
    absent = photos.match(fo.ViewField("x_presence") < 1.0)
    assert run.counts["absent"] == len(absent) > 0
    kept = run_on(photos, out_field="y", label_type="both")
    assert kept.counts["absent"] == 0
    for sample in absent:
        assert not sample.x.get_mask().any() and sample.x_instances.detections == []
        np.testing.assert_array_equal(sample.x_withheld.get_mask(), sample.y.get_mask())
        assert len(sample.x_instances_withheld.detections) == len(sample.y_instances.detections)
    assert not photos.has_field("y_withheld")


def test_a_turned_photo(dataset: Make, tmp_path: Path) -> None:
    samples = make_photos(tmp_path, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (90, 40), (220, 40, 30)).save(path, exif=exif)  # shown as 40 x 90
    made = dataset([*samples, fo.Sample(str(path))])
    run_on(made)
    assert made.last().x.get_mask().shape == (90, 40)


def test_a_run_of_that_name_is_gone_on_with_or_replaced(photos: fo.Dataset) -> None:
    first = run_on(photos.limit(2))
    with pytest.raises(fp.RunConflictError, match=r"skip_existing=True.*overwrite=True"):
        run_on(photos)
    labels = dict(zip(*photos.values(["id", "x.id"]), strict=True))
    run_on(photos, skip_existing=True)
    now = dict(zip(*photos.values(["id", "x.id"]), strict=True))
    assert None not in now.values()
    assert [now[i] for i in labels if labels[i]] == [v for v in labels.values() if v]
    last = photos.skip(3)
    run = run_on(last, overwrite=True, reference=photos.skip(1).first())
    renewed = dict(zip(*photos.values(["id", "x.id"]), strict=True))
    assert [i for i in now if now[i] != renewed[i]] == last.values("id")
    assert run.config.earlier[0]["references"] == first.config.references
    with pytest.raises(fp.RunConflictError, match="writes other fields"):
        run_on(photos, overwrite=True, label_type="detections")


def test_a_part_made_in_another_way_is_on_record(photos: fo.Dataset) -> None:
    assert run_on(photos.limit(2)).config.earlier == []
    assert run_on(photos.limit(3), skip_existing=True).config.earlier == []
    run = run_on(photos, skip_existing=True, method="persam_f")
    assert [past["method"] for past in run.config.earlier] == ["persam"]
    assert run.config.method == "persam_f" and run.counts["segmented"] == 4


def test_nothing_left_to_do_needs_no_model(photos: fo.Dataset) -> None:
    run_on(photos)
    before = state_of(photos)
    run = run_on(photos, skip_existing=True, model="sam_vit_h")
    assert run.counts["remaining"] == 0
    assert state_of(photos) == before


def test_progress_is_reported_and_can_stop_a_run(photos: fo.Dataset) -> None:
    seen: list[tuple[int, int]] = []

    class EnoughError(Exception):
        pass

    def hook(done: int, total: int) -> None:
        seen.append((done, total))
        if done >= 2:
            raise EnoughError("that will do")

    with pytest.raises(EnoughError, match="that will do"):
        run_on(photos, progress=hook, batch_size=1)
    run = fp.load_run(photos, "x")
    assert run.state == "interrupted" and run.counts["remaining"] > 0
    assert run.counts["segmented"] >= 2
    assert seen[0] == (0, 4)
    seen.clear()
    resumed = fp.resume_run(
        photos, "x", model=tiny_sam(), progress=lambda d, t: seen.append((d, t))
    )
    assert resumed.state == "done" and resumed.counts["segmented"] == 4
    assert seen[-1] == (run.counts["remaining"],) * 2


def test_ctrl_c_leaves_a_run_to_resume(photos: fo.Dataset) -> None:
    class Interrupted:
        def run(self, job: Any) -> Any:
            from fiftyone_persam.engine import LocalBackend

            for chunk in LocalBackend().run(job):
                yield chunk
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(photos, batch_size=2, backend=Interrupted())
    run = fp.load_run(photos, "x")
    assert run.state == "interrupted"
    assert fp.resume_run(photos, "x", model=tiny_sam()).counts["segmented"] == 4


def test_a_full_disk_is_one_clear_error(
    photos: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone_persam.engine import rendering

    original = rendering.write_mask
    written: list[Path] = []

    def full(mask: Any, path: Path) -> None:
        if len(written) == 2:
            raise WriteError(f"cannot write {path}: No space left on device")
        written.append(path)
        original(mask, path)

    monkeypatch.setattr(rendering, "write_mask", full)
    with pytest.raises(fp.PersamError, match="No space left"):
        run_on(photos, mask_storage="file", batch_size=1)
    run = fp.load_run(photos, "x")
    assert run.state == "failed" and "No space left" in run.summary()
    assert all(Path(p).is_file() for p in photos.values("x.mask_path") if p)
    monkeypatch.undo()
    assert fp.resume_run(photos, "x", model=tiny_sam()).counts["segmented"] == 4


@pytest.mark.parametrize("kind", ["memory", "folder", "default", "disk"])
def test_a_cache_spares_the_encoder(photos: fo.Dataset, tmp_path: Path, kind: str) -> None:
    caches = {"memory": MemoryCache(), "folder": str(tmp_path / "c"), "default": True}
    cache = caches.get(kind, DiskCache(tmp_path / "d"))
    sam = fp.load_sam(tiny_sam())
    encoded: list[int] = []
    hook = sam.sam.image_encoder.register_forward_hook(
        lambda module, given, out: encoded.append(len(out))
    )
    try:
        run_on(photos, model=sam, cache=cache)
        looks = 1  # at the reference made smaller; as it is, it is one of the photos
        assert sum(encoded) == 4 + looks
        run = run_on(photos, model=sam, cache=cache, out_field="y", method="persam_f")
        assert sum(encoded) == 4 + looks and run.timings["photos_encoded"] == 0
        other = photos.last()
        again = run_on(photos, reference=other, model=sam, cache=cache, out_field="z")
        assert sum(encoded) == 4 + 2 * looks and again.timings["photos_encoded"] == 0
        run_on(photos, model=sam, out_field="w")
        assert sum(encoded) == 9 + 3 * looks
    finally:
        hook.remove()
    for cached, fresh in zip(photos.values("x.mask"), photos.values("w.mask"), strict=True):
        assert np.mean(cached != fresh) < 0.01  # batches of other sizes round otherwise
    Image.new("RGB", (30, 20)).save(photos.last().filepath)  # another photo under the same name
    again = run_on(photos, model=sam, cache=cache, overwrite=True)
    assert again.timings["photos_encoded"] == 1
    assert photos.last().x.mask.shape == (20, 30)


def test_a_masks_dir_of_your_own(photos: fo.Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    run = run_on(photos, masks_dir=tmp_path / "mine", mask_storage="file")
    assert len(list((tmp_path / "mine").glob("*.png"))) == 4
    with pytest.raises(fp.RunConflictError, match="belongs to run 'x'"):
        run_on(photos, masks_dir=tmp_path / "mine", out_field="y")
    fp.delete_run(photos, run.name)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_all_slices_of_a_grouped_dataset(photos: fo.Dataset, dataset: Make) -> None:
    grouped = dataset()
    grouped.add_group_field("group", default="left")
    sides, paths = ("left", "right"), photos.values("filepath")
    for pair in (paths[:2], paths[2:]):
        group = fo.Group()
        named = zip(sides, pair, strict=True)
        grouped.add_samples([fo.Sample(path, group=group.element(side)) for side, path in named])
    view = grouped.select_group_slices(["left", "right"])
    given = {"model": tiny_sam(), "method": "persam", "presence_threshold": 0, "out_field": "x"}
    run = segment(view, photos.first(), **given)
    assert run.counts["segmented"] == len(run.view()) == len(view.exists("x")) == 4
    right = grouped.select_group_slices("right")
    right.clear_sample_field("x")
    counts = {"segmented": 2, "absent": 0, "failed": 0, "remaining": 2}
    assert fp.load_run(grouped, "x").counts == counts
    again = segment(view, photos.first(), skip_existing=True, **given)
    assert again.timings["photos"] == 2 and len(view.exists("x")) == 4
    segment(right, photos.first(), overwrite=True, **given)
    assert len(view.exists("x")) == 4
    view.set_values("truth", [fo.Segmentation(mask=np.ones((4, 4), np.uint8))] * 4)
    results = fp.evaluate(view, "x", gt_field="truth", eval_key="key")
    assert results.scores.photos == 4 and None not in view.values("key_iou")
    fp.delete_run(grouped, "x")
    assert not grouped.has_field("x")
