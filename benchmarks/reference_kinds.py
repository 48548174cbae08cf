"""How much the kind and the roughness of the reference matter (paper, table 6).

    python -m benchmarks.reference_kinds ../shared/data/perseg_dev --model sam_lite

Each object's first photo is the reference: by its mask as it is, by the mask's tight box, by one
point inside it, and by masks as hasty hands draw them: eroded and dilated by a twentieth of the
object's size, a scribble along its middle, a polygon of six corners. Printed are PerSAM's and
PerSAM-F's mIoU over the other photos, and the IoU of the mask that was given with the true one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import read_album
from fiftyone_persam.metrics import PerSegAccumulator

Mask = npt.NDArray[np.bool_]
METHODS = {"persam": fp.PerSAM, "persam_f": fp.PerSAMF}
_CORNERS = 6


def _disc(mask: Mask) -> npt.NDArray[np.uint8]:
    radius = max(1, round(np.sqrt(mask.sum()) / 20))
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2).astype(np.uint8)


def eroded(mask: Mask) -> Mask:
    """Smaller by a twentieth of the object's size; the mask itself where nothing is left."""
    smaller = cv2.erode(mask.astype(np.uint8), _disc(mask), borderValue=0) > 0
    return smaller if smaller.any() else mask


def dilated(mask: Mask) -> Mask:
    """Larger by a twentieth of the object's size."""
    return cv2.dilate(mask.astype(np.uint8), _disc(mask)) > 0


def scribble(mask: Mask) -> Mask:
    """A line along the longer side of the object, where it is thickest, inside the mask."""
    ys, xs = mask.nonzero()
    along_rows = np.ptp(ys) >= np.ptp(xs)
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    drawn = np.zeros(mask.shape, np.uint8)
    steps = np.unique(ys if along_rows else xs)
    inner = steps[len(steps) // 6 : len(steps) - len(steps) // 6]
    places = [depth[k].argmax() if along_rows else depth[:, k].argmax() for k in inner]
    line = [(p, k) if along_rows else (k, p) for k, p in zip(inner, places, strict=True)]
    width = max(1, round(np.sqrt(mask.sum()) / 25))
    points = np.array(line, np.int32).reshape(-1, 1, 2)
    cv2.polylines(drawn, [points], isClosed=False, color=1, thickness=width)
    return (drawn > 0) & mask


def polygon(mask: Mask) -> Mask:
    """The outline of the largest piece with six corners."""
    outlines, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    outline = max(outlines, key=cv2.contourArea)
    tolerance = 0.005 * cv2.arcLength(outline, closed=True)
    corners = cv2.approxPolyDP(outline, tolerance, closed=True)
    while len(corners) > _CORNERS:
        tolerance *= 1.2
        corners = cv2.approxPolyDP(outline, tolerance, closed=True)
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(drawn, [corners], 1)
    return drawn > 0 if drawn.any() else mask


def box(mask: Mask) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around the mask."""
    ys, xs = mask.nonzero()
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def point(mask: Mask) -> list[tuple[int, int]]:
    """The place deepest inside the mask."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), mask.shape)
    return [(int(x), int(y))]


KINDS: dict[str, Callable[[Mask], dict[str, Any]]] = {
    "mask": lambda mask: {"mask": mask},
    "box": lambda mask: {"box": box(mask)},
    "point": lambda mask: {"points": point(mask)},
    "eroded mask": lambda mask: {"mask": eroded(mask)},
    "dilated mask": lambda mask: {"mask": dilated(mask)},
    "scribble": lambda mask: {"mask": scribble(mask)},
    "polygon": lambda mask: {"mask": polygon(mask)},
}


def main(given: list[str] | None = None) -> None:
    parser = album_parser(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args(given)
    sam = load_model(arguments.model)
    encoded = [
        [(p, sam.encode([p.image])[0]) for p in group] for group in read_album(arguments.album)
    ]
    print(f"{'reference':14}{'persam':>10}{'persam_f':>10}   IoU of the given mask")
    for kind in arguments.kinds:
        cells, ious = [], []
        for cls in METHODS.values():
            total = PerSegAccumulator()
            for (photo, embedding), *others in encoded:
                made = KINDS[kind](photo.mask)
                fitted = cls(sam, presence_threshold=0).fit(
                    fp.Reference(photo.image, **made), [embedding]
                )
                if "mask" in made:
                    ious.append(fp.iou(made["mask"], photo.mask))
                found = fitted.predict_embeddings([e for _, e in others])
                for (other, _), prediction in zip(others, found, strict=True):
                    total.update(other.object, prediction.mask, other.mask)
            cells.append(f"{total.compute().miou:10.3f}")
        print(f"{kind:14}{''.join(cells)}   {f'{np.mean(ious):.3f}' if ious else ''}", flush=True)


if __name__ == "__main__":
    main()
