"""Looking at one object in a frame: a window around it, and what was seen there before.

The model's input is a square of fixed size. An object that fills a tenth of the frame has a tenth
of its cells; a window around it has more, and the same object at any distance fills about the same
share. Where an object is in the next frame is told by its cells: each looks for its like among the
cells of earlier views, which know whose they were (as in Jabri et al., "Space-Time Correspondence
as a Contrastive Random Walk", NeurIPS 2020, section 3; no training here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Photo, Promptable
from . import prior

Mask = npt.NDArray[np.bool_]
Window = tuple[int, int, int, int]

MARGIN = 1.5
"""Side of the window, as a multiple of the longer side of the object's box."""
MIN_SIDE = 128
"""Pixels of the window's side at least: what is smaller has no more detail to see."""
WHOLE = 0.8
"""Share of the frame's longer side from which the window is the whole frame."""
NEIGHBOURS = 10  # most similar cells of earlier views that say whose a cell is
TEMPERATURE = 0.07  # of their votes
REACH = 0.35  # of the window's side: how far a cell of the last frames may have moved


@dataclass(frozen=True, eq=False)
class View:
    """A part of a frame, encoded.

    Attributes:
        embedding: of the part.
        window: x0, y0, x1, y1 in pixels of the frame, the last not included.
        shape: height and width of the frame.
        valid: (h, w) bool, the part's cells; the others are padding.
        features: (C, n) normalised, of the n valid cells.
        places: (n, 2) y, x of their centres in pixels of the frame.
    """

    embedding: ImageEmbedding
    window: Window
    shape: tuple[int, int]
    valid: Tensor
    features: Tensor
    places: Tensor

    @property
    def side(self) -> int:
        """The window's longer side in pixels."""
        x0, y0, x1, y1 = self.window
        return max(x1 - x0, y1 - y0)


@dataclass(frozen=True, eq=False)
class Seen:
    """What an earlier view says.

    Attributes:
        features: (C, n) normalised, of cells.
        covered: (n,) share of each that the object covers.
        places: (n, 2) y, x in pixels of the frame.
    """

    features: Tensor
    covered: Tensor
    places: Tensor


def window_around(mask: Mask, margin: float = MARGIN) -> Window:
    """The square around a mask with a pixel, moved and cut so that it lies in the frame."""
    height, width = mask.shape
    x0, y0, x1, y1 = box_of(mask)
    side = max(margin * max(x1 + 1 - x0, y1 + 1 - y0), MIN_SIDE)
    if side >= WHOLE * max(height, width):
        return (0, 0, width, height)
    w, h = min(side, width), min(side, height)
    left = min(max((x0 + x1 + 1 - w) / 2, 0), width - w)
    top = min(max((y0 + y1 + 1 - h) / 2, 0), height - h)
    return (round(left), round(top), round(left + w), round(top + h))


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of a mask with a pixel, the last included."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def look(
    sam: Promptable, whole: ImageEmbedding, photo: Photo | None, windows: Sequence[Window]
) -> list[View]:
    """Views of one frame, encoded together.

    Args:
        sam: the model.
        whole: the whole frame, which serves where a window is all of it, or without pixels.
        photo: (H, W, 3) uint8 RGB, or None.
        windows: what to look at.
    """
    height, width = whole.original_size
    everything = (0, 0, width, height)
    closer = [w for w in dict.fromkeys(windows) if photo is not None and w != everything]
    parts = [np.ascontiguousarray(photo[y0:y1, x0:x1]) for x0, y0, x1, y1 in closer]  # type: ignore[index]
    known = dict(zip(closer, sam.encode(parts) if parts else [], strict=True))
    return [
        view_of(sam, known[w], w, (height, width))
        if w in known
        else view_of(sam, whole, everything, (height, width))
        for w in windows
    ]


def view_of(
    sam: Promptable, embedding: ImageEmbedding, window: Window, shape: tuple[int, int]
) -> View:
    """A view of an embedding."""
    valid = prior.valid_cells([embedding], sam.device)[0]
    rows, columns = (
        (torch.arange(count, device=sam.device) + 0.5) * (embedding.image_size / count)
        for count in valid.shape
    )
    across, down = embedding.scale
    y, x = torch.meshgrid(rows / down + window[1], columns / across + window[0], indexing="ij")
    features = F.normalize(embedding.to_match.to(sam.device).float()[:, valid], dim=0)
    return View(embedding, window, shape, valid, features, torch.stack([y[valid], x[valid]], dim=1))


def remember(sam: Promptable, view: View, mask: Mask) -> Seen:
    """What a view says, now that the object's (H, W) mask in the frame is known."""
    x0, y0, x1, y1 = view.window
    inside = np.ascontiguousarray(mask[y0:y1, x0:x1])
    covered = prior.mask_coverage(sam, inside, view.embedding)
    return Seen(view.features, covered[view.valid], view.places)


def propagate(
    view: View, anchors: Sequence[Seen], recent: Sequence[Seen], everywhere: bool = False
) -> Tensor:
    """How much of each of the view's cells is the object's, by the like of earlier views.

    Args:
        view: where to look.
        anchors: views that count wherever the object has gone since.
        recent: views of the last frames, whose cells count near where they were.
        everywhere: let them count anywhere: nobody knows where the object is.

    Returns:
        (h, w) 0 to 1; 0 in the padding.
    """
    likes, shares = [], []
    for seen in anchors:
        likes.append(seen.features.T @ view.features)
        shares.append(seen.covered)
    for seen in recent:
        like = seen.features.T @ view.features
        if not everywhere:
            away = (seen.places[:, None] - view.places[None]).abs().amax(dim=2)
            like = like.masked_fill(away > REACH * view.side, -1)
        likes.append(like)
        shares.append(seen.covered)
    like, share = torch.cat(likes), torch.cat(shares)
    best, index = like.topk(min(NEIGHBOURS, len(like)), dim=0)
    votes = torch.softmax(best / TEMPERATURE, dim=0) * share[index]
    found = torch.zeros(view.valid.shape, device=like.device)
    found[view.valid] = votes.sum(dim=0)
    return found
