"""The training data as tensors on one device: photos with objects, backgrounds and cut-outs."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from training.pack import CUTOUT_FOLDERS, CUTOUT_SIDE, PHOTO_FOLDERS, PHOTO_SIDE

Pixels = npt.NDArray[np.uint8]

# How often a cut-out of each source is drawn. Photographed objects teach texture, renders and
# drawings teach variety.
SOURCE_WEIGHTS = {
    "photo": 0.40,
    "cutouts_renders": 0.18,
    "cutouts_fluent3d": 0.24,
    "cutouts_openclipart": 0.18,
}
# Photographs of buildings are nearly missing from the data, so what shows buildings is drawn more
# often.
BUILDING = re.compile(
    r"building|house|castle|church|tower|condominio"
    r"|^1f3(d[7-9a]|db|df|e[0-9a-f]|f0)|^26ea|^1f54[b-d]|^1f5f[c-d]"  # emoji of buildings
)
BUILDING_BOOST = 4.0
# How often objects, and backgrounds, come from each folder of photos; fashion photos are many and
# alike.
OBJECT_SHARES = {
    "coco_small": 0.58,
    "clothing_coparsing": 0.18,
    "feral_cats": 0.24,
    "backgrounds": 0.0,
}
BACKGROUND_SHARES = {
    "coco_small": 0.45,
    "clothing_coparsing": 0.2,
    "feral_cats": 0.1,
    "backgrounds": 0.25,
}
PERSON_CUTOUT_WEIGHT = 0.2
MIN_OBJECT = 0.012  # of the photo's area


@dataclass(frozen=True)
class Bank:
    """Photos (N, 3, P, P) uint8 placed top left, sizes (N, 2) h, w, and ids (N, P, P) uint8.

    Object m lies on photo ``object_photo[m]`` where ``object_ids[m]`` (256,) bool is true of the
    id. Photo n owns objects ``first_object[n]`` to ``first_object[n + 1]``; objects are drawn with
    ``object_weights`` (M,), backgrounds with ``photo_weights`` (N,). Cut-outs are (C, 4, Q, Q)
    uint8 straight RGBA, centred, drawn with ``cutout_weights`` (C,); ``cutout_views[c]`` lists
    cut-outs that show the same thing, ``cutout_groups`` (C,) the source.
    """

    photos: Tensor
    sizes: Tensor
    ids: Tensor
    object_photo: Tensor
    object_ids: Tensor
    first_object: Tensor
    object_weights: Tensor
    photo_weights: Tensor
    cutouts: Tensor
    cutout_weights: Tensor
    cutout_views: list[list[int]]
    cutout_groups: Tensor

    @property
    def device(self) -> torch.device:
        return self.photos.device


def load_bank(
    archive: Path,
    device: torch.device | str = "cpu",
    limit: int | None = None,
    without: Callable[[str], bool] | None = None,
) -> Bank:
    """Decode a packed archive.

    Args:
        archive: made by `training.pack`.
        device: where the tensors are kept.
        limit: keeps so many entries of each folder, for quick tries.
        without: of an entry's stem, such as "coco_small/000000000009": whether its photo is left
            out, because something is to be measured on it.
    """
    photos: list[Pixels] = []
    ids: list[Pixels] = []
    sizes: list[tuple[int, ...]] = []
    folders: list[str] = []
    owners: list[int] = []
    tables: list[npt.NDArray[np.bool_]] = []
    first = [0]
    cutouts: list[Pixels] = []
    sources: list[str] = []
    names: list[str] = []
    with zipfile.ZipFile(archive) as file:
        for folder, name, photo, id_map in _photos(file, limit):
            if without is not None and without(name.removesuffix(".webp")):
                continue
            for table in _objects(id_map, folder):
                owners.append(len(photos))
                tables.append(table)
                # A garment is not a thing of its own to paste; the whole person is.
                alone = folder != "clothing_coparsing" or table[1:].all()
                cutout = _cut_out(photo, table[id_map]) if alone else None
                if cutout is not None:
                    cutouts.append(cutout)
                    sources.append("photo")
                    names.append(f"{name}#{len(tables)}")
            first.append(len(tables))
            folders.append(folder)
            photos.append(_placed(photo, PHOTO_SIDE))
            ids.append(_placed(id_map, PHOTO_SIDE))
            sizes.append(photo.shape[:2])
        for folder, name, rgba in _cutouts(file, limit):
            cutouts.append(_centred(rgba))
            sources.append(folder)
            names.append(name)
    return Bank(
        photos=torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).contiguous().to(device),
        sizes=torch.tensor(sizes, device=device),
        ids=torch.from_numpy(np.stack(ids)).to(device),
        object_photo=torch.tensor(owners, device=device),
        object_ids=torch.from_numpy(np.stack(tables)).to(device),
        first_object=torch.tensor(first),
        object_weights=_shares([folders[owner] for owner in owners], OBJECT_SHARES),
        photo_weights=_shares(folders, BACKGROUND_SHARES),
        cutouts=torch.from_numpy(np.stack(cutouts)).permute(0, 3, 1, 2).contiguous().to(device),
        cutout_weights=_weights(sources, names),
        cutout_views=_views(names),
        cutout_groups=torch.tensor([list(SOURCE_WEIGHTS).index(source) for source in sources]),
    )


def _photos(file: zipfile.ZipFile, limit: int | None) -> Iterator[tuple[str, str, Pixels, Pixels]]:
    """(folder, entry, (h, w, 3) photo, (h, w) ids) of each photo; backgrounds have ids of 0."""
    listed = [name for name in file.namelist() if name.endswith(".webp")]
    for folder in (*PHOTO_FOLDERS, "backgrounds"):
        for name in [name for name in listed if name.startswith(f"{folder}/")][:limit]:
            photo = np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGB"))
            id_map = np.zeros(photo.shape[:2], np.uint8)
            if folder != "backgrounds":
                mask = file.read(name.removesuffix(".webp") + ".png")
                id_map = np.asarray(Image.open(io.BytesIO(mask)))
            yield folder, name, photo, id_map


def _cutouts(file: zipfile.ZipFile, limit: int | None) -> Iterator[tuple[str, str, Pixels]]:
    """(folder, stem, (h, w, 4) RGBA) of each cut-out."""
    listed = file.namelist()
    for folder in CUTOUT_FOLDERS:
        for name in [name for name in listed if name.startswith(f"{folder}/")][:limit]:
            rgba = np.asarray(Image.open(io.BytesIO(file.read(name))).convert("RGBA"))
            yield folder, name.split("/")[1].removesuffix(".webp"), rgba


def _objects(id_map: Pixels, folder: str) -> list[npt.NDArray[np.bool_]]:
    """One (256,) bool table of ids for each object that is large enough."""
    counts = np.bincount(id_map.ravel(), minlength=256)
    wanted = counts >= MIN_OBJECT * id_map.size
    wanted[0] = False
    tables = [np.arange(256) == index for index in np.flatnonzero(wanted)]
    if folder == "clothing_coparsing" and tables:
        # Ids are garments and body parts here; all of them together are the person, drawn as often
        # as a garment is.
        person = np.arange(256) > 0
        tables = [person, person, *tables]
    return tables


def _cut_out(photo: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels | None:
    """The object as a centred RGBA cut-out, or None where it is small or cut by the edge."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) < 64 or len(columns) < 64 or mask.sum() < 0.02 * mask.size:
        return None
    touching = int(mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum())
    if touching > 0.15 * min(len(rows), len(columns)):
        return None
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = mask[window].astype(np.uint8) * 255
    return _centred(np.dstack([photo[window], alpha]))


def _centred(rgba: Pixels) -> Pixels:
    scale = CUTOUT_SIDE / max(rgba.shape[:2])
    size = (max(1, round(rgba.shape[1] * scale)), max(1, round(rgba.shape[0] * scale)))
    resized = np.asarray(Image.fromarray(rgba).resize(size, Image.Resampling.BICUBIC))
    canvas = np.zeros((CUTOUT_SIDE, CUTOUT_SIDE, 4), np.uint8)
    top, left = (CUTOUT_SIDE - size[1]) // 2, (CUTOUT_SIDE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = resized
    return canvas


def _placed(array: Pixels, side: int) -> Pixels:
    canvas = np.zeros((side, side, *array.shape[2:]), np.uint8)
    canvas[: array.shape[0], : array.shape[1]] = array
    return canvas


def _weights(sources: list[str], names: list[str]) -> Tensor:
    boost = np.array([_boost(name.lower()) for name in names])
    weights = np.zeros(len(sources))
    for source, share in SOURCE_WEIGHTS.items():
        chosen = np.array([s == source for s in sources])
        if chosen.any():
            weights[chosen] = share * boost[chosen] / boost[chosen].sum()
    return torch.from_numpy(weights)


def _boost(name: str) -> float:
    if name.startswith("clothing_coparsing"):
        return PERSON_CUTOUT_WEIGHT
    return BUILDING_BOOST if "/" not in name and BUILDING.search(name) else 1.0


def _shares(folders: list[str], shares: dict[str, float]) -> Tensor:
    counts = {folder: folders.count(folder) for folder in shares}
    return torch.tensor(
        [shares[folder] / counts[folder] for folder in folders], dtype=torch.float64
    )


def _views(names: list[str]) -> list[list[int]]:
    """For each cut-out the cut-outs of the same thing, at least itself.

    ``trellismv__tiger_1`` and ``trellismv__tiger_2`` are two views of one tiger.
    """
    stems: dict[str, list[int]] = {}
    keys = [
        re.sub(r"_\d+$", "", name) if name.startswith("trellismv__") else name for name in names
    ]
    for index, key in enumerate(keys):
        stems.setdefault(key, []).append(index)
    return [stems[key] for key in keys]
