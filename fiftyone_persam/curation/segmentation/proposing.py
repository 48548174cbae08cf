"""Masks of whatever is in photos, without a label or a prompt: shown, or written as Detections."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
from fiftyone.core.sample import SampleView

from ...errors import PersamError, problem_of
from ...sam import PROPOSERS, Proposal, load_photo, load_sam
from ...sam.proposals import (
    DEFAULT_COUNT,
    DEFAULT_PROPOSER,
    check_count,
    found_in,
    propose_in,
)
from .. import checks, database
from ..checks import check_field_name, check_switches, check_text
from ..fiftyone_api import new_field, root_dataset
from ..frame_store import check_photos_only
from ..progress import Progress, StoppedError, reporting
from ..runs import schema
from .marking import check_markable
from .photos import check_photos

FLUSH = 16
"""Photos whose proposals are written at once."""
NOTHING = "nothing was found in this photo"


@dataclass
class Everything:
    """What `segment_everything` has done.

    Attributes:
        field: where the Detections are.
        photos: how many photos have their masks by now.
        skipped: how many had them before.
        masks: how many were written.
        errors: sample id -> why the photo has none: it cannot be read, or shows nothing.
    """

    field: str
    photos: int = 0
    skipped: int = 0
    masks: int = 0
    errors: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.masks} masks in {self.photos} photos"
        if self.skipped:
            text += f", {self.skipped} photos had theirs"
        empty = sum(reason == NOTHING for reason in self.errors.values())
        if empty:
            text += f", nothing was found in {empty} photo{'' if empty == 1 else 's'}"
        if failed := len(self.errors) - empty:
            text += f", {failed} photos failed"
        return text

    def print_report(self) -> None:
        """Print the counts, and each reason for which photos failed."""
        print(f"{self.field}: {self}")
        for reason, count in Counter(self.errors.values()).most_common():
            print(f"  {count} x {reason}")


def propose(
    image: Any,
    model: Any = "sam_lite",
    max_proposals: int = DEFAULT_COUNT,
    *,
    proposer: str = DEFAULT_PROPOSER,
    device: Any = "auto",
) -> list[Proposal] | dict[str, list[Proposal]]:
    """Masks of whatever is in a photo, or in each photo of a view, best first.

    Args:
        image: a path, PIL image, array (H, W, 3) RGB, or sample; or a dataset or view.
        model: a model's name, or a model: it makes the masks.
        max_proposals: how many in a photo, 1 to 1,000.
        proposer: "discovery": boxes of a small detector, one prompt each, as MobileSAMv2 does;
            "grid": a grid of points, as Segment Anything does; or another of ``PROPOSERS``.
        device: "auto", "cuda", "mps", "cpu", ...

    Returns:
        Proposals with ``mask``, ``score`` and ``box``, an empty list where nothing was found; of a
        dataset or view a dict of them by sample id.

    Raises:
        PersamError: something that was given is wrong.
        PhotoError: a photo cannot be read.
        CheckpointError: the model's checkpoint is not there.
    """
    if isinstance(image, (fo.Sample, SampleView)):
        image = image.filepath
    if not isinstance(image, fo.core.collections.SampleCollection):
        return propose_in(image, model, max_proposals, proposer, device)
    check_count(max_proposals)
    chosen, photos = PROPOSERS[proposer](), check_photos(image)
    check_photos_only(image, "proposing objects")
    sam = load_sam(model, device)
    ids, paths = photos.values(["id", "filepath"])
    return {
        i: found_in(chosen, sam, load_photo(path), max_proposals)
        for i, path in zip(ids, paths, strict=True)
    }


def segment_everything(
    samples: Any,
    model: Any = "sam_lite",
    out_field: str = "everything",
    *,
    max_proposals: int = DEFAULT_COUNT,
    proposer: str = DEFAULT_PROPOSER,
    label: str = "thing",
    skip_existing: bool = False,
    overwrite: bool = False,
    device: Any = "auto",
    progress: Progress = None,
) -> Everything:
    """Mask everything in the photos of a dataset or view: `fo.Detections` with instance masks.

    Each thing is a `fo.Detection` with the proposal's score as its confidence. One bad photo costs
    only itself: in it, and in a photo in which nothing is found, nothing is written. Written a few
    photos at a time, so a call that was stopped is gone on with by ``skip_existing=True``.

    Args:
        samples: dataset or view.
        model: see `propose`.
        out_field: the field; made if it is missing.
        max_proposals: how many in a photo, 1 to 1,000.
        proposer: see `propose`.
        label: what each thing is called.
        skip_existing: leave photos alone that have something in the field.
        overwrite: replace what photos have in the field.
        device: see `propose`.
        progress: True or False for FiftyOne's progress bar, None for its own setting, or a function
            that is called with photos done and their total; what that raises stops the work.

    Returns:
        What was done.

    Raises:
        PersamError: something that was given is wrong; the message says what. Nothing is written.
        CheckpointError: the model's checkpoint is not there.
    """
    photos = check_photos(samples)
    check_photos_only(samples, "segmenting everything")
    check_count(max_proposals)
    check_text("label", label)
    check_switches(skip_existing=skip_existing, overwrite=overwrite)
    checks.check_progress(progress)
    check_field_name("out_field", out_field)
    chosen = PROPOSERS[proposer]()
    dataset = root_dataset(photos)
    check_markable(dataset, out_field, "writing into")
    ids, paths = photos.values(["id", "filepath"])
    has_field = dataset.has_field(out_field)
    there = set(photos.exists(out_field).values("id")) if has_field else set()
    if there and not (skip_existing or overwrite):
        raise PersamError(
            f"{len(there)} of the photos have something in {out_field!r}: choose another field, "
            "skip_existing=True or overwrite=True"
        )
    sam = load_sam(model, device)
    done = Everything(out_field, skipped=len(there) if skip_existing else 0)
    todo = [(i, p) for i, p in zip(ids, paths, strict=True) if not (skip_existing and i in there)]
    changes: dict[str, dict[str, Any]] = {}
    try:
        with reporting(progress, len(todo)) as report:
            for number, (sample_id, path) in enumerate(todo, 1):
                found = _found(chosen, sam, path, max_proposals)
                if isinstance(found, str):
                    done.errors[sample_id] = found
                    if found == NOTHING and sample_id in there:
                        changes[sample_id] = {out_field: None}  # what was there is out of date
                else:
                    things = [as_detection(one, label) for one in found]
                    changes[sample_id] = {out_field: fo.Detections(detections=things)}
                    done.photos += 1
                    done.masks += len(things)
                if len(changes) >= FLUSH or number == len(todo):
                    _write(dataset, out_field, changes)
                report(number)
    except StoppedError as stopped:
        raise stopped.cause from None
    finally:
        _write(dataset, out_field, changes)
        database.refresh(dataset)
    return done


def as_detection(proposal: Proposal, label: str) -> fo.Detection:
    """A proposal as FiftyOne has it: the box from 0 to 1, and the mask inside it."""
    height, width = proposal.size
    x0, y0, x1, y1 = (int(v) for v in proposal.box)
    box = [x0 / width, y0 / height, (x1 + 1 - x0) / width, (y1 + 1 - y0) / height]
    return fo.Detection(
        label=label, bounding_box=box, mask=proposal.crop, confidence=proposal.score
    )


def _found(proposer: Any, sam: Any, path: str, count: int) -> list[Proposal] | str:
    """A photo's proposals, or why there are none."""
    found: list[Proposal] = []

    def work() -> None:
        found.extend(found_in(proposer, sam, load_photo(path), count))

    return problem_of(work) or found or NOTHING


def _write(dataset: Any, field: str, changes: dict[str, dict[str, Any]]) -> None:
    """Write what was found; the field is made with the first of it."""
    if changes:
        _declare(dataset, field)
        database.with_retries(database.write_samples, dataset, changes)
        changes.clear()


def _declare(dataset: Any, name: str) -> None:
    about = "Masks of whatever is in the photos"
    kind = new_field(
        name, fo.EmbeddedDocumentField, description=about, embedded_doc_type=fo.Detections
    )
    schema.add_fields(dataset, {name: kind})
