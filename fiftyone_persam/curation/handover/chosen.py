"""The photos whose masks are handed over: of the whole dataset or of a view, by their review."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ...errors import PersamError
from ..database import in_parts, photo_ids, photos_of, refresh, root, with_retries
from ..frame_store import check_photos_only
from ..labels.masks import named_masks
from ..review.editing import corrected_fields, latest_field
from ..review.table import Collection, review_table
from ..runs.fields import read_fields
from ..runs.losses import Files, check_has_masks
from ..runs.naming import require
from ..runs.several import values_of

CHUNK = 128
_MOST_SELECTED = 10_000
_SHOWN = 3


@dataclass(frozen=True)
class Chosen:
    """Photos of a run that are in some states of its review.

    Attributes:
        dataset: theirs, as it is now in the database.
        run: the run's name.
        ids: of the photos, in the view's order.
        states: what was decided, of all photos of the view that the run has touched.
        corrected: fields in which masks may have been corrected by hand, latest first.
        objects: names of the run's objects where a photo may have several.
    """

    dataset: Any
    run: str
    ids: list[str]
    states: dict[str, str]
    corrected: list[str]
    objects: tuple[str, ...] = ()

    def masks_by_name(self, sample: Any, size: tuple[int, int]) -> dict[str, npt.NDArray[np.bool_]]:
        """Of a run of several objects: those that are in a photo, with their (H, W) masks."""
        where = f"the mask of {os.path.basename(sample.filepath)} in {self.run!r}"
        found = named_masks(self.label_of(sample), size, values_of(self.objects), where)
        return {name: mask for name, mask in found.items() if mask.any()}

    def chunks(self) -> Iterator[list[Any]]:
        """The photos with all their fields, whatever a view hides, some at a time."""
        photos = photos_of(self.dataset)
        for start in range(0, len(self.ids), CHUNK):
            view = photos.select(self.ids[start : start + CHUNK], ordered=True)
            yield with_retries(list, view)

    def samples(self) -> Iterator[Any]:
        """The photos with all their fields."""
        for chunk in self.chunks():
            yield from chunk

    def label_of(self, sample: Any) -> Any:
        """A photo's mask as it is now: corrected by hand, or the run's."""
        return sample[latest_field(sample, self.run, self.corrected)]

    def with_labels(self) -> Chosen:
        """Those that have a mask, absent or not: failed photos have none."""
        done = set(photos_of(self.dataset).exists(self.run).values("id"))
        return replace(self, ids=[one for one in self.ids if one in done])

    def value_of(self, sample: Any, name: str) -> Any:
        """What a run has noted of a photo, such as "score"; None where that field was deleted."""
        field = f"{self.run}_{name}"
        return sample[field] if sample.has_field(field) else None

    def mask_paths(self) -> dict[str, str]:
        """Sample id -> the file of its mask, of photos whose mask is in a file of the run."""
        if self.dataset.get_field(self.run).document_type is not fo.Segmentation:
            return {}
        found: dict[str, str] = {}
        for start in range(0, len(self.ids), _MOST_SELECTED):
            view = photos_of(self.dataset).select(self.ids[start : start + _MOST_SELECTED])
            for name in self.corrected:
                view = view.exists(name, bool=False)
            rows = zip(*view.values(["id", f"{self.run}.mask_path"]), strict=True)
            found.update((i, path) for i, path in rows if path)
        return found

    def check_mask_files(self) -> None:
        """Raise PersamError if files of masks are gone, naming them.

        One that is there and is no mask costs only its photo.
        """
        gone: list[str] = []
        files, left = Files(of_any_kind=True), set(self.ids)
        for name in (*self.corrected, self.run):  # the first that has a label counts
            whole = self.dataset.get_field(name).document_type is fo.Segmentation
            path = f"{name}.mask_path" if whole else f"{name}.detections.mask_path"
            for part in in_parts(left, _MOST_SELECTED):
                view = photos_of(self.dataset).select(part).exists(name)
                for i, value in zip(*view.values(["id", path]), strict=True):
                    left.discard(i)
                    named = value if isinstance(value, list) else [value]
                    gone += [one for one in named if one and one not in files]
        if gone:
            more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
            raise PersamError(
                f"{len(gone)} mask files of run {self.run!r} are gone and cannot be read "
                f"({', '.join(gone[:_SHOWN])}{more}): put them back, or make them again with "
                f"resume_run(dataset, {self.run!r})"
            )


def choose_photos(collection: Collection, run: str, states: Sequence[str]) -> Chosen:
    """The photos of a dataset or view whose masks of a run are in one of ``states``.

    Fields are looked up on the dataset, as it is in the database now: a view may hide some, and
    other processes may have added runs.

    Raises:
        PersamError: there is no such run.
    """
    dataset = root(collection)
    check_photos_only(dataset, "handing masks over")
    ids = None if isinstance(collection, fo.Dataset) else photo_ids(collection)
    refresh(dataset)
    require(dataset, run)
    check_has_masks(dataset, run)
    photos = photos_of(dataset)
    if ids is not None and len(ids) <= _MOST_SELECTED:
        photos = photos.select(ids)
    table = review_table(photos, run)
    found = dict(zip(table.ids, table.states.tolist(), strict=True))
    order = table.ids if ids is None else ids
    known = {one: found[one] for one in order if one in found}
    chosen = [one for one, state in known.items() if state in states]
    objects = read_fields(dataset, run).objects
    return Chosen(dataset, run, chosen, known, corrected_fields(dataset, run), objects)
