"""Evaluation against FiftyOne's own `evaluate_segmentations`, boundary IoU included in ours.

    python -m benchmarks.evaluation --photos 64

Both compare the same masks on disk, write their per-photo fields and store their results.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

import fiftyone_persam as fp
from benchmarks.measuring import Figure, alternate, median_ratio, parser_of, readable, run, spread
from benchmarks.overhead import sizes
from benchmarks.photos import Photos, dataset_of, take_photos

BAR = 5.0
TRUTH, PREDICTION = "truth", "prediction"


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    photos = take_photos(arguments.album, arguments.photos, scratch)
    count = len(photos.files)
    with dataset_of(photos, labelled=0) as dataset:
        _add_masks(dataset, photos, scratch)
        targets = {0: "background", 255: "object"}

        def theirs() -> None:
            dataset.evaluate_segmentations(
                PREDICTION, TRUTH, eval_key="theirs", mask_targets=targets, progress=False
            )

        def ours() -> None:
            fp.evaluate(dataset, PREDICTION, TRUTH, eval_key="ours", progress=False)

        ours()
        theirs()  # both are warm, and overwrite from now on
        seconds = alternate({"theirs": theirs, "ours": ours}, arguments.repeats, arguments.clock)
    ratio = median_ratio(seconds["theirs"], seconds["ours"])
    each = [1000 * min(seconds[name]) / count for name in ("theirs", "ours")]
    return [
        Figure(
            "FiftyOne's evaluate_segmentations / evaluate",
            ratio,
            "x",
            BAR,
            False,
            f"theirs {spread(seconds['theirs'])}, ours {spread(seconds['ours'])}; {count} photos "
            f"of {sizes(photos)}, {readable(each[0])} ms and {readable(each[1])} ms each",
        )
    ]


def _add_masks(dataset: Any, photos: Photos, scratch: Path) -> None:
    """True masks, and predictions that are off by a few pixels."""
    import fiftyone as fo

    values: dict[str, list[Any]] = {TRUTH: [], PREDICTION: []}
    for number, mask in enumerate(photos.masks):
        for field, shown in ((TRUTH, mask), (PREDICTION, _shifted(mask))):
            path = scratch / field / f"{number:05}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), shown.astype(np.uint8) * 255)
            values[field].append(fo.Segmentation(mask_path=str(path)))
    for field, labels in values.items():
        dataset.set_values(field, labels)


def _shifted(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    shifted: npt.NDArray[np.bool_] = np.roll(mask, (5, -3), axis=(0, 1))
    return shifted


def main(given: list[str] | None = None) -> int:
    return run(measure, parser_of(__doc__, photos=56, repeats=3), given)


if __name__ == "__main__":
    sys.exit(main())
