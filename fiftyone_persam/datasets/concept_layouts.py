"""Masked training sets in the layouts that diffusion trainers document, by registry.

A layout is one class: where a photo's files go, and which file tells the trainer of them. Every
layout also has ``metadata.jsonl``, which this package's own trainer and Hugging Face's
``imagefolder`` read, and ``manifest.json``. No FiftyOne.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import PersamError
from .concept_photo import ConceptPhoto, Photo, PhotoOptions
from .training_layouts import TRAINING_LAYOUTS, Layout

METADATA, MANIFEST = "metadata.jsonl", "manifest.json"
IMAGES, MASKS = "images", "masks"

# Stable Diffusion's first size: what kohya trains at where the export keeps the photos' sizes.
_DEFAULT_RESOLUTION = 512
_LONGEST_NAME = 80
# OneTrainer takes files of these names for masks and conditions.
_TAKEN_ENDS = re.compile(r"(-masklabel|-condlabel)+$", re.IGNORECASE)
# Windows refuses these as file names, with any extension.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


class DiffusersLayout(Layout):
    """``images/`` holds photos and nothing else, as ``--instance_data_dir`` wants."""

    name = "diffusers"
    help = "diffusers: images/, masks/, captions in metadata.jsonl (imagefolder)"

    def write_photo(
        self, folder: Path, name: str, photo: ConceptPhoto, caption: str
    ) -> dict[str, str]:
        """See :class:`Layout`; the caption is in ``metadata.jsonl`` alone."""
        return _write_pair(folder, photo, f"{IMAGES}/{name}.png", f"{MASKS}/{name}.png")


class KohyaLayout(Layout):
    """Masks of the same names in a folder of their own, for ``--masked_loss``."""

    name = "kohya"
    help = "kohya sd-scripts: images/ with .txt captions, masks/, dataset.toml"

    def write_photo(
        self, folder: Path, name: str, photo: ConceptPhoto, caption: str
    ) -> dict[str, str]:
        """See :class:`Layout`."""
        _write_text(folder / IMAGES / f"{name}.txt", caption)
        # kohya takes the red channel of what it reads as the mask.
        return _write_pair(folder, photo, f"{IMAGES}/{name}.png", f"{MASKS}/{name}.png")

    def write_index(self, folder: Path, final: Path, name: str, options: PhotoOptions) -> None:
        """``dataset.toml``, for ``--dataset_config``."""
        _write_toml(folder, final, options, f"conditioning_data_dir = {_quoted(final / MASKS)}")


class OneTrainerLayout(Layout):
    """``name.png``, ``name-masklabel.png`` and ``name.txt`` side by side."""

    name = "onetrainer"
    help = "OneTrainer: images/ with -masklabel.png and .txt beside each, concepts.json"

    def write_photo(
        self, folder: Path, name: str, photo: ConceptPhoto, caption: str
    ) -> dict[str, str]:
        """See :class:`Layout`."""
        _write_text(folder / IMAGES / f"{name}.txt", caption)
        mask = f"{IMAGES}/{name}-masklabel.png"
        return _write_pair(folder, photo, f"{IMAGES}/{name}.png", mask)

    def write_index(self, folder: Path, final: Path, name: str, options: PhotoOptions) -> None:
        """``concepts.json``: what is not said there has OneTrainer's own default."""
        concept = {
            "__version": 1,
            "name": name,
            "path": str(final / IMAGES),
            "seed": 0,
            "enabled": True,
            "validation_concept": False,
            "include_subdirectories": False,
            "balancing": 1.0,
            "balancing_strategy": "REPEATS",
            "loss_weight": 1.0,
            "image": {"enable_crop_jitter": False, "enable_random_flip": False},
            "text": {"prompt_source": "sample"},
        }
        _write_text(folder / "concepts.json", json.dumps([concept], indent=4))


class RgbaLayout(Layout):
    """The mask as the photo's alpha channel, for kohya's ``alpha_mask``."""

    name = "rgba"
    help = "RGBA: images/ with the mask as alpha channel, .txt captions, dataset.toml"

    def write_photo(
        self, folder: Path, name: str, photo: ConceptPhoto, caption: str
    ) -> dict[str, str]:
        """See :class:`Layout`."""
        _write_text(folder / IMAGES / f"{name}.txt", caption)
        pixels = np.dstack([photo.image, photo.mask])
        return {"file_name": _write_png(folder, f"{IMAGES}/{name}.png", pixels)}

    def write_index(self, folder: Path, final: Path, name: str, options: PhotoOptions) -> None:
        """``dataset.toml`` with ``alpha_mask``."""
        _write_toml(folder, final, options, "alpha_mask = true")


DIFFUSERS, KOHYA = DiffusersLayout(), KohyaLayout()
ONETRAINER, RGBA = OneTrainerLayout(), RgbaLayout()


class ConceptWriter:
    """Writes a set of training photos, one by one, into a folder of its own."""

    def __init__(self, folder: Path, layout: str, options: PhotoOptions, final: Path) -> None:
        """Nothing is written yet.

        Args:
            folder: an empty folder.
            layout: one of `TRAINING_LAYOUTS`.
            options: how photos are made ready.
            final: the folder's place in the end, if it is moved.
        """
        self._folder, self._final, self._options = folder, final.absolute(), options
        self._layout = TRAINING_LAYOUTS[layout]
        self._names: set[str] = set()
        self._records: list[dict[str, Any]] = []

    def __len__(self) -> int:
        """How many photos were written."""
        return len(self._records)

    def add(
        self, file_name: str, photo: ConceptPhoto, caption: str, facts: Mapping[str, Any]
    ) -> None:
        """Write one photo.

        Args:
            file_name: of the original photo; its stem is kept as far as trainers can read it.
            photo: see :func:`~.concept_photo.prepare_photo`.
            caption: one line of text.
            facts: more columns of ``metadata.jsonl``, the same for every photo.

        Raises:
            OSError: a file cannot be written.
        """
        name = self._free_name(file_name)
        files = self._layout.write_photo(self._folder, name, photo, caption)
        height, width = photo.mask.shape
        sizes = {"width": width, "height": height, "box": photo.box, "crop": photo.crop}
        self._records.append({**files, "text": caption, **sizes, **facts})

    def finish(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Write the files that tell of all photos.

        Args:
            name: what the concept is called.
            manifest: where the photos came from.

        Raises:
            OSError: a file cannot be written.
        """
        lines = [json.dumps(record, ensure_ascii=False) for record in self._records]
        _write_text(self._folder / METADATA, "\n".join(lines))
        self._layout.write_index(self._folder, self._final, name, self._options)
        _write_text(self._folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False))

    def _free_name(self, file_name: str) -> str:
        stem = re.sub(r"[^\w .-]", "_", Path(file_name).stem)[:_LONGEST_NAME].strip(" .")
        stem = _TAKEN_ENDS.sub("", stem) or "photo"
        if _RESERVED.fullmatch(stem):
            stem = f"_{stem}"
        name, number = stem, 1
        # Names that differ by case only are one file on macOS and Windows.
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name.casefold())
        return name


# ----------------------------------------------------------------------------------------------


def _write_pair(folder: Path, photo: ConceptPhoto, image: str, mask: str) -> dict[str, str]:
    """Write a photo and its mask to these paths inside ``folder``."""
    return {
        "file_name": _write_png(folder, image, photo.image),
        "mask_file_name": _write_png(folder, mask, photo.mask),
    }


def _write_png(folder: Path, name: str, pixels: Photo) -> str:
    """Write (h, w), (h, w, 3) RGB or (h, w, 4) RGBA; returns the path inside ``folder``."""
    stored = pixels
    if pixels.ndim == 3:  # OpenCV's order is blue, green, red
        stored = np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
    # OpenCV's encoder is several times as fast as Pillow's.
    done, encoded = cv2.imencode(".png", stored)
    if not done:
        raise PersamError(f"pixels of shape {pixels.shape} cannot be written as PNG: {name}")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())
    return name


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="utf-8")


def _write_toml(folder: Path, final: Path, options: PhotoOptions, mask_line: str) -> None:
    # Photos of one size need no buckets.
    one_size = options.crop == "square" and options.resolution is not None
    lines = [
        "[[datasets]]",
        f"resolution = {options.resolution or _DEFAULT_RESOLUTION}",
        "batch_size = 1",
        f"enable_bucket = {'false' if one_size else 'true'}",
        "",
        "  [[datasets.subsets]]",
        f"  image_dir = {_quoted(final / IMAGES)}",
        f"  {mask_line}",
        '  caption_extension = ".txt"',
        "  num_repeats = 1",
    ]
    _write_text(folder / "dataset.toml", "\n".join(lines))


def _quoted(path: Path) -> str:
    """A TOML string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(str(path), ensure_ascii=False).replace("\x7f", "\\u007f")
