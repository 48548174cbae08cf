"""Export reviewed masks: PerSeg's layout, COCO with exact masks, or FiftyOne's own types."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from ...datasets.staging import check_folder, staged
from ...errors import PersamError, did_you_mean
from ..checks import check_group_by, check_states, check_switches, folder_path
from ..database import root
from ..review.table import ACCEPTED, STATES, Collection
from .chosen import choose_photos
from .folders import coco_annotation
from .formats import EXPORTERS, Export

FORMATS = EXPORTERS
__all__ = ["EXPORTERS", "FORMATS", "Exported", "check_folder", "coco_annotation", "export_masks"]

logger = logging.getLogger(__name__)


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

    Photos that cannot be read, or whose label is damaged, are left out. Copies are upright, as
    FiftyOne shows the photos: those that EXIF turns are turned, all others are copied byte for
    byte. Everything is prepared aside and moved into place at the end: an export that fails leaves
    nothing behind, and an earlier one as it was. A file that any dataset of this database names is
    never replaced, renamed or removed.

    Masks corrected by hand (see :func:`~fiftyone_persam.curation.review.editing.make_editable`) are
    taken in place of the run's; a FiftyOneDataset has both, in their fields.

    Args:
        collection: a dataset or view
        run: the run whose masks are exported
        export_dir: folder to write; must be empty or missing unless ``overwrite``
        format: one of :data:`EXPORTERS`
        states: which review states to export
        group_by: field that names each photo's object: PerSeg's folders, COCO's categories
        overwrite: replace the files that an earlier export has written to the folder; those that
            somebody added stay, and other folders are refused

    Returns:
        how many photos were exported, with ``left_out``: why others were not

    Raises:
        PersamError: for an unknown run, format or field, an occupied folder, nothing to export,
            files of masks that are gone, or a file of a dataset in the place of a new one
    """
    root(collection)
    if format not in EXPORTERS:
        raise PersamError(
            f"unknown export format {format!r}: choose from {', '.join(EXPORTERS)}"
            f"{did_you_mean(format, EXPORTERS)}"
        )
    states = check_states(states, STATES)
    check_switches(overwrite=overwrite)
    folder = folder_path("export_dir", export_dir)
    chosen = choose_photos(collection, run, states)
    if group_by is not None:
        check_group_by(chosen.dataset, group_by)
    chosen = chosen.with_labels()
    if not chosen.ids:
        raise PersamError(
            f"run {run!r} has no mask that is {' or '.join(states)}: review it first, "
            "or export other states"
        )
    check_folder(folder, overwrite)
    chosen.check_mask_files()
    with staged(folder, overwrite) as stage:
        export = Export(chosen, stage, group_by)
        EXPORTERS[format].write(export)
        export.check_count()
    if export.left_out:
        logger.warning(
            "%d photos are left out, the first: %s", len(export.left_out), export.left_out[0]
        )
    return Exported(export.count, export.left_out)
