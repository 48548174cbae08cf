"""Export reviewed masks: PerSeg's layout, COCO with exact masks, or FiftyOne's own types."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from ...errors import PersamError
from ..checks import check_group_by, check_states, check_switches, folder_path
from ..database import root
from ..fiftyone_api import root_dataset
from ..labels.masks import shown_mask, union_mask
from ..labels.sizes import photo_size
from ..review.editing import corrected_fields, latest_label
from ..review.table import ACCEPTED, STATES, Collection, review_view

logger = logging.getLogger(__name__)

# Left in every exported folder with the list of its files: only these are ever replaced.
MARKER = ".fiftyone-persam-export"

FORMATS = {
    "perseg": "PerSeg layout (Images/<object>/, Annotations/<object>/)",
    "coco": "COCO JSON with run-length encoded masks",
    "masks": "folder of photos and folder of mask PNGs",
    "fiftyone": "FiftyOneDataset (everything, loads again with from_dir)",
}


class Exported(int):
    """How many photos were exported; ``left_out`` has the reasons of those that were not."""

    left_out: list[str]

    def __new__(cls, count: int, left_out: Sequence[str] = ()) -> Exported:
        """A number with a list."""
        made = super().__new__(cls, count)
        made.left_out = list(left_out)
        return made


def export_masks(
    collection: Collection,
    run: str,
    export_dir: str | os.PathLike[str],
    format: str = "perseg",
    states: Sequence[str] = (ACCEPTED,),
    group_by: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write photos and their masks to a folder.

    Photos that cannot be read are left out. Everything is prepared aside and moved into place at
    the end: an export that fails leaves nothing behind, and an earlier one as it was.

    Masks corrected by hand (see :func:`~fiftyone_persam.curation.editing.make_editable`) are taken
    in place of the run's; a FiftyOneDataset has both, in their fields.

    Args:
        collection: a dataset or view
        run: the run whose masks are exported
        export_dir: folder to write; must be empty or missing unless ``overwrite``
        format: one of :data:`FORMATS`
        states: which review states to export
        group_by: field that names each photo's object: PerSeg's folders, COCO's categories
        overwrite: replace the files that an earlier export has written to the folder; those that
            somebody added stay, and other folders are refused

    Returns:
        how many photos were exported, with ``left_out``: why others were not

    Raises:
        PersamError: for an unknown run, format or field, an occupied folder, or nothing to export
    """
    root(collection)
    if not isinstance(format, str) or format not in FORMATS:
        raise PersamError(f"unknown export format {format!r}: choose from {', '.join(FORMATS)}")
    if group_by is not None:
        check_group_by(collection, group_by)
    check_states(states, STATES)
    check_switches(overwrite=overwrite)
    folder = folder_path("export_dir", export_dir)
    view = review_view(collection, run, *states).exists(run)
    if not len(view):
        raise PersamError(
            f"run {run!r} has no mask that is {' or '.join(states)}: review it first, "
            "or export other states"
        )
    earlier = check_folder(folder, overwrite)
    faults = _unreadable(view)
    if faults:
        view = view.exclude(list(faults))
        logger.warning(
            "%d photos are left out, the first: %s", len(faults), next(iter(faults.values()))
        )
    count = len(view)
    if not count:
        raise PersamError(f"no photo can be exported, the first: {next(iter(faults.values()))}")
    corrected = corrected_fields(root_dataset(view), run)
    with _staging(folder) as aside:
        if format == "coco":
            _export_coco(view, run, aside, group_by, corrected)
        elif format == "perseg":
            _export_perseg(view, run, aside, group_by, corrected)
        elif format == "masks":
            _export_folders(view, run, aside, corrected)
        else:
            aside.rmdir()  # FiftyOne warns of folders that are there
            view.export(export_dir=str(aside), dataset_type=fo.types.FiftyOneDataset)
        _move(aside, folder, earlier)
    return Exported(count, list(faults.values()))


def coco_annotation(
    mask: npt.NDArray[np.bool_], image_id: int, annotation_id: int, category_id: int
) -> dict[str, Any]:
    """One COCO annotation: the exact mask as compressed RLE, its area, and its box x, y, w, h.

    Args:
        mask: (H, W) bool, not empty
        image_id: id of the photo's entry in ``images``
        annotation_id: this annotation's own id
        category_id: id of the object's entry in ``categories``
    """
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "area": int(coco_mask.area(rle)),
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "iscrowd": 0,
    }


def check_folder(folder: Path, overwrite: bool) -> list[str]:
    """The files of an earlier export that a new one replaces, as paths inside ``folder``.

    Raises:
        PersamError: ``folder`` is a file, or holds something, and is not to be overwritten or
            holds no export
    """
    if folder.is_file():
        raise PersamError(f"{folder} is a file: give a folder to export into")
    if not folder.is_dir() or not any(folder.iterdir()):
        return []
    if not overwrite:
        raise PersamError(f"{folder} is not empty: choose an empty folder")
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        # Never empty a folder that somebody filled with something else.
        raise PersamError(
            f"{folder} holds more than an earlier export: choose an empty folder"
        ) from None
    inside = folder.resolve()
    named = [name for name in files if isinstance(name, str)]
    return [name for name in named if inside in (folder / name).resolve().parents]


def _unreadable(view: Any) -> dict[str, str]:
    """Sample id -> reason, of photos that are not there or are no photos."""
    faults = {}
    for sample_id, filepath in zip(*view.values(["id", "filepath"]), strict=True):
        try:
            photo_size(filepath)
        except PersamError as error:
            faults[sample_id] = str(error)
    return faults


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder beside the one to write, which is gone in the end."""
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _not_written(folder, error) from None
    try:
        inner = aside / "export"
        inner.mkdir()
        yield inner
    except OSError as error:
        source = str(error.filename or "")
        if source and not Path(source).is_relative_to(aside) and not folder.exists():
            reason = error.strerror or type(error).__name__
            raise PersamError(
                f"{source} cannot be read ({reason}): restore it, or leave its photo out"
            ) from None
        raise _not_written(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _move(aside: Path, folder: Path, earlier: list[str]) -> None:
    """Put a finished export in place of an earlier one's files."""
    files = [str(path.relative_to(aside)) for path in sorted(aside.rglob("*")) if path.is_file()]
    replaced = {Path(name) for name in earlier}
    for name in files:
        if Path(name) not in replaced and os.path.lexists(folder / name):
            raise PersamError(
                f"{folder / name} is not of the earlier export: move it, or choose another folder"
            )
    folder.mkdir(exist_ok=True)
    # Listed first: a move that is cut off can be overwritten.
    marked = json.dumps({"files": sorted({*files, *earlier})})
    (folder / MARKER).write_text(marked, encoding="utf-8")
    for name in earlier:
        (folder / name).unlink(missing_ok=True)
        _remove_empty((folder / name).parent, folder)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(aside / name, folder / name)
    (folder / MARKER).write_text(json.dumps({"files": files}), encoding="utf-8")


def _remove_empty(inner: Path, folder: Path) -> None:
    while inner != folder and inner.is_dir() and not any(inner.iterdir()):
        inner.rmdir()
        inner = inner.parent


def _not_written(folder: Path, error: OSError) -> PersamError:
    reason = error.strerror or type(error).__name__
    return PersamError(f"{folder} cannot be written ({reason}): choose another folder")


def _export_perseg(
    view: Any, run: str, folder: Path, group_by: str | None, corrected: list[str]
) -> None:
    from ...datasets import PerSegDataset

    options = {"export_dir": str(folder), "dataset_type": PerSegDataset, "label_field": run}
    if group_by:
        options["object_field"] = group_by
    if not corrected:
        view.export(**options)
        return
    # The exporter reads one field, so what is latest is gathered in one.
    gathered = fo.Dataset()
    try:
        known = ("role", group_by or "object")
        for sample in view:
            values = {name: sample[name] for name in known if sample.has_field(name)}
            latest = latest_label(sample, run, corrected)
            gathered.add_sample(
                fo.Sample(sample.filepath, **values, **{run: _whole(sample, latest)})
            )
        gathered.export(**options)
    finally:
        gathered.delete()


def _whole(sample: Any, label: Any) -> fo.Segmentation:
    mask = union_mask(label, photo_size(sample.filepath))
    return fo.Segmentation(mask=np.where(mask, 255, 0).astype(np.uint8))


def _export_coco(
    view: Any, run: str, folder: Path, group_by: str | None, corrected: list[str]
) -> None:
    photos = folder / "data"
    photos.mkdir()
    names = _FileNames()
    categories: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in view:
        height, width = photo_size(sample.filepath)
        name = names.of(sample.filepath)
        shutil.copyfile(sample.filepath, photos / name)
        images.append(
            {
                "id": len(images) + 1,
                "file_name": name,
                "height": height,
                "width": width,
            }
        )
        label = latest_label(sample, run, corrected)
        instances = list(label.detections) if isinstance(label, fo.Detections) else [label]
        for instance in instances:
            mask = shown_mask(sample, run, instance)
            if not mask.any():
                continue
            named = sample[group_by] if group_by else getattr(instance, "label", None)
            category = categories.setdefault(str(named or "object"), len(categories) + 1)
            annotation = coco_annotation(mask, len(images), len(annotations) + 1, category)
            score = sample.get_field(f"{run}_score")
            annotations.append(annotation if score is None else {**annotation, "score": score})
    content = {
        "info": {"description": f"masks of run {run}", "version": "1.0"},
        "licenses": [],
        "categories": [{"id": i, "name": n} for n, i in categories.items()],
        "images": images,
        "annotations": annotations,
    }
    (folder / "labels.json").write_text(json.dumps(content), encoding="utf-8")


def _export_folders(view: Any, run: str, folder: Path, corrected: list[str]) -> None:
    from PIL import Image

    (folder / "data").mkdir()
    (folder / "labels").mkdir()
    names = _FileNames()
    for sample in view:
        name = names.of(sample.filepath)
        mask = shown_mask(sample, run, latest_label(sample, run, corrected))
        shutil.copyfile(sample.filepath, folder / "data" / name)
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(
            folder / "labels" / f"{Path(name).stem}.png"
        )


class _FileNames:
    """File names for photos from several folders: unique stems, so that masks stay unique too."""

    def __init__(self) -> None:
        self._stems: set[str] = set()

    def of(self, filepath: str) -> str:
        path = Path(filepath)
        stem, number = path.stem, 1
        while stem in self._stems:
            number += 1
            stem = f"{path.stem}-{number}"
        self._stems.add(stem)
        return stem + path.suffix
