"""Each layout, read the way its trainer documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.datasets import ConceptWriter, PhotoOptions, prepare_photo, read_concept
from fiftyone_persam.datasets.training_layouts import TRAINING_LAYOUTS, Layout
from fiftyone_persam.errors import PersamError

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

NAMES = ["IMG 1.jpeg", "img 1.png", "tasse-masklabel.jpg", "Größe?.webp", "con.png"]
CAPTIONS = [f'a photo of sks "mug" number {number}, été' for number in range(len(NAMES))]
OPTIONS = PhotoOptions(crop="square", padding=0.25, resolution=48, feather=6)


def photos():
    for number in range(len(NAMES)):
        photo = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        mask = np.zeros((60, 80), bool)
        mask[10 : 40 + number, 20:50] = True
        yield prepare_photo(photo, mask, OPTIONS)


def write(folder: Path, layout: str, options: PhotoOptions = OPTIONS) -> Path:
    folder.mkdir()
    writer = ConceptWriter(folder, layout, options, folder)
    for name, photo, caption in zip(NAMES, photos(), CAPTIONS, strict=True):
        writer.add(name, photo, caption, {"score": 0.5})
    writer.finish("mug", {"run": "mine"})
    assert len(writer) == len(NAMES)
    return folder


def pixels(path: Path, mode: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert(mode))


@pytest.fixture(scope="module")
def expected() -> list[tuple[np.ndarray, np.ndarray, str]]:
    return [(p.image, p.mask, c) for p, c in zip(photos(), CAPTIONS, strict=True)]


def same(found: list[tuple[np.ndarray, np.ndarray, str]], expected) -> None:
    found = sorted(found, key=lambda one: one[2])
    assert [one[2] for one in found] == [one[2] for one in expected]
    for (image, mask, _), (image_wanted, mask_wanted, _) in zip(found, expected, strict=True):
        assert np.array_equal(image, image_wanted) and np.array_equal(mask, mask_wanted)


def test_diffusers_reads_an_imagefolder(tmp_path, expected, monkeypatch) -> None:
    """``--dataset_name FOLDER --caption_column text``: Hugging Face's own loader."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    folder = write(tmp_path / "set", "diffusers")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    found = [
        (np.asarray(row["image"].convert("RGB")), np.asarray(row["mask"]), row["text"])
        for row in loaded
    ]
    same(found, expected)


def test_diffusers_reads_a_folder_of_photos(tmp_path, expected) -> None:
    """``--instance_data_dir``: whatever is in the folder is opened as an image."""
    folder = write(tmp_path / "set", "diffusers")
    opened = [pixels(path, "RGB") for path in (folder / "images").iterdir()]
    assert len(opened) == len(NAMES)
    assert {one.tobytes() for one in opened} == {image.tobytes() for image, _, _ in expected}
    sizes = {p.name: Image.open(p).size for p in (folder / "images").iterdir()}
    assert sizes == {p.name: Image.open(p).size for p in (folder / "masks").iterdir()}


def test_kohya_reads_masks_of_the_same_name(tmp_path, expected) -> None:
    """``--dataset_config dataset.toml --masked_loss``; the mask is the red channel."""
    folder = write(tmp_path / "set", "kohya")
    config = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    (dataset,) = config["datasets"]
    assert dataset["resolution"] == 48 and dataset["enable_bucket"] is False
    (subset,) = dataset["subsets"]
    # The keys that its schema has for a subset with conditioning images; any other is refused.
    assert set(subset) == {
        "image_dir", "conditioning_data_dir", "caption_extension", "num_repeats",
    }  # fmt: skip
    images, masks = Path(subset["image_dir"]), Path(subset["conditioning_data_dir"])
    assert images.is_absolute() and masks.is_absolute()
    found = []
    for path in images.glob("*.png"):
        text = path.with_suffix(subset["caption_extension"]).read_text(encoding="utf-8")
        (mask,) = (m for m in masks.iterdir() if m.stem == path.stem)
        found.append((pixels(path, "RGB"), pixels(mask, "RGB")[..., 0], text.splitlines()[0]))
    same(found, expected)


def test_kohya_reads_the_alpha_channel(tmp_path, expected) -> None:
    """``--dataset_config dataset.toml --alpha_mask``."""
    folder = write(tmp_path / "set", "rgba")
    config = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    (subset,) = config["datasets"][0]["subsets"]
    assert subset["alpha_mask"] is True and "conditioning_data_dir" not in subset
    found = []
    for path in Path(subset["image_dir"]).glob("*.png"):
        assert Image.open(path).mode == "RGBA"
        rgba = pixels(path, "RGBA")
        found.append((rgba[..., :3], rgba[..., 3], path.with_suffix(".txt").read_text("utf-8")))
    same([(image, mask, text.strip()) for image, mask, text in found], expected)


def test_onetrainer_reads_what_is_beside_the_photo(tmp_path, expected) -> None:
    """``concepts.json`` names a folder; ``-masklabel.png`` files are masks, the others photos."""
    folder = write(tmp_path / "set", "onetrainer")
    (concept,) = json.loads((folder / "concepts.json").read_text(encoding="utf-8"))
    assert concept["enabled"] and concept["text"]["prompt_source"] == "sample"
    found = []
    for path in Path(concept["path"]).iterdir():
        if path.suffix != ".png" or path.stem.endswith(("-masklabel", "-condlabel")):
            continue
        mask = path.with_name(f"{path.stem}-masklabel.png")
        text = path.with_suffix(".txt").read_text(encoding="utf-8")
        found.append((pixels(path, "RGB"), pixels(mask, "L"), text.strip()))
    same(found, expected)


@pytest.mark.parametrize("layout", TRAINING_LAYOUTS)
def test_every_layout_is_read_back(tmp_path, expected, layout) -> None:
    folder = write(tmp_path / "set", layout)
    found = []
    for entry in read_concept(folder):
        image, mask = entry.load()
        assert mask is not None
        found.append((image, mask, entry.caption))
    same(found, expected)
    assert json.loads((folder / "manifest.json").read_text()) == {"run": "mine"}
    records = [json.loads(line) for line in (folder / "metadata.jsonl").open(encoding="utf-8")]
    for record, photo in zip(records, photos(), strict=True):
        assert (record["width"], record["height"]) == (48, 48)
        assert tuple(record["box"]) == photo.box and tuple(record["crop"]) == photo.crop
        assert record["score"] == 0.5


@pytest.mark.parametrize("layout", TRAINING_LAYOUTS)
def test_names_are_readable_on_every_system(tmp_path, layout) -> None:
    folder = write(tmp_path / "set", layout)
    names = [
        Path(json.loads(line)["file_name"]).name for line in (folder / "metadata.jsonl").open()
    ]
    assert names == ["IMG 1.png", "img 1-2.png", "tasse.png", "Größe_.png", "_con.png"]


def test_kohya_makes_buckets_for_photos_of_several_sizes(tmp_path) -> None:
    folder = write(tmp_path / "set", "kohya", PhotoOptions())
    (dataset,) = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))["datasets"]
    assert dataset["enable_bucket"] is True and dataset["resolution"] == 512


def test_unknown_layout(tmp_path) -> None:
    with pytest.raises(PersamError, match="diffusers, kohya, onetrainer, rgba"):
        ConceptWriter(tmp_path, "lycoris", OPTIONS, tmp_path)
    assert all(layout.help for layout in TRAINING_LAYOUTS.values())


def test_another_layout_is_one_class_and_one_registration(tmp_path) -> None:
    class Flat(Layout):
        """Photos alone, as some trainers have them."""

        name, help = "flat", "photos alone"

        def write_photo(self, folder, name, photo, caption):
            Image.fromarray(photo.image).save(folder / f"{name}.bmp")
            return {"file_name": f"{name}.bmp"}

    TRAINING_LAYOUTS.register(Flat())
    try:
        folder = write(tmp_path / "set", "flat")
    finally:
        TRAINING_LAYOUTS.unregister("flat")
    assert len(list(folder.glob("*.bmp"))) == len(read_concept(folder)) == len(NAMES)
