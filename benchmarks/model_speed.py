"""Seconds per photo of sam_lite against MobileSAM, in one run.

    python -m benchmarks.model_speed ../shared/data/perseg_dev

One photo is encoded and decoded by PerSAM with either model in turn, several times; the medians and
their ratio are printed. MobileSAM's weights are random where its checkpoint is not there: speed
does not depend on them.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch

import fiftyone_persam as fp
from benchmarks.album import Photo, read_album
from fiftyone_persam.errors import CheckpointError
from fiftyone_persam.sam.tiny_vit import build_mobile_sam


def load_mobile_sam() -> tuple[fp.PromptableSam, str]:
    """MobileSAM and a word on its weights."""
    try:
        return fp.load_sam("mobile_sam", download=False), "published weights"
    except CheckpointError:
        torch.manual_seed(0)
        return fp.load_sam(build_mobile_sam()), "random weights"


def fit(sam: fp.PromptableSam, reference: Photo) -> fp.PerSAM:
    """PerSAM with every stage, the presence test off so that each photo runs all passes."""
    fitted = fp.PerSAM(sam, presence_threshold=0.0)
    return fitted.fit(fp.Reference(reference.image, mask=reference.mask))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("album", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    photos = next(iter(read_album(arguments.album)))
    mobile, weights = load_mobile_sam()
    models = {"sam_lite": fp.load_sam("sam_lite"), "mobile_sam": mobile}
    fitted = {name: fit(sam, photos[0]) for name, sam in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(arguments.repeats + 1):
        for name, persam in fitted.items():
            started = time.perf_counter()
            persam.predict([photos[1].image])
            times[name].append(time.perf_counter() - started)
    # The first turn warms up.
    medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    for name, seconds in medians.items():
        print(f"{name:12} {seconds:.3f} s per photo (median of {arguments.repeats})")
    print(f"sam_lite / mobile_sam ({weights}): {medians['sam_lite'] / medians['mobile_sam']:.3f}")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
