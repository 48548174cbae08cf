"""Hand reviewed masks over to a label field of the dataset, with where each one comes from."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import fiftyone as fo

from ...engine.writing import MASK_VALUE
from ...errors import PersamError
from ..checks import check_states, check_switches, check_text
from ..database import surviving, write_samples
from ..review.table import ACCEPTED, STATES, Collection
from ..runs.schema import check_unlocked, name_values
from .chosen import choose_photos
from .earlier_labels import earlier_batches, labelled_ids, withdrawn_labels
from .label_field import check_label_field, declare, object_value, object_values
from .promoted_files import NewFiles, clear, promoting
from .promoted_labels import Labels

logger = logging.getLogger(__name__)


@dataclass
class Promotion:
    """What :func:`promote` did.

    Attributes:
        label_field: where it wrote
        promoted: ids of photos that got a label
        kept: ids of photos left as they were
        withdrawn: ids of photos that have lost a label, because its mask is not accepted any more
        left_out: why photos were left out, whose label is damaged, by id
    """

    label_field: str
    promoted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{len(self.promoted)} labels promoted into {self.label_field!r}"
        if self.kept:
            text += f", {len(self.kept)} photos kept the label they had (overwrite=True replaces)"
        if self.withdrawn:
            text += f", {len(self.withdrawn)} withdrawn: their masks are not accepted any more"
        if self.left_out:
            first = next(iter(self.left_out.values()))
            text += f", {len(self.left_out)} photos left out, the first: {first}"
        return text


def promote(
    collection: Collection,
    run: str,
    label_field: str,
    states: Sequence[str] = (ACCEPTED,),
    kind: str | None = None,
    label: str = "object",
    overwrite: bool = False,
    masks_dir: str | os.PathLike[str] | None = None,
) -> Promotion:
    """Copy a run's masks into a label field that outlives the run.

    Masks corrected by hand (see :func:`~fiftyone_persam.curation.editing.make_editable`) are taken
    in place of the run's. Each label carries its provenance as attributes: ``persam_run``,
    ``persam_score``, ``persam_presence`` and ``persam_review``. Mask files are copied: deleting the
    run leaves the labels whole.

    Photos whose label of the run is damaged are left out and named. Photos that already have a
    label in the field keep it unless ``overwrite``. In a field of
    ``Detections`` only objects of the same run count as that: all others stay in any case.

    Labels that the run has promoted into the field before, and whose decision has been taken back
    since (accepted then, and not now), go.

    Args:
        collection: a dataset or view
        run: the run's name
        label_field: where to write; made if it is missing
        states: which review states to take
        kind: ``"segmentation"`` or ``"detections"``; default: what the field or the run has
        label: the class name of new detections; in a field of segmentations whose mask targets
            have that name, its value is written, else 255, which gets the name. Several objects
            of a run keep their names
        overwrite: replace labels that are there
        masks_dir: folder for mask files; default: a folder named after the field beside the run's

    Raises:
        PersamError: for an unknown run or kind, or a field of another label type, or of colours
        RunConflictError: if the field, or the folder, belongs to a run
    """
    states = check_states(states, STATES)
    check_text("label", label)
    check_switches(overwrite=overwrite)
    chosen = choose_photos(collection, run, states)
    dataset = chosen.dataset
    target = check_label_field(dataset, run, label_field, kind)
    check_unlocked(dataset, [label_field], f"promoting into {label_field!r}")
    files = NewFiles(dataset, label_field, masks_dir)
    chosen = chosen.with_labels()
    result = Promotion(label_field)
    if not overwrite:
        there = labelled_ids(dataset, run, label_field, chosen.ids, target)
        result.kept = [i for i in chosen.ids if i in there]
        chosen = replace(chosen, ids=[i for i in chosen.ids if i not in there])
    others = {i: s for i, s in chosen.states.items() if s not in states}
    withdrawn = withdrawn_labels(dataset, run, label_field, others)
    result.promoted, result.withdrawn = list(chosen.ids), list(withdrawn)
    if not chosen.ids and not withdrawn:
        return result
    chosen.check_mask_files()
    if chosen.objects:
        pixel, values, targets = MASK_VALUE, *object_values(dataset, chosen, label_field)
    else:
        pixel, targets = object_value(dataset, run, label_field, label)
        values = {}
    written = Labels(chosen, target, label_field, label, pixel, values)
    sources = written.files()
    files.prepare(sources.values())
    if faulty := written.faulty(sources):
        chosen = replace(chosen, ids=[i for i in chosen.ids if i not in faulty])
        result.left_out, result.promoted = faulty, list(chosen.ids)
        if not chosen.ids and not withdrawn:
            raise PersamError(f"no mask can be promoted, the first: {next(iter(faulty.values()))}")
        logger.warning("%s", result)
        sources = {i: path for i, path in sources.items() if i not in faulty}
        written = Labels(chosen, target, label_field, label, pixel, values)

    replaced = earlier_batches(dataset, label_field, [*chosen.ids, *withdrawn], target)
    with promoting(dataset, label_field, files, replaced):
        copies = {i: files.copy(i, source) for i, source in sources.items()}

        def write() -> None:
            write_samples(dataset, {i: {label_field: v} for i, v in withdrawn.items()})
            if chosen.ids:
                declare(dataset, label_field, target)
                if target is fo.Segmentation and targets:
                    name_values(dataset, label_field, targets)
            for values in written.chunks(copies):
                write_samples(dataset, values)

        surviving(write)
    return result


FINISH = {"promote": clear}
"""What `journal.settle` does after a process that was killed."""
