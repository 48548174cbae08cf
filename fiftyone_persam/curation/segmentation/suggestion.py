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
from .resources import choose_cache

logger = logging.getLogger(__name__)

FEWEST = 2
"""Photos that a suggestion needs."""


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
    cover is compared, and photos without a label there are left out. So are photos that cannot be
    read, or whose label is damaged, with a warning that names the first.

    Args:
        samples: a dataset or view.
        label_field: whose labels to compare; None for whole photos.
        model: a model's name, or a model.
        cache: where embeddings are looked up and kept, as for `segment`.

    Returns:
        The photos, the best first.

    Raises:
        PersamError: fewer than two photos can be compared, or there is no such field.
    """
    from ...personalize.suggestion import rank_references

    check_photos_only(samples, "suggesting a reference")
    photos = photos_of(samples)
    if label_field is not None:
        check_field_name("label_field", label_field)
        if not photos.has_field(label_field):
            raise PersamError(f"the dataset has no field {label_field!r}: give one with labels")
        photos = photos.exists(label_field)
    sam = load_sam(model)
    store = choose_cache(cache)
    if store is None:
        store = MemoryCache(1)  # keeps nothing
    faulty: list[str] = []
    chosen: list[tuple[str, str, Any]] = []
    for sample in photos:
        try:
            mask = None if label_field is None else shown_mask(sample, label_field)
            chosen.append((sample.id, sample.filepath, mask))
        except PersamError as error:
            faulty.append(str(error))
    ids, paths, masks, embeddings = list[str](), list[str](), [], []
    for sample_id, path, mask in chosen:
        try:
            embeddings += encode_files(sam, [path], store)
        except PhotoError as error:
            faulty.append(str(error))
            continue
        ids.append(sample_id)
        paths.append(path)
        masks.append(mask)
    if faulty:
        logger.warning("%d photos are left out, the first: %s", len(faulty), faulty[0])
    if faulty and len(ids) < FEWEST:
        raise PersamError(
            f"{len(ids)} photos can be compared, and a suggestion needs two or more; of those "
            f"that cannot, the first: {faulty[0]}"
        )
    scores = rank_references(sam, embeddings, None if label_field is None else masks)
    order = [k for k in scores.argsort()[::-1] if scores[k] > -float("inf")]
    return Suggestion(
        tuple(ids[k] for k in order),
        tuple(float(scores[k]) for k in order),
        tuple(paths[k] for k in order),
        label_field,
    )
