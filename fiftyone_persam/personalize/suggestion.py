"""Which photo, labelled, would serve the other photos best as a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from ..sam import ImageEmbedding, Promptable
from .appearance import mean_cell, without_direction
from .common_object import common_object
from .location import ReferenceView
from .prior import aligned_foreground, mean_feature, valid_cells
from .registries import CRITERIA, MEDOID, SEPARATION
from .stronger_priors import BackgroundRemovedPrior

# Where the others find less of their object than this share of what is usual, another thing may be
# shown: such a photo comes last, however well it tells its own object from the others' rest.
_FOUND, _LAST = 0.5, 2.0


@torch.no_grad()
def rank_references(
    sam: Promptable,
    embeddings: Sequence[ImageEmbedding],
    masks: Sequence[npt.NDArray[np.bool_] | None] | None = None,
    by: str = SEPARATION,
) -> npt.NDArray[np.float64]:
    """How well each photo would serve the others as a reference: the best has the highest number.

    "separation": each photo's similarity map is made on all the others, as it would be if the photo
    were the reference. It serves where the object stands out of the map: the mean similarity of the
    object less that of the rest. A photo whose own object stands out of none of the others' maps
    comes last. "medoid": the mean cosine similarity of the object's mean feature to that of the
    others. `benchmarks.reference_choice` compares them.

    Args:
        sam: the model that made the embeddings.
        embeddings: n photos.
        masks: (H, W) bool of the object in each; None for a photo without it, which then cannot be
            suggested. Without masks the object is what the photos have in common for "separation"
            (see `common_object`), and the whole photo for "medoid".
        by: one of `CRITERIA`; see `criterion_of` for what a model allows.

    Returns:
        (n,) -1 to 1 for "medoid"; -2 to 2 for "separation", 2 less for photos that come last; -inf
        for photos that cannot be suggested.

    Raises:
        PersamError: there are fewer than two photos to compare, masks of another number, or an
            unknown criterion.
    """
    if masks is not None and len(masks) != len(embeddings):
        raise PersamError(f"{len(embeddings)} photos need as many masks, not {len(masks)}")
    by = criterion_of(by, sam, masks is not None)
    cells: list[Tensor] | None = None
    usable = list(range(len(embeddings)))
    if masks is not None:
        shown = {k: m for k, m in enumerate(masks) if m is not None and np.asarray(m).any()}
        usable = list(shown)
        cells = [aligned_foreground(sam, mask, embeddings[k]) for k, mask in shown.items()]
    if len(usable) < 2:
        raise PersamError(
            f"{len(usable)} photos can be compared, and a suggestion needs two or more: give more "
            "photos, or a field with labels in more of them"
        )
    photos = [embeddings[k] for k in usable]
    if by == SEPARATION:
        found = _separation(sam, photos, common_object(sam, photos) if cells is None else cells)
    else:
        found = _medoid(sam, photos, cells)
    scores = np.full(len(embeddings), -np.inf)
    scores[usable] = found.double().cpu().numpy()
    return scores


def criterion_of(by: str, sam: Promptable, labelled: bool) -> str:
    """The criterion that photos are ranked by.

    Args:
        by: one of `CRITERIA`.
        sam: the model.
        labelled: whether masks are given. Without them, what photos have in common is found among
            the things of a detector; for a model whose embedding that does not know it is "medoid".

    Raises:
        PersamError: an unknown criterion.
    """
    from ..sam.valid_prompts import knows

    if by not in CRITERIA:
        raise PersamError(f"by={by!r} is not known: give one of {', '.join(map(repr, CRITERIA))}")
    return by if labelled or knows(sam) else MEDOID


def _separation(
    sam: Promptable, photos: Sequence[ImageEmbedding], cells: Sequence[Tensor]
) -> Tensor:
    """(n,) by how much each photo's object stands out of its similarity maps of all the others."""
    prior = BackgroundRemovedPrior()
    views = []
    for photo, own in zip(photos, cells, strict=True):
        features = prior.features(photo).to(sam.device).float()
        target = F.normalize(mean_feature(features, own), dim=0)
        valid = valid_cells([photo], sam.device)[0]
        views.append(ReferenceView(photo, features, own, valid, target))
    targets, fitted = torch.stack([view.target for view in views]), prior.fit(views)
    gaps = torch.zeros(len(views), len(views), device=targets.device)
    for number, view in enumerate(views):
        maps = prior.similarity(view.features[None], view.valid[None], targets, fitted)[0]
        inside, rest = view.foreground.float(), (view.valid & ~view.foreground).float()
        # A photo that is all object says nothing of anything else.
        weights = inside / inside.sum() - rest / rest.sum().clamp_min(1)
        gaps[:, number] = (maps * weights).sum(dim=(1, 2))
    gaps.fill_diagonal_(0)
    serves, found = (gaps.sum(dim=axis) / (len(views) - 1) for axis in (1, 0))
    return serves - _LAST * (found < _FOUND * found.median())


def _medoid(
    sam: Promptable, photos: Sequence[ImageEmbedding], cells: Sequence[Tensor] | None
) -> Tensor:
    """(n,) mean cosine similarity of each photo's object, or of all of it, to the others'."""
    rows = []
    for number, photo in enumerate(photos):
        features = photo.to_match.to(sam.device)
        valid = valid_cells([photo], sam.device)[0]
        if cells is None:
            rows.append(mean_cell(features, valid))
            continue
        rest = F.normalize(mean_cell(features, valid & ~cells[number]), dim=0)
        rows.append(without_direction(mean_cell(features, cells[number])[None], rest)[0])
    vectors = torch.stack(rows)
    if cells is None:  # what all photos share would make all of them alike
        vectors = vectors - vectors.mean(dim=0)
    vectors = F.normalize(vectors, dim=1)
    alike = vectors @ vectors.T
    return (alike.sum(dim=1) - alike.diagonal()) / (len(photos) - 1)
