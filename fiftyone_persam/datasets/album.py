"""The demo album: four objects of real photos, each in seven scenes, with exact masks.

Everything comes from photos that scikit-image and scikit-learn carry inside their packages, so
building it needs no download.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DatasetLayoutError, PersamError
from .album_scenes import SCENES, Scene
from .backdrops import backdrop
from .compositing import Picture, cast_shadow, original, over, place
from .layout import ANNOTATIONS, IMAGES
from .mask_files import BoolMask, write_perseg_mask

_ROTATED = 6  # EXIF: to be shown turned by 90 degrees clockwise

CREDITS = """\
The photos in this album are composed of photos that come with scikit-image and scikit-learn.

From scikit-image (skimage.data):
  cat (Stefan van der Walt), cup (Rachel Michetti), brick, grass, gravel: CC0
  astronaut (NASA), rocket (SpaceX): public domain
  motorcycle, left and right view: Middlebury Stereo 2014, D. Scharstein et al., "High-resolution
    stereo datasets with subpixel-accurate ground truth", GCPR 2014; scikit-image names no licence
From scikit-learn (sklearn.datasets.load_sample_images):
  china.jpg: danielbuechele, https://www.flickr.com/photos/danielbuechele/6061409035/, CC BY 2.0
  flower.jpg: vultilion, https://www.flickr.com/photos/vultilion/6056698931/, CC BY 2.0

Changed: cut out, scaled, turned, lit differently, partly covered, and put before each other.
"""


@dataclass(frozen=True)
class _Photo:
    pixels: NDArray[np.uint8]
    mask: BoolMask
    rotated: bool


def build_album(
    out_dir: str | os.PathLike[str],
    seed: int = 0,
    objects: Sequence[str] | None = None,
    photos: int | None = None,
    absent: bool = False,
) -> Path:
    """Write the demo album in PerSeg's layout.

    Scenes differ in background, scale, angle, light and what covers the object; some photos are
    upright, and one is stored turned with an EXIF orientation. The first photo of an object is its
    reference. An existing ``out_dir`` must be empty.

    Args:
        out_dir: folder to make.
        seed: moves, turns and lights everything a little differently; the same seed gives the same
            album.
        objects: some of "cat", "cup", "flower", "motorcycle"; None for all.
        photos: how many of each object; None for all.
        absent: add one photo without the object, and with an empty mask, to each object.

    Returns:
        The folder, with ``Images/<object>/NN.jpg``, ``Annotations/<object>/NN.png`` and
        ``CREDITS.txt``. It appears only when all of it is there.

    Raises:
        DatasetLayoutError: ``out_dir`` is not empty.
        PersamError: an unknown object or number, or a package whose photos are missing.
    """
    names = list(SCENES) if objects is None else list(objects)
    for name in names:
        if name not in SCENES:
            raise PersamError(f"the album has no object {name!r}: it has {', '.join(SCENES)}")
    if photos is not None and photos < 1:
        raise PersamError(f"photos must be a whole number above 0, got {photos!r}")
    folder = Path(out_dir).expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetLayoutError(f"{folder} exists and is not empty: choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in names:
            scenes = list(SCENES[name][:photos])
            if absent:
                scenes.append(replace(SCENES[name][-1], without_target=True))
            for number, scene in enumerate(scenes):
                # Seeded per photo: a smaller album has the same photos.
                rng = np.random.default_rng([seed, list(SCENES).index(name), number])
                _save(_compose(name, scene, rng), staging, name, number)
        (staging / "CREDITS.txt").write_text(CREDITS, encoding="utf-8")
        staging.chmod(0o755)
        os.replace(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return folder


def _compose(name: str, scene: Scene, rng: np.random.Generator) -> _Photo:
    if scene.target is None:
        picture, mask = original(name if scene.cutout is None else scene.cutout)
        size = scene.size
        picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC)
        soft = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
        return _Photo(_develop(picture, scene, rng), soft > 0.5, scene.rotated)
    picture = backdrop(scene.background, scene.size)
    for item in scene.behind:
        colours, alpha = place(item.jittered(rng), scene.size)
        picture = over(cast_shadow(picture, alpha, item.shadow), colours, alpha)
    visible = np.zeros(scene.size, np.float32)
    target = scene.target.jittered(rng)
    if not scene.without_target:
        colours, visible = place(target, scene.size)
        picture = over(cast_shadow(picture, visible, target.shadow), colours, visible)
    for item in scene.front:
        colours, alpha = place(item.jittered(rng), scene.size)
        picture = over(cast_shadow(picture, alpha, item.shadow), colours, alpha)
        visible = visible * (1 - alpha)
    if scene.ledge is not None:
        colours, alpha = scene.ledge.draw(scene.size, rng)
        picture = over(picture, colours, alpha)
        visible = visible * (1 - alpha)
    return _Photo(_develop(picture, scene, rng), visible > 0.5, scene.rotated)


def _develop(picture: Picture, scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light, colour temperature, softness and noise of the whole photo."""
    height, width = scene.size
    warmth = np.array([1 + scene.warmth, 1, 1 - scene.warmth], np.float32)
    picture = np.clip(picture, 0, 1) ** np.float32(1 / scene.brightness) * warmth
    if scene.side_light:
        across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
        picture = picture * (1 + scene.side_light * across)
    if scene.blur:
        picture = cv2.GaussianBlur(picture, (0, 0), scene.blur)
    grain = rng.normal(0, scene.noise, (height, width, 1)).astype(np.float32)
    return np.asarray(np.clip((picture + grain) * 255 + 0.5, 0, 255), np.uint8)


def _save(photo: _Photo, root: Path, name: str, number: int) -> None:
    path = root / IMAGES / name / f"{number:02d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(photo.pixels)
    exif = Image.Exif()
    if photo.rotated:
        image = image.transpose(Image.Transpose.ROTATE_90)  # counter-clockwise, undone when shown
        exif[0x0112] = _ROTATED
    image.save(path, format="JPEG", quality=90, exif=exif)
    write_perseg_mask(photo.mask, root / ANNOTATIONS / name / f"{number:02d}.png")
