"""Predictions of a batch in three steps, so that a device never waits for the host.

    pending = method.begin(embeddings)    # similarity maps; they are on their way to the host
    pending.decode()                      # points, the passes, masks; they are on their way too
    predictions = pending.finish()

Between the steps other work can be given to the device: the next batch is encoded while the host
looks for the points of this one. `CascadeMethod.predict_embeddings` takes the steps at once.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..sam import ImageEmbedding
from ..sam.transfers import Download, pack_bits, send, unpack_bits
from . import prior
from .assembly import _overlap, prediction_of
from .cascade import PriorBatch
from .cascade_prediction import CascadePrediction
from .device_passes import STAGE_NAMES, Chain, Passes, places_of
from .location import Guide
from .prediction import Prediction
from .presence import gather, probability, recognisable

PIXELS_AT_ONCE = 2**26
"""Pixels of masks that are enlarged together: a quarter of a gigabyte."""

Inputs = tuple["Tensor | None", ...]


class PendingPredictions:
    """A batch of photos on its way to predictions. Its steps are taken once each, in order.

    Args:
        method: fitted; `CascadeMethod.in_steps` says that it can.
        embeddings: the photos.
    """

    def __init__(self, method: CascadePrediction, embeddings: Sequence[ImageEmbedding]) -> None:
        self._method = method
        self._embeddings = list(embeddings)
        with torch.inference_mode():
            found = method.similarities(self._embeddings)
            self._features, self._similarity, self._valid, self._best = found
            self._positives = method.positives
            maps = {
                "ends": prior.extreme_cells(self._similarity, self._valid),
                "maps": self._similarity.float(),
                "cells": self._valid,
            }
            self._located = Download(maps)
        self._batch: PriorBatch | None = None
        self._maps: npt.NDArray[np.float32] | None = None
        self._results: Download | None = None
        self._found: dict[str, npt.NDArray[Any]] | None = None
        self._slots: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()

    @torch.inference_mode()
    def decode(self) -> None:
        """Wait for the maps, and give the device the passes and all that follows from them."""
        method, photos, sam = self._method, self._embeddings, self._method.sam
        located = self._located.wait()
        self._maps = located["maps"]
        points = prior.points_on_grid(
            located["ends"],
            located["maps"],
            located["cells"],
            self._similarity.shape[1:],
            photos,
            sam.image_size,
            self._positives,
        )
        guide = Guide(points, prior.aligned_attention(self._similarity, self._valid))
        batch = self._batch = method._batch(
            photos, self._features, self._similarity, guide, self._best
        )
        passes = self._passes(batch)
        overlap = _overlap(passes.first, passes.logits, photos)
        state = method.state
        evidence = gather(
            recognisable(photos, sam.device),
            passes.logits,
            self._valid,
            state.appearance,
            passes.scores,
            overlap,
            state.negative_appearance,
        )
        columns: dict[str, Tensor] = {
            "scores": passes.scores.float(),
            "presence": probability(evidence).float(),
            "agreement": overlap.float(),
            "stage": passes.stage,
            "boxes": passes.boxes,
            "again": passes.again,
        }
        for number, group in enumerate(self._by_size()):
            rows = send(torch.tensor(group), sam.device)
            full = sam.upscale(passes.logits[rows], photos[group[0]])
            columns[f"masks{number}"] = pack_bits(full > 0)
            self._slots.update({row: (number, place) for place, row in enumerate(group)})
        self._results = Download(columns)

    def finish(self) -> list[Prediction]:
        """Wait for the masks; the predictions in the order of the photos."""
        return [self.prediction(row) for row in range(len(self._embeddings))]

    @torch.inference_mode()
    def prediction(self, row: int) -> Prediction:
        """Wait for the masks; the prediction of one photo. Threads may share the photos."""
        assert self._results is not None and self._batch is not None and self._maps is not None
        with self._lock:
            if self._found is None:
                self._found = self._results.wait()
            found = self._found
            if found["again"][row]:
                return self._alone(row)
        batch, photo = self._batch, self._embeddings[row]
        group, place = self._slots[row]
        box = found["boxes"][row]
        return prediction_of(
            photo,
            unpack_bits(found[f"masks{group}"][place], photo.original_size[1]),
            float(found["scores"][row]),
            float(found["presence"][row]),
            self._maps[row],
            batch.points[row],
            batch.labels,
            None if box[0] < 0 else box.copy(),
            STAGE_NAMES[int(found["stage"][row])],
            float(found["agreement"][row]),
            self._method.presence_threshold,
        )

    def _passes(self, batch: PriorBatch) -> Passes:
        method, sam = self._method, self._method.sam
        photos = batch.embeddings
        scales = np.array([one.scale for one in photos])
        points = torch.as_tensor(batch.points * scales[:, None], dtype=torch.float32)
        labels = torch.as_tensor(batch.labels, dtype=torch.float32).expand(len(photos), -1)
        weights = method.scale_weights()
        if weights is not None:
            weights = send(weights.float(), sam.device)
        decoder = method.decoder()
        chain = Chain(decoder, method.post_refinement)
        given: Inputs = (
            weights,
            batch.features,
            send(points, sam.device),
            send(labels.contiguous(), sam.device),
            batch.attention_bias,
            batch.token_offset,
            batch.tokens,
            *places_of(photos, sam.device),
        )
        execution = getattr(sam, "execution", None)
        # A tuned decoder is the method's own: a record of it would outlive what was tuned.
        recorded = execution is not None and execution.speed.on("graphs", sam.device)
        if execution is None or not recorded or decoder is not sam:
            return chain(*given)  # type: ignore[arg-type]
        return Passes(*execution.graphs(("passes", method.post_refinement), chain, given))

    def _by_size(self) -> list[list[int]]:
        """Positions of photos of equal size, so many at once that their masks fit into memory."""
        groups: dict[object, list[int]] = defaultdict(list)
        for row, photo in enumerate(self._embeddings):
            groups[photo.original_size, photo.input_size].append(row)
        parts = []
        for rows in groups.values():
            height, width = self._embeddings[rows[0]].original_size
            step = max(1, PIXELS_AT_ONCE // (height * width))
            parts += [rows[start : start + step] for start in range(0, len(rows), step)]
        return parts

    def _alone(self, row: int) -> Prediction:
        """A photo whose passes differ from the batch's."""
        method, batch = self._method, self._batch
        assert batch is not None
        part = slice(row, row + 1)
        alone = PriorBatch(
            [self._embeddings[row]],
            batch.features[part],
            batch.similarity[part],
            batch.points[part],
            batch.labels,
            None if batch.attention_bias is None else batch.attention_bias[part],
            None if batch.token_offset is None else batch.token_offset[part],
            batch.tokens,
        )
        return method._predictions(alone, method._decode(alone))[0]
