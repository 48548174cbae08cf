"""PerSeg for FiftyOne's dataset zoo: fetch or unpack it once, load it as often as wanted."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import fiftyone as fo

from ..errors import DatasetLayoutError, PersamError
from .archives import copy_file, extract_album
from .layout import ANNOTATIONS, IMAGES, is_path, scan_album
from .named_files import files_below
from .perseg_importer import PerSegImporter
from .staging import put_in_place, staging

logger = logging.getLogger(__name__)

# Where the authors of PerSAM published PerSeg; they state no hash.
GOOGLE_DRIVE_ID = "18TbrwhZtAPY5dlaoEqkPa5h08G9Rjcio"
PAGE = f"https://drive.google.com/file/d/{GOOGLE_DRIVE_ID}/view"
MASKS = "Masks"


def prepare_perseg(
    folder: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    sha256: str | None = None,
) -> int:
    """Put PerSeg, or another album in its layout, into a folder.

    Args:
        folder: gets ``Images`` and ``Annotations``, replacing those of an earlier call, when all
            of the album is there. Files that a dataset names stay as they are.
        source: an album's folder, or a .zip or .tar archive of one; None downloads PerSeg from
            where its authors published it.
        sha256: what the archive must hash to. The authors state no hash, so a download without
            one is only logged with the hash it had; the files are read as images and nothing else.

    Returns:
        The number of photos.

    Raises:
        DatasetLayoutError: no such source, a damaged or hostile archive, another layout or hash, or
            a file of a dataset that the new album has with another content.
        PersamError: the download failed.
    """
    for argument, path in (("folder", folder), ("source", source)):
        if path is not None and not is_path(path):
            raise DatasetLayoutError(f"{argument} {path!r} is not a path: give one")
    if not (sha256 is None or isinstance(sha256, str)):
        raise DatasetLayoutError(f"sha256 {sha256!r} is not a hash: give it as 64 hex digits")
    target = Path(folder).expanduser().absolute()
    # Converted masks are those of the album before.
    tops = (IMAGES, ANNOTATIONS, MASKS)
    old = [path for top in tops for path in files_below(target / top)]
    with staging(target, [path.relative_to(target).as_posix() for path in old]) as stage:
        given = None if source is None else Path(source).expanduser().absolute()
        if given is not None and given.is_dir():
            if sha256 is not None:
                raise DatasetLayoutError(f"{given} is a folder: sha256 is for an archive")
            _copy_album(given, stage.path)
        else:
            download = stage.path.parent / "PerSeg.zip"
            archive = _download(download) if given is None else given
            _check_hash(archive, sha256, downloaded=given is None)
            extract_album(archive, stage.path)
        count = len(scan_album(stage.path))
        put_in_place(stage, restore=True)  # `overwrite=True`: FiftyOne has removed them before
        return count


def load_perseg(dataset: fo.Dataset, folder: str | os.PathLike[str], **options: Any) -> None:
    """Add a prepared album to a new dataset.

    Where that fails the dataset is deleted: FiftyOne's zoo would hand out the empty one next time.

    Args:
        dataset: empty.
        folder: as `prepare_perseg` left it.
        **options: see `PerSegImporter`.
    """
    try:
        options.setdefault("mask_dir", str(Path(folder) / MASKS))
        dataset.add_importer(PerSegImporter(folder, **options))
    except BaseException:
        dataset.delete()
        raise


def _copy_album(source: Path, target: Path) -> None:
    for entry in scan_album(source):
        copy_file(entry.photo, target / IMAGES / entry.object / entry.photo.name)
        if entry.mask is not None:
            copy_file(entry.mask, target / ANNOTATIONS / entry.object / entry.mask.name)
    (target / ANNOTATIONS).mkdir(exist_ok=True)


def _download(path: Path) -> Path:
    import eta.core.web as etaw

    logger.info("Downloading PerSeg from %s", PAGE)
    try:
        etaw.download_google_drive_file(GOOGLE_DRIVE_ID, path=str(path))
    except Exception as error:  # eta raises plain Exceptions of several kinds
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PersamError(
            f"PerSeg cannot be downloaded ({reason}): get it from {PAGE} and pass "
            "source=<the archive or its folder>"
        ) from error
    return path


def _check_hash(archive: Path, sha256: str | None, downloaded: bool) -> None:
    if sha256 is None and not downloaded:
        return
    digest = hashlib.sha256()
    try:
        with archive.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DatasetLayoutError(f"{archive} cannot be read: {error.strerror}") from error
    found = digest.hexdigest()
    if sha256 is None:
        logger.warning("PerSeg's archive was not checked; its sha256 is %s", found)
    elif found != sha256.strip().lower():
        raise DatasetLayoutError(
            f"{archive} has sha256 {found}, not {sha256}: get it again, or leave sha256 out"
        )
