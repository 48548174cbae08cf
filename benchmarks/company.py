"""What a photo of an album shows beside its own object, where that is known: the demo's album."""

from __future__ import annotations

from pathlib import Path

from benchmarks.album import Photo, read_album
from benchmarks.albums import album_or_perseg, chosen_album
from benchmarks.composed import Composed
from fiftyone_persam.datasets.album_scenes import SCENES


def photos_of(given: Path | None, objects: list[str] | None = None) -> list[list[Photo]]:
    """The photos of an album, object by object, the reference first.

    Args:
        given: the album; PerSeg at PERSEG_DIR if None, else the demo's, built anew, whose photos
            know what else they show.
        objects: only these.
    """
    with chosen_album(given) as folder:
        groups = list(read_album(folder, objects))
    if album_or_perseg(given) is not None:
        return groups
    return [[_with_company(photo) for photo in group] for group in groups]


def _with_company(photo: Photo) -> Photo:
    scene = SCENES[photo.object][int(photo.name)]
    also = frozenset(item.cutout.split("_")[0] for item in (*scene.behind, *scene.front))
    return Composed(photo.object, photo.name, photo.image, photo.mask, also=also)
