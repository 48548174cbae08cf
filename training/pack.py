"""Pack the training photos into one small archive that can travel to another machine.

The archive holds re-encoded photos (long side 512 px at most), their instance or semantic ids, and
RGBA cut-outs; about 55 MB for the whole of ``shared/data/train``.

    python -m training.pack SOURCE ARCHIVE
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

PHOTO_FOLDERS = ("coco_small", "clothing_coparsing", "feral_cats")
CUTOUT_FOLDERS = ("cutouts_fluent3d", "cutouts_openclipart", "cutouts_renders")
PHOTO_SIDE = 512
CUTOUT_SIDE = 320


def pack(source: Path, archive: Path, quality: int = 70) -> int:
    """Write the archive and return its size in bytes.

    Args:
        source: the folder that holds the folders named above and ``backgrounds``.
        archive: the zip file to write.
        quality: WebP quality, 1 to 100.
    """
    missing = [
        name
        for name in (*PHOTO_FOLDERS, *CUTOUT_FOLDERS, "backgrounds")
        if not (source / name).is_dir()
    ]
    if missing:
        raise SystemExit(
            f"{source} lacks {', '.join(missing)}: give the folder of the training data"
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file:
        for name, data in _entries(source, quality):
            file.writestr(name, data)
    partial.replace(archive)
    return archive.stat().st_size


def _entries(source: Path, quality: int) -> Iterator[tuple[str, bytes]]:
    for folder in PHOTO_FOLDERS:
        for path in sorted((source / folder / "images").glob("*.jpg")):
            mask_path = source / folder / "masks" / f"{path.stem}.png"
            if mask_path.exists():
                photo = Image.open(path).convert("RGB")
                ids = Image.open(mask_path)
                size = _fitted(photo.size, PHOTO_SIDE)
                yield (
                    f"{folder}/{path.stem}.webp",
                    _webp(photo.resize(size, Image.Resampling.LANCZOS), quality),
                )
                yield f"{folder}/{path.stem}.png", _png(ids.resize(size, Image.Resampling.NEAREST))
    for path in sorted((source / "backgrounds").glob("*.jpg")):
        photo = Image.open(path).convert("RGB")
        size = _fitted(photo.size, PHOTO_SIDE)
        yield (
            f"backgrounds/{path.stem}.webp",
            _webp(photo.resize(size, Image.Resampling.LANCZOS), quality),
        )
    for folder in CUTOUT_FOLDERS:
        for path in sorted((source / folder).glob("*.webp")):
            cutout = Image.open(path).convert("RGBA")
            size = _fitted(cutout.size, CUTOUT_SIDE)
            yield (
                f"{folder}/{path.stem}.webp",
                _webp(cutout.resize(size, Image.Resampling.LANCZOS), quality),
            )


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--quality", type=int, default=70)
    arguments = parser.parse_args()
    size = pack(arguments.source, arguments.archive, arguments.quality)
    print(f"{arguments.archive}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
