"""Suggest a reference: the photo of a dataset that is most like all the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...engine.cache import EmbeddingCache, MemoryCache, encode_files
from ...errors import PersamError, PhotoError
from ...sam import load_sam
from ..checks import check_field_name
from ..database import photos_of
from ..frame_store import check_photos_only
from ..labels.masks import shown_mask
from . import plan as planning

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suggestion:
    """Photos in the order in which they would serve as a reference.

    Attributes:
        ids: of the samples, the best one first; ``ids[0]`` can be given to `segment`.
        scores: mean similarity of each to all the others, -1 to 1, in the same order.
        filepaths: in the same order.
        field: whose labels were compared; None if whole photos were.
    """

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    filepaths: tuple[str, ...]
    field: str | None

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def print_report(self, limit: int = 10) -> None:
        """Print the best ``limit`` photos with their scores, and the worst one."""
        what = "whole photos" if self.field is None else f"labels of {self.field!r}"
        print(f"{len(self.ids)} photos by how typical they are ({what})")
        rows = list(zip(self.scores, self.ids, self.filepaths, strict=True))
        shown = rows[:limit] + (rows[-1:] if len(rows) > limit else [])
        for score, id_, path in shown:
            print(f"  {score:6.3f}  {id_}  {os.path.basename(path)}")


def suggest_reference(
    samples: Any,
    label_field: str | None = None,
    model: Any = "sam_lite",
    *,
    cache: EmbeddingCache | str | os.PathLike[str] | bool | None = None,
) -> Suggestion:
    """Which photo, labelled, would serve the others best as a reference: the medoid.

    Before any label whole photos are compared. With a field, as of an earlier run, what its labels
    cover is compared, and photos without a label there, or with a damaged one, are left out.

    Args:
        samples: a dataset or view.
        label_field: whose labels to compare; None for whole photos.
        model: a model's name, or a model.
        cache: where embeddings are looked up and kept, as for `segment`.

    Returns:
        The photos, the best first.

    Raises:
        PersamError: fewer than two photos can be compared, or there is no such field.
        PhotoError: a photo cannot be read.
    """
    from ...personalize.suggestion import rank_references

    check_photos_only(samples, "suggesting a reference")
    photos = photos_of(samples)
    if label_field is not None:
        check_field_name("label_field", label_field)
        if not photos.has_field(label_field):
            raise PersamError(f"the dataset has no field {label_field!r}: give one with labels")
        photos = photos.exists(label_field)
    ids, paths = photos.values(["id", "filepath"])
    masks = None
    if label_field is not None:
        masks, faulty = [], {}
        for sample in photos:
            try:
                masks.append(shown_mask(sample, label_field))
            except PhotoError:
                raise
            except PersamError as error:
                faulty[sample.id] = str(error)
        if faulty:
            first = next(iter(faulty.values()))
            logger.warning("%d photos are left out, the first: %s", len(faulty), first)
            rows = zip(ids, paths, strict=True)
            kept = [(i, path) for i, path in rows if i not in faulty]
            ids, paths = [i for i, _ in kept], [path for _, path in kept]
    sam = load_sam(model)
    store = planning.choose_cache(cache)
    if store is None:
        store = MemoryCache(1)  # keeps nothing
    scores = rank_references(sam, encode_files(sam, paths, store), masks)
    order = [k for k in scores.argsort()[::-1] if scores[k] > -float("inf")]
    return Suggestion(
        tuple(ids[k] for k in order),
        tuple(float(scores[k]) for k in order),
        tuple(paths[k] for k in order),
        label_field,
    )
