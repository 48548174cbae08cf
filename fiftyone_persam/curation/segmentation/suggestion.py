"""Suggest a reference: the photo of a dataset that, labelled, would serve the others best."""

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
        scores: how well each serves, in the same order; what they mean follows from ``by``.
        filepaths: in the same order.
        field: whose labels were compared; None if there were none.
        by: what they are ranked by, "separation" or "medoid".
    """

    ids: tuple[str, ...]
    scores: tuple[float, ...]
    filepaths: tuple[str, ...]
    field: str | None
    by: str

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def print_report(self, limit: int = 10) -> None:
        """Print the best ``limit`` photos with their scores, and the worst one."""
        print(f"{len(self.ids)} photos by {self.by} ({self._compared})")
        rows = list(zip(self.scores, self.ids, self.filepaths, strict=True))
        shown = rows[:limit] + (rows[-1:] if len(rows) > limit else [])
        for score, id_, path in shown:
            print(f"  {score:6.3f}  {id_}  {os.path.basename(path)}")

    @property
    def _compared(self) -> str:
        """What of the photos was compared."""
        if self.field is not None:
            return f"labels of {self.field!r}"
        return "whole photos" if self.by == "medoid" else "what the photos have in common"


def suggest_reference(
    samples: Any,
    label_field: str | None = None,
    model: Any = "sam_lite",
    *,
    by: str = "separation",
    cache: EmbeddingCache | str | os.PathLike[str] | bool | None = None,
) -> Suggestion:
    """Which photo, labelled, would serve the others best as a reference.

    With a field, as of an earlier run, what its labels cover is compared, and photos without a
    label there are left out. Before any label it is what the photos have in common, found among the
    things in them, or the whole photos. Photos that cannot be read, or whose label is damaged, are
    left out with a warning that names the first.

    Args:
        samples: a dataset or view.
        label_field: whose labels to compare; None before any label.
        model: a model's name, or a model.
        by: "separation" for how well each photo tells the object from the rest of all the others;
            "medoid" for how much its object, or without labels the whole photo, is like all the
            others. Without labels "separation" needs sam_lite: other models take the medoid.
        cache: where embeddings are looked up and kept, as for `segment`.

    Returns:
        The photos, the best first.

    Raises:
        PersamError: fewer than two photos can be compared, or an unknown field or criterion.
    """
    from ...personalize.suggestion import criterion_of, rank_references

    check_photos_only(samples, "suggesting a reference")
    photos = photos_of(samples)
    if label_field is not None:
        check_field_name("label_field", label_field)
        if not photos.has_field(label_field):
            raise PersamError(f"the dataset has no field {label_field!r}: give one with labels")
        photos = photos.exists(label_field)
    sam = load_sam(model)
    by = criterion_of(by, sam, label_field is not None)
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
    scores = rank_references(sam, embeddings, None if label_field is None else masks, by)
    order = [k for k in scores.argsort()[::-1] if scores[k] > -float("inf")]
    return Suggestion(
        tuple(ids[k] for k in order),
        tuple(float(scores[k]) for k in order),
        tuple(paths[k] for k in order),
        label_field,
        by,
    )
