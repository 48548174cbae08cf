"""Where the object may be: target features, similarity maps, location prior, guided attention.

Two versions of most steps: the *released* one does exactly what the published code does, the
*aligned* one mends its faults (section 2 of the project's PerSAM notes).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import BadReferenceError
from ..sam import ImageEmbedding, Promptable, resize_photo
from ..sam.transfers import send

# A cell belongs to the object if at least this share of its part inside the photo does.
FOREGROUND_COVERAGE = 0.5
# Further positive points, between the photo's mean similarity and its peak: how similar they are at
# least, and the cells that join them to the peak; and how far from one another, as a share of the
# grid. Chosen with `benchmarks.priors`.
_NEARLY_AS_SIMILAR = 0.8
_SAME_OBJECT = 0.5
_APART = 0.1
_FLAT = 1e-4


def released_foreground(sam: Promptable, channel: npt.NDArray[np.uint8]) -> Tensor:
    """(H, W) uint8 -> (h, w) bool as released: the mask goes through the photos' transform.

    The colour mask's first channel, with the values it has (soft edges, several ids), is resized
    and normalised like a photo's, resized to the grid, and everything above zero, which is the mean
    red of photos, is foreground.

    Raises:
        BadReferenceError: no cell is above zero (small objects, all masks of 0 and 1, and colours
            without red).
    """
    colour = np.repeat(channel[:, :, None], 3, axis=2)
    normalised = sam.preprocess([resize_photo(colour, sam.image_size)])
    grid = (sam.grid_size, sam.grid_size)
    cells = F.interpolate(normalised, grid, mode="bilinear", align_corners=False)[0, 0] > 0
    if not cells.any():
        raise BadReferenceError(
            "mode='reference' finds no foreground cell in the mask's first channel, whose largest "
            f"value is {int(channel.max())} (as the released code, which then crashes or returns "
            "NaN): use mode='corrected'"
        )
    return cells


def mask_coverage(
    sam: Promptable, mask: npt.NDArray[np.bool_], embedding: ImageEmbedding
) -> Tensor:
    """(H, W) bool -> (h, w) share of each cell's part inside the photo that the mask covers."""
    full = torch.from_numpy(mask.astype(np.float32))
    height, width = embedding.input_size
    # On the CPU: MPS pools areas only at whole ratios.
    inside = F.interpolate(full[None, None], (height, width), mode="area").to(sam.device)
    padding = (0, sam.image_size - width, 0, sam.image_size - height)
    grid = (sam.grid_size, sam.grid_size)
    covered = F.adaptive_avg_pool2d(F.pad(inside, padding), grid)
    valid = F.adaptive_avg_pool2d(F.pad(torch.ones_like(inside), padding), grid)
    return (covered / valid.clamp_min(1e-6))[0, 0]


def aligned_foreground(
    sam: Promptable, mask: npt.NDArray[np.bool_], embedding: ImageEmbedding
) -> Tensor:
    """(H, W) bool -> (h, w) bool by area coverage; the best-covered cell always counts."""
    coverage = mask_coverage(sam, mask, embedding)
    cells = coverage >= FOREGROUND_COVERAGE
    if not cells.any():
        cells = torch.zeros_like(cells)
        cells.view(-1)[coverage.argmax()] = True
    return cells


def mean_feature(features: Tensor, foreground: Tensor) -> Tensor:
    """(C, h, w) features, (h, w) bool -> (C,) raw mean over the foreground (eq. 9)."""
    return features.float()[:, foreground].mean(dim=1)


def peak_mean_feature(features: Tensor, foreground: Tensor) -> Tensor:
    """(C, h, w) features, (h, w) bool -> (C,) half maximum, half mean: PerSAM-F as released."""
    cells = features.float()[:, foreground]
    return cells.amax(dim=1) / 2 + cells.mean(dim=1) / 2


def similarity_maps(features: Tensor, targets: Tensor) -> Tensor:
    """Cosine similarity of every cell to every target.

    The paper has the mean of the similarities to all local features (eq. 5 and 6). This is the
    similarity to their normalised mean, which the released code computes: one product per photo.

    Args:
        features: (B, C, h, w) raw.
        targets: (R, C) normalised.

    Returns:
        (B, R, h, w) float32 in [-1, 1].
    """
    flat = features.float().flatten(2)
    flat = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (targets.float() @ flat).unflatten(2, features.shape[-2:])


def valid_cells(embeddings: Sequence[ImageEmbedding], device: torch.device) -> Tensor:
    """(B, h, w) bool, False in the padding."""
    height, width = embeddings[0].features.shape[-2:]
    limits = send(torch.tensor([e.valid_grid for e in embeddings]), device)
    rows = torch.arange(height, device=device) < limits[:, :1]
    columns = torch.arange(width, device=device) < limits[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def aligned_points(
    similarity: Tensor,
    valid: Tensor,
    embeddings: Sequence[ImageEmbedding],
    image_size: int,
    positives: int = 1,
) -> npt.NDArray[np.int64]:
    """Centres of the most similar cells and of the least similar cell of each photo (eq. 7).

    Bilinear upscaling puts no extremum between cells, so the grid is all that has to be searched.
    A further positive point lies a tenth of the grid or more from those before it, on the same
    object: nearly as similar as the first, and joined to it by cells that are similar enough. Where
    there is no such cell, the first point is repeated, which changes little.

    Args:
        similarity: (B, h, w).
        valid: (B, h, w) bool.
        embeddings: the B photos.
        image_size: side of the model's input.
        positives: how many of the most similar cells.

    Returns:
        (B, positives + 1, 2) x, y in pixels of each photo; the most similar first, the least last.
    """
    ends = extreme_cells(similarity, valid).cpu().numpy()
    maps = cells = None
    if positives > 1:
        maps, cells = similarity.float().cpu().numpy(), valid.cpu().numpy()
    return points_on_grid(
        ends, maps, cells, similarity.shape[1:], embeddings, image_size, positives
    )


def extreme_cells(similarity: Tensor, valid: Tensor) -> Tensor:
    """(B, h, w) maps -> (B, 2) int64 flat index of the most and of the least similar cell."""
    most = similarity.masked_fill(~valid, -torch.inf).flatten(1).argmax(dim=1)
    least = similarity.masked_fill(~valid, torch.inf).flatten(1).argmin(dim=1)
    return torch.stack([most, least], dim=1)


def points_on_grid(
    ends: npt.NDArray[np.int64],
    maps: npt.NDArray[np.float32] | None,
    cells: npt.NDArray[np.bool_] | None,
    grid: Sequence[int],
    embeddings: Sequence[ImageEmbedding],
    image_size: int,
    positives: int,
) -> npt.NDArray[np.int64]:
    """The host's part of `aligned_points`.

    Args:
        ends: from `extreme_cells`.
        maps: (B, h, w), needed for several positives.
        cells: (B, h, w), needed for several positives.
        grid: h and w.
        embeddings: see `aligned_points`.
        image_size: see `aligned_points`.
        positives: see `aligned_points`.
    """
    height, width = grid
    flat = np.repeat(ends, [positives, 1], axis=1)
    if maps is not None and cells is not None and positives > 1:
        for row, (map_, inside) in enumerate(zip(maps, cells, strict=True)):
            found = _spread_over_object(map_, inside, int(ends[row, 0]), positives)
            flat[row, : len(found)] = found
    centres = np.stack([flat % width, flat // width], axis=2) + 0.5
    centres *= np.array([image_size / width, image_size / height])
    scales = np.array([e.scale for e in embeddings])
    sizes = np.array([(e.original_size[1], e.original_size[0]) for e in embeddings])
    points = np.rint(centres / scales[:, None] - 0.5)
    # The centre of a cell at the photo's edge may lie in the padding.
    return np.clip(points, 0, sizes[:, None] - 1).astype(np.int64)


def _spread_over_object(
    similarity: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], first: int, count: int
) -> list[int]:
    """Flat indices of up to ``count`` cells on the object that the cell ``first`` lies on."""
    height, width = similarity.shape
    peak, mean = float(similarity.flat[first]), float(similarity[valid].mean())
    near = valid & (similarity >= mean + _SAME_OBJECT * (peak - mean))
    near.flat[first] = True
    labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=8)[1]
    # A map without a peak, as of a featureless photo, has one sure cell.
    peaked = peak - mean > _FLAT
    floor = mean + _NEARLY_AS_SIMILAR * (peak - mean) if peaked else np.inf
    free = (labels == labels.flat[first]) & (similarity >= floor)
    reach = max(1, round(_APART * max(height, width)))
    found = [first]
    while len(found) < count:
        y, x = divmod(found[-1], width)
        free[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1] = False
        if not free.any():
            break
        found.append(int(np.where(free, similarity, -np.inf).argmax()))
    return found


def aligned_attention(similarity: Tensor, valid: Tensor) -> Tensor:
    """Guided-attention bias that knows the padding.

    The map is standardised over the photo alone, and a padded cell gets the bias of the least
    similar one.

    Args:
        similarity: (B, h, w).
        valid: (B, h, w) bool.

    Returns:
        (B, h * w) in (0, 1).
    """
    flat, inside = similarity.flatten(1), valid.flatten(1)
    count = inside.sum(dim=1, keepdim=True)
    mean = (flat * inside).sum(dim=1, keepdim=True) / count
    variance = ((flat - mean).square() * inside).sum(dim=1, keepdim=True) / (count - 1).clamp_min(1)
    # A featureless photo has no deviation to divide by.
    standard = (flat - mean) / variance.sqrt().clamp_min(1e-6)
    lowest = standard.masked_fill(~inside, torch.inf).amin(dim=1, keepdim=True)
    return torch.where(inside, standard, lowest).sigmoid()


def released_prior(
    sam: Promptable, similarity: Tensor, embedding: ImageEmbedding
) -> tuple[npt.NDArray[np.int64], Tensor]:
    """Points and guided-attention bias as released, by way of the photo's own resolution.

    Args:
        sam: the model.
        similarity: (h, w) of one photo, padding included.
        embedding: the photo.

    Returns:
        (2, 2) x, y of the most and the least similar pixel, and (h * w,) bias.
    """
    enlarged = F.interpolate(
        similarity[None, None], scale_factor=4, mode="bilinear", align_corners=False
    )
    full = sam.upscale(enlarged[0], embedding)[0]
    flat = full.flatten()
    both = torch.stack([flat.topk(1).indices[0], flat.topk(1, largest=False).indices[0]])
    both = both.cpu()
    points = torch.stack([both % full.shape[1], both // full.shape[1]], dim=1).numpy()
    standard = (full - full.mean()) / torch.std(full)
    grid = F.interpolate(
        standard[None, None], similarity.shape, mode="bilinear", align_corners=False
    )
    return points, grid.sigmoid().flatten()
