"""What one photo gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Prediction:
    """The object in one photo.

    Attributes:
        mask: (H, W) bool at the photo's own size; empty if the object is judged absent.
        score: predicted IoU of the mask by SAM's own head, about 0 to 1.
        presence: 0 to 1, the probability that the masked region is the object in the reference; see
            `fiftyone_persam.personalize.presence`.
        similarity: (h, w) float32 cosine similarity at the embedding's resolution, padding cut off.
        points: (n, 2) int64 x, y in pixels of the photo, positives first.
        labels: (n,) int64, 1 or 0.
        box: (4,) int64 x0, y0, x1, y1 (last pixel included), the box that prompted the last pass;
            None if no pass had one.
        stage: what produced the mask: "location_prior" (pass 1), "refinement_1", "refinement_2",
            "empty" if no pass found anything, "absent" if presence is below the threshold.
        agreement: IoU of the first pass's mask and the final one before the presence check; low
            where the passes contradict each other.
        candidate: (H, W) bool, the mask before the presence check. The same array as ``mask``
            unless the stage is "absent", so another threshold needs no new run.
        instances: the masks found one after the other, strongest first, if more than one was
            asked for; ``mask`` is then their union. Empty otherwise.
    """

    mask: npt.NDArray[np.bool_]
    score: float
    presence: float
    similarity: npt.NDArray[np.float32]
    points: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    box: npt.NDArray[np.int64] | None
    stage: str
    agreement: float
    candidate: npt.NDArray[np.bool_]
    instances: tuple[Prediction, ...] = ()
