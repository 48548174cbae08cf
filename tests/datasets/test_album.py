from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import ndimage

import fiftyone_persam as fp
from fiftyone_persam.datasets import PerSegDataset, build_album
from fiftyone_persam.datasets.album_scenes import SCENES
from fiftyone_persam.datasets.backdrops import Ledge
from fiftyone_persam.datasets.compositing import Placed, original, place

Row = tuple[Path, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_album(tmp_path_factory.mktemp("whole") / "album", absent=True)


@pytest.fixture(scope="module")
def rows(whole: Path) -> list[Row]:
    return photos_of(whole)


def photos_of(root: Path) -> list[Row]:
    """Path, upright (H, W, 3) photo, and (H, W) mask of every photo."""
    rows = []
    for path in sorted((root / "Images").rglob("*.jpg")):
        with Image.open(path) as photo:
            upright = np.asarray(ImageOps.exif_transpose(photo))
        name = path.relative_to(root / "Images").with_suffix(".png")
        colours = np.asarray(Image.open(root / "Annotations" / name))
        assert not colours[..., 1:].any() and set(np.unique(colours[..., 0])) <= {0, 128}
        rows.append((path, upright, colours[..., 0] > 0))
    return rows


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_every_photo_has_a_mask_of_its_size(rows: list[Row]) -> None:
    assert len(rows) == sum(len(scenes) + 1 for scenes in SCENES.values())
    assert {path.parent.name for path, _, _ in rows} == {"cat", "cup", "flower", "motorcycle"}
    for path, photo, mask in rows:
        assert photo.shape[:2] == mask.shape
        scenes = SCENES[path.parent.name]
        if int(path.stem) == len(scenes):
            assert not mask.any()  # the photo without the object comes last
        else:
            assert 0.03 < mask.mean() < 0.5
            labels, count = ndimage.label(mask)
            largest = max(ndimage.sum_labels(mask, labels, range(1, count + 1)))
            assert largest > 0.7 * mask.sum()


def test_it_covers_what_photos_do(rows: list[Row]) -> None:
    shapes = {photo.shape[:2] for _, photo, _ in rows}
    assert any(h > w for h, w in shapes) and any(w > h for h, w in shapes)
    turned = [path for path, _, _ in rows if Image.open(path).getexif().get(0x0112) == 6]
    assert len(turned) == 1
    areas = [mask.mean() for _, _, mask in rows if mask.any()]
    assert max(areas) > 5 * min(areas)
    assert any(mask[:, 0].any() or mask[:, -1].any() for _, _, mask in rows)  # cut by the border


def test_masks_are_where_the_object_is(rows: list[Row]) -> None:
    """The last photo was taken twice, with the object and without: compare the two."""
    by_name = {(path.parent.name, int(path.stem)): (photo, mask) for path, photo, mask in rows}
    for name, scenes in SCENES.items():
        last = len(scenes) - 1
        with_object, mask = by_name[name, last]
        without, _ = by_name[name, last + 1]
        change = np.abs(with_object.astype(int) - without).max(axis=2)
        change = ndimage.uniform_filter(change.astype(float), 5)
        inside = ndimage.binary_erosion(mask, iterations=4)
        assert (change[inside] > 12).mean() > 0.93
        # Noise, moved other things and soft shadows change little outside.
        assert np.median(change[~mask]) < 12


def test_the_same_seed_gives_the_same_album(tmp_path: Path, album: Path) -> None:
    again = build_album(tmp_path / "again", objects=("cat", "cup"), photos=3)
    assert files(again) == files(album)
    other = build_album(tmp_path / "other", objects=("cup",), photos=2, seed=1)
    assert files(other)["Images/cup/01.jpg"] != files(album)["Images/cup/01.jpg"]


def test_it_loads(album: Path, dataset: Any) -> None:
    import fiftyone as fo

    loaded = dataset(fo.Dataset.from_dir(dataset_dir=str(album), dataset_type=PerSegDataset))
    assert loaded.count_values("object") == {"cat": 3, "cup": 3}
    assert loaded.count_values("role") == {"reference": 2, "target": 4}


def test_the_smaller_album_has_the_same_photos(album: Path, whole: Path) -> None:
    large = files(whole)
    assert all(large[name] == content for name, content in files(album).items())


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.4])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("cutout", ["cup", "flower", "motorcycle", "motorcycle_right", "cat"])
def test_a_placed_cutout_has_its_outline(cutout: str, flip: bool, scale: float) -> None:
    """At scale s the area is s^2 of the outline's, and the outline itself is met."""
    _, mask = original(cutout)
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    tight = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    size = (800, 1200)
    item = Placed(cutout, 0.5, 0.5, scale * tight.shape[0] / size[0], flip=flip)
    colours, alpha = place(item, size)
    assert (colours >= 0).all() and (colours <= alpha[..., None] + 1e-6).all()
    assert (alpha > 0.5).sum() == pytest.approx(scale**2 * tight.sum(), rel=0.04)
    expected = Image.fromarray(tight[:, ::-1] if flip else tight).resize(
        (round(tight.shape[1] * scale), round(tight.shape[0] * scale))
    )
    canvas = Image.new("1", size[::-1])
    canvas.paste(expected, ((1200 - expected.width) // 2, (800 - expected.height) // 2))
    assert fp.iou(alpha > 0.5, np.asarray(canvas)) > (0.95 if cutout.startswith("m") else 0.975)


def test_turning_keeps_the_area() -> None:
    areas = [
        (place(Placed("cup", 0.5, 0.5, 0.4, angle=angle), (600, 800))[1] > 0.5).sum()
        for angle in (0, 30, 90, 200)
    ]
    assert max(areas) < 1.01 * min(areas)


def test_a_ledge_covers_everything_below_it() -> None:
    rng = np.random.default_rng(0)
    _, alpha = Ledge("gravel", 0.7).draw((200, 300), rng)
    assert (alpha[:139] == 0).all() and (alpha[142:] == 1).all()
    _, ragged = Ledge("grass", 0.7, ragged=0.1).draw((200, 300), rng)
    tops = (ragged > 0.5).argmax(axis=0)
    assert np.ptp(tops) > 10 and (ragged[-20:] == 1).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"objects": ["dog"]}, fp.PersamError, "no object 'dog': it has cat, cup, flower"),
        ({"photos": 0}, fp.PersamError, "photos must be a whole number above 0, got 0"),
        ({"out_dir": "full"}, fp.DatasetLayoutError, "full exists and is not empty"),
        ({"out_dir": "file"}, fp.DatasetLayoutError, "file exists and is not empty"),
    ],
)
def test_bad_calls_write_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / options.pop("out_dir", "out")
    with pytest.raises(error, match=message):
        build_album(out, **options)
    assert sorted(tmp_path.rglob("*")) == before


def test_building_needs_neither_fiftyone_nor_torch() -> None:
    code = (
        "import sys; from fiftyone_persam.datasets import build_album; "
        "print(sorted({'fiftyone', 'torch', 'skimage', 'sklearn'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert run.stdout.strip() == "[]"
