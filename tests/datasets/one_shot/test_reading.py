"""Official layouts in, classes and examples out; whatever is malformed is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fiftyone_persam.datasets.one_shot import BENCHMARKS, read_benchmark
from fiftyone_persam.datasets.one_shot.regions import load_mask, load_view
from fiftyone_persam.errors import DatasetLayoutError, PersamError

from .layouts import (
    box_of,
    polygon_of,
    runs_of,
    write_coco,
    write_fss,
    write_lvis,
    write_paco,
    write_pascal,
)

WRITERS = {
    "fss1000": write_fss,
    "lvis92i": write_lvis,
    "coco20i": write_coco,
    "paco_part": write_paco,
    "pascal_part": write_pascal,
}


@pytest.mark.parametrize(
    ("name", "classes", "folds"),
    [
        ("fss1000", 2, [0]),
        ("lvis92i", 10, list(range(10))),
        ("coco20i", 8, [0, 1, 2, 3]),
        ("paco_part", 4, [0, 1, 2, 3]),
        ("pascal_part", 2, [0]),
    ],
)
def test_a_layout_is_read(name, classes, folds, source, tmp_path):
    index = read_benchmark(name, WRITERS[name](tmp_path, source))
    assert (index.name, len(index.classes), index.folds) == (name, classes, folds)
    assert not index.skipped
    for examples in index.examples.values():
        for example in filter(None, examples):
            mask, photo = load_mask(example), load_view(example)
            assert mask.shape == photo.shape[:2] and mask.any()


def test_perseg_is_one_of_them(album, source):
    index = read_benchmark("perseg", album)
    assert [info.name for info in index.classes] == source.objects
    example = index.examples[0, index.photos[0][0]][0]
    assert example.photo.stem == "00"
    np.testing.assert_array_equal(load_mask(example), source.pair(source.objects[0], 0)[1])


def test_fss_masks_are_cut_at_128(source, tmp_path):
    from PIL import Image

    write_fss(tmp_path, source)
    path = tmp_path / "data" / source.objects[0] / "1.png"
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    Image.fromarray(ramp).save(path)
    Image.fromarray(ramp).convert("RGB").save(path.with_suffix(".jpg"))
    index = read_benchmark("fss1000", tmp_path)
    mask = load_mask(index.examples[0, "1"][0])
    np.testing.assert_array_equal(mask, ramp >= 128)


def test_lvis_folds_are_dealt_round(source, tmp_path):
    write_lvis(tmp_path, source, classes=13)
    index = read_benchmark("lvis92i", tmp_path)
    # 13 classes are one for each of ten folds; the published code drops the rest.
    assert [(info.name, info.fold) for info in index.classes] == [
        (f"class_{i}", i) for i in range(10)
    ]


def test_polygons_and_rle_are_masks(source, tmp_path):
    index = read_benchmark("coco20i", write_coco(tmp_path, source))
    for key, (_, truth) in zip(index.photos[0], source.photos[source.objects[0]], strict=True):
        example = index.examples[0, key][0]
        if isinstance(example.regions[0], dict):
            np.testing.assert_array_equal(load_mask(example), truth)
        else:
            assert box_of(load_mask(example)) == box_of(truth)


def test_parts_are_cropped_to_their_object(source, tmp_path):
    index = read_benchmark("paco_part", write_paco(tmp_path, source))
    assert [info.part for info in index.classes] == ["top", "bottom", "top", "bottom"]
    _, truth = source.pair(source.objects[0], 0)
    x0, y0, x1, y1 = box_of(truth)
    top, bottom = (load_mask(index.examples[i, index.photos[i][0]][0]) for i in (0, 1))
    np.testing.assert_array_equal(top | bottom, truth[y0:y1, x0:x1])
    assert not (top & bottom).any()


def test_pascal_objects_without_the_part_stay_candidates(source, tmp_path):
    index = read_benchmark("pascal_part", write_pascal(tmp_path, source))
    assert [info.name for info in index.classes] == [f"{n}+TOP" for n in source.objects]
    assert all(len(e) == 2 and e[1] is None for e in index.examples.values())
    assert index.listed[0] == 8  # also the photos of parts that are not tested


def _first(change):
    def apply(content):
        change(content["annotations"][0])

    return apply


def _set(**values):
    return _first(lambda entry: entry.update(values))


def _of_image(**values):
    return lambda content: content["images"][0].update(values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set(segmentation=[]), "neither polygons nor an RLE"),
        (_set(segmentation="everything"), "neither polygons nor an RLE"),
        (_set(segmentation=[[1, 2, 3, 4]]), "three points"),
        (_set(segmentation=[[1, 2, 3, 4, 5]]), "three points"),
        (_set(segmentation=[[1, 2, 3, 4, 5, None]]), "not numbers"),
        (_set(segmentation=[[1, 2, 3, 4, 5, float("nan")]]), "not numbers"),
        (_set(segmentation={"size": [4, 4], "counts": [16]}), "RLE is of size"),
        (_set(segmentation={"counts": "abc"}), "RLE is of size"),
        (_set(image_id=999_999), "there is no image 999999"),
        (_of_image(height=None), "height and width"),
        (_of_image(width=10**9), "height and width"),
        (_of_image(file_name="", coco_url=""), "states no file"),
        (_of_image(file_name="nowhere.jpg"), "the file is missing"),
    ],
)
def test_a_malformed_entry_is_named_or_left_out(change, reason, source, tmp_path):
    write_coco(tmp_path, source, change)
    with pytest.raises(DatasetLayoutError, match=reason) as caught:
        read_benchmark("coco20i", tmp_path)
    assert "\n" not in str(caught.value)
    index = read_benchmark("coco20i", tmp_path, on_error="skip")
    assert [why for _, why in index.skipped if reason in why]
    assert sum(map(len, index.photos.values())) == 8 * 3 - 1


@pytest.mark.parametrize("counts", ["0" * 40, "~~~~", "P", "", [5, 5], [-1, 1], "oooooooooooooo0"])
def test_an_rle_that_does_not_fit_never_reaches_pycocotools(counts, source, tmp_path):
    def change(content):
        entry, image = content["annotations"][0], content["images"][0]
        entry["segmentation"] = {"size": [image["height"], image["width"]], "counts": counts}

    write_coco(tmp_path, source, change)
    with pytest.raises(DatasetLayoutError, match="do not cover"):
        read_benchmark("coco20i", tmp_path)


def test_an_uncompressed_rle_is_read(source, tmp_path):
    _, truth = source.pair(source.objects[0], 0)
    write_coco(tmp_path, source, _set(segmentation=runs_of(truth)))
    index = read_benchmark("coco20i", tmp_path)
    example = index.examples[0, index.photos[0][0]][0]
    np.testing.assert_array_equal(load_mask(example), truth)


def test_a_crowd_is_left_out_and_said(source, tmp_path):
    _, truth = source.pair(source.objects[0], 0)
    write_coco(tmp_path, source, _set(iscrowd=1, segmentation=runs_of(truth)))
    index = read_benchmark("coco20i", tmp_path)
    assert [why for _, why in index.skipped] == ["it is a crowd, not an object"]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([-50, -50, 10, 10], "outside the photo"),
        ([10**6, 0, 5, 5], "outside the photo"),
        ([0, 0, 0, 5], "outside the photo"),
        ([0, 0, 5], "four numbers"),
        ([0, 0, float("inf"), 5], "not numbers"),
        (["a", 0, 1, 5], "not numbers"),
        (None, "four numbers"),
    ],
)
def test_a_box_outside_the_photo(box, reason, source, tmp_path):
    write_paco(tmp_path, source, _set(bbox=box))
    with pytest.raises(DatasetLayoutError, match=reason):
        read_benchmark("paco_part", tmp_path)
    index = read_benchmark("paco_part", tmp_path, on_error="skip")
    assert len(index.skipped) == 2  # the object's two parts


def test_a_part_without_its_object(source, tmp_path):
    write_paco(tmp_path, source, lambda c: c["annotations"][-1].update(obj_ann_id=4711))
    with pytest.raises(DatasetLayoutError, match="no object 4711"):
        read_benchmark("paco_part", tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["object"][0].update(bndbox={"xmin": "1"}), "four numbers"),
        (lambda c: c["object"][0]["parts"][0].update(mask=[{"counts": "0"}]), "state its size"),
        (lambda c: c["object"].clear(), "no usable photo|no object"),
        (lambda c: c["object"][0]["parts"][0].update(mask=[]), None),
    ],
)
def test_a_malformed_photo_of_pascal(change, reason, source, tmp_path):
    def once(content):
        if content["key"].endswith("0") and content["key"].startswith(f"2010_{source.objects[0]}"):
            change(content)

    write_pascal(tmp_path, source, once)
    if reason is not None and "no usable" not in reason:
        with pytest.raises(DatasetLayoutError, match=reason):
            read_benchmark("pascal_part", tmp_path)
    index = read_benchmark("pascal_part", tmp_path, on_error="skip")
    assert len(index.photos[0]) == 2  # an empty part is not a fault, but nothing to ask for


@pytest.mark.parametrize("name", [n for n in WRITERS if n != "fss1000"])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 3}', "not json", "\x00\xff"])
def test_a_file_that_is_no_annotation(name, text, source, tmp_path):
    root = WRITERS[name](tmp_path, source)
    names = ("lvis_v1_val.json", "instances_val2014.json", "paco_lvis_v1_val.json")
    for path in root.rglob("*.json"):
        if path.name in (*names, "all_obj_part_to_image.json"):
            path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetLayoutError) as caught:
        read_benchmark(name, root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_empty_folder_is_no_benchmark(name, tmp_path):
    with pytest.raises(DatasetLayoutError):
        read_benchmark(name, tmp_path)


def test_what_is_asked_for_is_checked(tmp_path):
    with pytest.raises(PersamError, match="did you mean 'fss1000'"):
        read_benchmark("fss100", tmp_path)
    with pytest.raises(DatasetLayoutError, match="missing"):
        read_benchmark("fss1000", tmp_path / "nowhere")


def test_a_missing_file_of_fss(source, tmp_path):
    write_fss(tmp_path, source)
    (tmp_path / "data" / source.objects[0] / "3.png").unlink()
    with pytest.raises(DatasetLayoutError, match=r"3\.png"):
        read_benchmark("fss1000", tmp_path)
    index = read_benchmark("fss1000", tmp_path, on_error="skip")
    assert len(index.photos[0]) == 9 and len(index.skipped) == 1


def test_lvis_photos_of_both_folders(source, tmp_path):
    """LVIS's validation set has photos of COCO's train2017; its address says so."""

    def move(content):
        image = content["images"][0]
        name = image["coco_url"].rsplit("/", 1)[1]
        image["coco_url"] = f"http://images.example/train2017/{name}"
        (tmp_path / "train2017").mkdir()
        (tmp_path / "val2017" / name).rename(tmp_path / "train2017" / name)

    index = read_benchmark("lvis92i", write_lvis(tmp_path, source, move))
    assert index.photos[0][0].startswith("train2017/")
    content = json.loads((tmp_path / "lvis_v1_val.json").read_text())
    assert polygon_of(source.pair(source.objects[0], 0)[1]) in [
        a["segmentation"][0] for a in content["annotations"] if isinstance(a["segmentation"], list)
    ]
