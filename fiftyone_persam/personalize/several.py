"""Several objects in one photo: it is encoded once, and the objects compete for its pixels.

All similarity maps come from one matrix product. At each place an object falls behind by as much as
another one is more similar there, and its presence is judged against what the others look like, as
it is against negative references. So the twin of an object that is not in the photo does not stand
in for it. Where two masks mean the same thing, the object whose presence is higher has it; of two
things that touch, each pixel goes to the mask that is surer of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import CheckpointError, PersamError
from ..sam import Contrast, ImageEmbedding, PhotoSource, Promptable
from ..sam.model import DECODE_BATCH, check_batch_size
from .appearance import Appearance, together
from .cascade_method import CascadeMethod
from .checks import check_embeddings, several_photos
from .method import Method
from .prediction import Prediction
from .registries import METHODS
from .state import check_header, read_state, write_state
from .threshold import is_absent

NAME = "several"
MOST = 254
"""Objects of one run: a mask's values, beside 0 for the background and 255 for one object alone."""
# Two masks that share so much of each of them mean the same thing; one that keeps less of its
# pixels than this has lost them to another object.
SAME_THING = 0.5

BoolMask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """Several objects in one photo.

    Attributes:
        objects: by name, in the order of the predictor's; no pixel is in two of their masks, nor in
            two of their candidates.
    """

    objects: Mapping[str, Prediction]


class SeveralObjects:
    """Fitted methods, one for each object, as one predictor of `Scene`.

    Args:
        objects: object's name -> fitted method. All have the same model.
        followed: whether they are for the frames of sequences alone, see `sequence_session`. There
            the released code has several objects, too.

    Raises:
        PersamError: there is none, more than 254, models differ, or one reproduces the released
            code, which knows one object.
    """

    def __init__(self, objects: Mapping[str, Method], followed: bool = False) -> None:
        if not 1 <= len(objects) <= MOST:
            raise PersamError(f"{len(objects)} objects cannot be segmented: give 1 to {MOST}")
        self.objects = dict(objects)
        methods = list(self.objects.values())
        if any(one.sam is not methods[0].sam for one in methods):
            raise PersamError("the objects' methods have different models: give one to all")
        self.followed = followed
        if not followed and any(getattr(one, "mode", None) == "reference" for one in methods):
            raise PersamError(
                "mode='reference' knows one object, as the released code: use mode='corrected' for "
                "several"
            )
        self.sam: Promptable = methods[0].sam

    @property
    def contrast(self) -> Contrast | None:
        """See `Method.contrast`; the same for all objects."""
        return next((one.contrast for one in self.objects.values() if one.contrast), None)

    def predict(self, images: Sequence[PhotoSource], batch_size: int | None = None) -> list[Scene]:
        """Segment all objects in photos; see `Method.predict`."""
        photos = several_photos(images)
        return self.predict_embeddings(self.sam.encode(photos, batch_size, self.contrast))

    @torch.inference_mode()
    def predict_embeddings(
        self, embeddings: Sequence[ImageEmbedding], batch_size: int | None = None
    ) -> list[Scene]:
        """Segment all objects in photos that are encoded already.

        Args:
            embeddings: from the same model's `encode`.
            batch_size: photos decoded at once; by device if None.
        """
        step = check_batch_size(batch_size) or DECODE_BATCH.get(self.sam.device.type, 8)
        scenes: list[Scene] = []
        for start in range(0, len(embeddings), step):
            scenes += self._batch(list(embeddings[start : start + step]))
        return scenes

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save all fitted objects into one file; see `Method.save`."""
        states = {
            f"{number}.{name}": tensor
            for number, one in enumerate(self.objects.values())
            for name, tensor in one.state_dict().items()
        }
        header = {
            "method": NAME,
            "followed": self.followed,
            "objects": [[n, one.name, one.settings] for n, one in self.objects.items()],
            "model": self.sam.name,
            "checkpoint_sha256": self.sam.checkpoint_sha256,
            "embed_dim": self.sam.embed_dim,
            "grid_size": self.sam.grid_size,
            "image_size": self.sam.image_size,
        }
        return write_state(path, states, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str], sam: Any) -> SeveralObjects:
        """Load what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged, or was fitted on another model.
        """
        states, header = read_state(path)
        if header.get("method") != NAME:
            raise CheckpointError(f"fitted state {path} is not one of several objects: fit again")
        check_header(path, header, sam)
        objects: dict[str, Method] = {}
        for number, (name, method, settings) in enumerate(header["objects"]):
            start = f"{number}."
            own = {k.removeprefix(start): t for k, t in states.items() if k.startswith(start)}
            kind: Any = METHODS[method]
            objects[name] = kind.from_state(sam, own, settings)
        return cls(objects, bool(header.get("followed")))

    # ----------------------------------------------------------------------------------------------

    def _batch(self, embeddings: list[ImageEmbedding]) -> list[Scene]:
        names = list(self.objects)
        if all(isinstance(one, CascadeMethod) for one in self.objects.values()):
            found, scores = self._located(embeddings)
        else:  # each on its own: nothing is known of how they find their object
            found = [one.predict_embeddings(embeddings) for one in self.objects.values()]
            scores = [None] * len(embeddings)
        thresholds = [getattr(one, "presence_threshold", 0.0) for one in self.objects.values()]
        scenes = []
        for row, (embedding, score) in enumerate(zip(embeddings, scores, strict=True)):
            own = [predictions[row] for predictions in found]
            shared = _shared_out(self.sam, embedding, own, score, thresholds)
            scenes.append(Scene(dict(zip(names, shared, strict=True))))
        return scenes

    def _located(
        self, embeddings: list[ImageEmbedding]
    ) -> tuple[list[list[Prediction]], list[Tensor | None]]:
        """Predictions by object and photo, and (K, h, w) how sure each is of each place."""
        methods: list[Any] = list(self.objects.values())
        check_embeddings(embeddings, self.sam)
        first = methods[0]
        if len({type(one.prior) for one in methods}) == 1:
            features, matching, valid = first.features_of(embeddings)
            maps = _maps_of(methods, matching, valid)
            located = [
                one.combined(own, valid, matching) for one, own in zip(methods, maps, strict=True)
            ]
        else:  # each by the features that its own prior compares by
            features, _, valid = first.features_of(embeddings)
            located = [
                (similarity, best)
                for _, similarity, _, best in (one.similarities(embeddings) for one in methods)
            ]
        found, sure = [], []
        for number, (method, (similarity, best)) in enumerate(zip(methods, located, strict=True)):
            others = [one for k, (one, _) in enumerate(located) if k != number]
            if others:
                rival = torch.stack(others).amax(dim=0)
                similarity = similarity - (rival - similarity).clamp_min(0)
            predictions, logits = method.predict_located(
                embeddings, features, similarity, valid, best, self._rivals_of(number)
            )
            found.append(predictions)
            sure.append(logits)
        return found, list(torch.stack(sure, dim=1).float())

    def _rivals_of(self, number: int) -> Appearance | None:
        """What the other objects look like."""
        others: list[Any] = [m for k, m in enumerate(self.objects.values()) if k != number]
        return together([one.state.appearance for one in others]) if others else None


def _maps_of(methods: Sequence[Any], matching: Tensor, valid: Tensor) -> list[Tensor]:
    """(B, R, h, w) similarity maps of each object's R references, by one matrix product.

    All have the same kind of location prior. Those that keep something else than tensors of R rows
    are asked one by one.
    """
    states, priors = [one.state for one in methods], [one.prior for one in methods]
    counts = [len(state.targets) for state in states]
    alike = all(
        tensor.ndim and len(tensor) == count and state.prior.keys() == states[0].prior.keys()
        for state, count in zip(states, counts, strict=True)
        for tensor in state.prior.values()
    )
    if not alike:
        return [
            one.similarity(matching, valid, state.targets, state.prior)
            for one, state in zip(priors, states, strict=True)
        ]
    fitted = {name: torch.cat([one.prior[name] for one in states]) for name in states[0].prior}
    targets = torch.cat([state.targets for state in states])
    maps = priors[0].similarity(matching, valid, targets, fitted)
    return list(maps.split(counts, dim=1))


def _shared_out(
    sam: Promptable,
    embedding: ImageEmbedding,
    found: Sequence[Prediction],
    scores: Tensor | None,
    thresholds: Sequence[float],
) -> list[Prediction]:
    """The predictions of one photo without the pixels that another object has.

    Args:
        sam: the model.
        embedding: the photo.
        found: K predictions.
        scores: (K, h, w) how sure each is of each place; None where that is not known: then the
            higher presence counts.
        thresholds: (K,) presence below which each counts as absent: it takes nothing from others.
    """
    masks = [np.array(one.candidate, dtype=np.bool_) for one in found]
    areas = [int(mask.sum()) for mask in masks]
    absent = [is_absent(p.presence, t) for p, t in zip(found, thresholds, strict=True)]
    order = sorted(range(len(found)), key=lambda k: (absent[k], -found[k].presence))
    for place, k in enumerate(order):  # what means the same thing is the surer object's
        for other in order[:place]:
            both = masks[k] & masks[other]
            shared = int(both.sum())
            same = shared > SAME_THING * areas[k] and shared > SAME_THING * masks[other].sum()
            if same or (absent[k] and not absent[other]):
                masks[k] &= ~both
    _share_pixels(sam, embedding, masks, scores, order)
    return [
        _left(one, mask, area, threshold)
        for one, mask, area, threshold in zip(found, masks, areas, thresholds, strict=True)
    ]


def _share_pixels(
    sam: Promptable,
    embedding: ImageEmbedding,
    masks: list[BoolMask],
    scores: Tensor | None,
    order: Sequence[int],
) -> None:
    """Leave each pixel to one mask, in place."""
    claims = np.zeros(masks[0].shape, np.uint8)
    for mask in masks:
        claims += mask
    contested = claims > 1
    if not contested.any():
        return
    surest = np.full(int(contested.sum()), -np.inf, np.float32)
    winner = np.full(len(surest), -1)
    for place, k in enumerate(order):
        mine = masks[k][contested]
        if not mine.any():
            continue
        sure = np.full(len(surest), -place, np.float32)
        if scores is not None:
            sure = sam.upscale(scores[k][None], embedding)[0].cpu().numpy()[contested]
        better = mine & (sure > surest)
        surest[better], winner[better] = sure[better], k
    for k, mask in enumerate(masks):
        mask[contested] = winner == k


def _left(found: Prediction, mask: BoolMask, area: int, threshold: float) -> Prediction:
    """A prediction with the pixels that are left of its mask."""
    kept = int(mask.sum())
    if kept == area:
        return found
    presence = found.presence
    if kept < SAME_THING * area:  # what it found is another object
        presence *= kept / area
    instances = []
    for one in found.instances:
        part = one.candidate & mask
        if part.any():
            shown = part if one.mask.any() else np.zeros_like(part)
            instances.append(replace(one, candidate=part, mask=shown))
    gone = bool(is_absent(presence, threshold)) or not kept
    return replace(
        found,
        candidate=mask,
        mask=np.zeros_like(mask) if gone else mask,
        presence=presence,
        stage="absent" if gone and found.stage != "empty" else found.stage,
        instances=tuple(instances),
    )
