"""The frames of a sequence in corrected mode: objects are followed, and found again.

In each frame a window around the object's last place is encoded, its cells say where the object is
by what they looked like before (`video_views`), and the decoder draws that with a box, a point and
a mask as prompts. An object that is not seen keeps its name: it is looked for in the whole frame,
as in any photo, until its presence there says that it is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Photo, Promptable
from . import presence
from .appearance import Appearance, describe, together
from .assembly import ABSENT
from .prediction import Prediction
from .session import Answer, competing
from .video_views import MARGIN, Mask, Seen, View, box_of, look, propagate, remember, window_around

GIVEN, TRACKED = "given", "tracked"

RECENT = 3
"""Last frames whose cells are compared, beside the labelled one."""
PROMPT_STRENGTH = 16.0
"""Logits of the mask prompt where a cell is wholly the object's, from -8 to 8."""
BLEND = 4.0
"""How much the cells' own votes count beside the decoder's logits."""
GONE = 0.02
"""Presence in the window below which an object that was there a frame ago counts as gone."""
BACK = 0.2
"""Presence from which an object that was gone is there again."""
WIDER = 0.25
"""How much wider the window becomes with each frame in which the object is not found."""
_SMOOTH = 5  # cells of the mask prompt around the point that is surest


@dataclass(eq=False)
class Known:
    """An object as its first view shows it, which counts for the whole sequence.

    Attributes:
        seen: the view's cells.
        appearance: to judge presence by.
    """

    seen: Seen
    appearance: Appearance


@dataclass(eq=False)
class Track:
    """One object in one sequence.

    Attributes:
        method: fitted to it.
        near: its first view; None until it has been seen.
        far: the whole of that frame, for frames that come without pixels to look closer at.
        recent: views of the last frames.
        mask: (H, W) of the last frame in which it was seen.
        lost: frames since then.
    """

    method: Any
    near: Known | None = None
    far: Known | None = None
    recent: deque[Seen] = field(default_factory=lambda: deque(maxlen=RECENT))
    mask: Mask | None = None
    lost: int = 0


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the decoder drew of one object in one view.

    Attributes:
        logits: (H, W) float32 in the frame; below 0 outside the view.
        soft: (hm, wm) the cells' votes at the size of the decoder's masks.
        low: (hm, wm) the decoder's logits.
        score: predicted IoU.
        point: x, y in pixels of the frame.
        box: x0, y0, x1, y1 in pixels of the frame.
    """

    logits: npt.NDArray[np.float32]
    soft: Tensor
    low: Tensor
    score: float
    point: npt.NDArray[np.int64]
    box: npt.NDArray[np.int64]


class TrackingSession:
    """See `SequenceSession`.

    Args:
        methods: object -> fitted method, all of one model.
    """

    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._tracks = {name: Track(method) for name, method in methods.items()}
        self.sam: Promptable = next(iter(methods.values())).sam

    @torch.inference_mode()
    def open(
        self,
        first: ImageEmbedding,
        masks: Mapping[str, Mask] | None = None,
        photo: Photo | None = None,
    ) -> dict[str, Prediction]:
        """See `SequenceSession.open`."""
        given = dict(masks or {})
        missing = [name for name in self._tracks if name not in given]
        found = self._find_in(first, missing)
        for name, mask in given.items():
            found[name] = _prediction(self._tracks[name], first, mask, GIVEN)
        self.follow(first, found, photo)
        return {name: found[name] for name in self._tracks}

    @torch.inference_mode()
    def step(self, embedding: ImageEmbedding, photo: Photo | None = None) -> dict[str, Prediction]:
        """See `SequenceSession.step`."""
        followed = [n for n, t in self._tracks.items() if t.mask is not None and t.lost == 0]
        found = self._find_in(embedding, [n for n in self._tracks if n not in followed])
        windows = {n: window_around(t.mask) for n, t in self._tracks.items() if t.mask is not None}
        for name, one in found.items():
            track = self._tracks[name]
            if track.mask is None:
                continue
            if one.mask.any():
                windows[name] = window_around(one.mask)
            else:  # it may be hidden near where it was
                windows[name] = window_around(track.mask, MARGIN * (1 + track.lost * WIDER))
        looks = look(self.sam, embedding, photo, list(windows.values()))
        views = dict(zip(windows, looks, strict=True))
        known = {
            n: self._tracks[n].near if photo is not None else self._tracks[n].far for n in views
        }
        drawn = {
            n: self._draw(self._tracks[n], known[n], v, n not in followed) for n, v in views.items()
        }
        likely = {n: self._presence(known[n], views[n], one.logits > 0) for n, one in drawn.items()}
        there = [n for n in drawn if likely[n] >= self._level(n, n in followed)]
        masks = {name: one.logits > 0 for name, one in drawn.items()}
        masks.update(_compete({name: drawn[name].logits for name in there}))
        for name, shown in drawn.items():
            stage = TRACKED if name in there else ABSENT
            track = self._tracks[name]
            found[name] = _prediction(track, embedding, masks[name], stage, shown, likely[name])
        followed_views = {n: views[n] for n in followed}
        self._take(embedding, {n: one.mask for n, one in found.items()}, photo, followed_views)
        return {name: found[name] for name in self._tracks}

    @torch.inference_mode()
    def follow(
        self,
        embedding: ImageEmbedding,
        answers: Mapping[str, Answer],
        photo: Photo | None = None,
    ) -> None:
        """See `SequenceSession.follow`."""
        masks = {n: a.mask if isinstance(a, Prediction) else a for n, a in answers.items()}
        self._take(embedding, masks, photo, {})

    # ----------------------------------------------------------------------------------------------

    def _level(self, name: str, followed: bool) -> float:
        """Presence from which an object is there; a method that keeps every mask keeps it here."""
        threshold = float(self._tracks[name].method.presence_threshold)
        return min(GONE if followed else BACK, threshold)

    def _take(
        self,
        embedding: ImageEmbedding,
        masks: Mapping[str, Mask],
        photo: Photo | None,
        views: Mapping[str, View],
    ) -> None:
        """Remember a frame whose masks are known."""
        for name, track in self._tracks.items():
            mask = masks.get(name)
            if mask is None or not mask.any():
                track.lost += 1
                continue
            view = views.get(name)
            if view is None:
                # As in `step`: the window is around where the object was, if that is known.
                before = track.mask if track.mask is not None and track.lost == 0 else mask
                (view,) = look(self.sam, embedding, photo, [window_around(before)])
            seen = remember(self.sam, view, mask)
            if track.near is None:
                track.near = Known(seen, _appearance(view, seen))
                (whole,) = look(self.sam, embedding, None, [view.window])
                cells = remember(self.sam, whole, mask)
                track.far = Known(cells, _appearance(whole, cells))
            track.recent.append(seen)
            track.mask, track.lost = mask, 0

    def _find_in(self, embedding: ImageEmbedding, names: list[str]) -> dict[str, Prediction]:
        """Objects that nobody knows where they are, each as in any photo.

        They are told from the sequence's other objects, or one that is gone is found in a part of
        another.
        """
        if not names:
            return {}
        methods = {name: track.method for name, track in self._tracks.items()}
        located = {name: one.similarities([embedding]) for name, one in methods.items()}
        found = {}
        for name in names:
            features, similarity, valid, best = located[name]
            others = [other for other in methods if other != name]
            rivals = None
            if others:
                rival = torch.stack([located[other][1] for other in others]).amax(dim=0)
                similarity = similarity - (rival - similarity).clamp_min(0)
                rivals = together([methods[other].state.appearance for other in others])
            found[name] = methods[name].predict_located(
                [embedding], features, similarity, valid, best, rivals
            )[0][0]
        return competing(found)

    def _draw(self, track: Track, known: Known | None, view: View, everywhere: bool) -> Drawn:
        sam, size = self.sam, self.sam.mask_size
        anchors = [] if known is None else [known.seen]
        votes = propagate(view, anchors, list(track.recent), everywhere)
        soft = F.interpolate(votes[None, None], (size, size), mode="bilinear", align_corners=False)[
            0, 0
        ]
        likely = soft > 0.5
        if not likely.any():
            likely = soft >= 0.8 * soft.max().clamp_min(1e-6)
        rows, columns = likely.nonzero(as_tuple=True)
        if not len(rows):
            rows = columns = torch.tensor([0, size - 1], device=soft.device)
        unit = sam.image_size / size
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * unit
        smooth = F.avg_pool2d(F.pad(soft[None, None], (_SMOOTH,) * 4), 2 * _SMOOTH + 1, 1)
        peak = int(smooth.flatten().argmax())
        point = torch.tensor([peak % size, peak // size], device=soft.device) * unit + unit / 2
        prompt = (soft - 0.5) * PROMPT_STRENGTH
        logits, scores = sam.decode_tensors(
            view.embedding.features[None].to(sam.device),
            point[None, None].float(),
            torch.ones(1, 1, device=soft.device),
            box[None].float(),
            prompt[None, None],
        )
        weights = track.method.scale_weights()
        if weights is None:
            low, score = logits[0, 0], scores[0, 0]
        else:
            weights = weights.to(logits)
            low = torch.einsum("s,shw->hw", weights, logits[0, 1:])
            score = (scores[0, 1:] * weights).sum()
        low = low + BLEND * (soft - 0.5)
        x0, y0, x1, y1 = view.window
        full = np.full(view.shape, -np.inf, np.float32)
        full[y0:y1, x0:x1] = sam.upscale(low[None], view.embedding)[0].float().cpu().numpy()
        across, down = view.embedding.scale
        scale, corner = np.array([across, down]), np.array([x0, y0])
        limit = np.array([view.shape[1] - 1, view.shape[0] - 1])

        def placed(xy: Tensor) -> npt.NDArray[np.int64]:
            there = np.rint(xy.reshape(-1, 2).cpu().numpy() / scale + corner)
            return np.clip(there, 0, limit).astype(np.int64)

        return Drawn(full, soft, low, float(score), placed(point), placed(box).reshape(4))

    def _presence(self, known: Known | None, view: View, mask: Mask) -> float:
        """How certainly what a mask in a view shows is the object."""
        if known is None or not mask.any():
            return 0.0
        covered = remember(self.sam, view, mask).covered
        cells = torch.zeros(view.valid.shape, device=covered.device)
        cells[view.valid] = covered
        evidence = presence.gather(
            presence.recognisable([view.embedding], self.sam.device),
            (cells - 0.5)[None],
            view.valid[None],
            known.appearance,
        )
        return float(presence.probability(evidence)[0])


def _appearance(view: View, seen: Seen) -> Appearance:
    """What the object looks like in a view of it."""
    foreground = torch.zeros_like(view.valid)
    inside = seen.covered >= min(0.5, float(seen.covered.max()))
    foreground[view.valid] = inside
    return describe(view.embedding.to_recognise, foreground, view.valid)


def _compete(logits: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Mask]:
    """Every pixel to the object whose logit is highest there, if that is above 0."""
    if not logits:
        return {}
    stacked = np.stack(list(logits.values()))
    best = stacked.argmax(axis=0)
    return {n: (best == k) & (stacked[k] > 0) for k, n in enumerate(logits)}


def _prediction(
    track: Track,
    embedding: ImageEmbedding,
    mask: Mask,
    stage: str,
    drawn: Drawn | None = None,
    likely: float = 1.0,
) -> Prediction:
    similarity = track.method.similarities([embedding])[1][0]
    rows, columns = embedding.valid_grid
    if not mask.any():
        stage = ABSENT
    agreement, score = 1.0, 1.0
    points, box = np.zeros((0, 2), np.int64), None
    if drawn is not None:
        likely_cells, drawn_cells = drawn.soft > 0.5, drawn.low > 0
        union = int((likely_cells | drawn_cells).sum())
        agreement = int((likely_cells & drawn_cells).sum()) / union if union else 1.0
        score, points, box = drawn.score, drawn.point, drawn.box
    elif mask.any():
        box = np.array(box_of(mask), np.int64)
    return Prediction(
        np.zeros_like(mask) if stage == ABSENT else mask,
        score,
        likely,
        similarity[:rows, :columns].float().cpu().numpy(),
        points,
        np.ones(len(points), np.int64),
        box,
        stage,
        agreement,
        mask,
    )
