"""What each part of PerSAM is worth: the paper's table 4 on an album.

    python -m benchmarks.ablation ../shared/data/perseg_dev --model sam_lite

Each row has the parts of the row before and one more, from a single positive point to PerSAM-F, in
``mode="corrected"`` (``--mode reference`` for the released code, whose PerSAM-F drops the guidance
instead of adding to it). Without an album: PerSeg at PERSEG_DIR, else the demo's own album. The
last line has ``name mIoU`` pairs.

``--persam-f`` instead compares what PerSAM-F could keep of PerSAM's guidance in corrected mode,
from the released choice (a target feature that is half mean, half maximum, and no guidance) to all
of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor

import fiftyone_persam as fp
from benchmarks.accuracy import load_model
from benchmarks.albums import Scores, chosen_album, encode_album, last_line, optional_album, score
from fiftyone_persam.personalize import prior

PARTS = ("negative_prior", "post_refinement", "guided_attention", "semantic_prompt")
PUBLISHED = {
    "positive_prior": 69.1,
    "negative_prior": 72.5,
    "post_refinement": 83.9,
    "guided_attention": 85.8,
    "semantic_prompt": 89.3,
    "scale_tuning": 95.3,
}
"""mIoU of each row in the paper: PerSeg, SAM's ViT-H."""
KEPT: dict[str, tuple[str, ...]] = {
    "as_released": (),
    "mean_feature": (),
    "semantic_prompt": ("semantic_prompt",),
    "semantic_and_guided": ("semantic_prompt", "guided_attention"),
    "semantic_and_negative": ("semantic_prompt", "negative_prior"),
    "all_three": ("semantic_prompt", "guided_attention", "negative_prior"),
    "persam": (),
}
"""What PerSAM-F keeps of PerSAM's guidance in each row of ``--persam-f``; the last is PerSAM."""


class PeakMean(fp.PerSAMF):
    """PerSAM-F with the released target feature, its faults mended."""

    def target_feature(self, features: Tensor, foreground: Tensor) -> Tensor:
        """Half maximum, half mean."""
        return prior.peak_mean_feature(features, foreground)


def kept(sam: fp.PromptableSam, name: str) -> Any:
    """The method of a row of ``--persam-f``, not yet fitted."""
    if name == "persam":
        return fp.PerSAM(sam, presence_threshold=0)
    kind = PeakMean if name == "as_released" else fp.PerSAMF
    parts: dict[str, Any] = {
        part: part in KEPT[name] for part in PARTS if part != "post_refinement"
    }
    return kind(sam, presence_threshold=0, **parts)


def row(sam: fp.PromptableSam, name: str, mode: str) -> Any:
    """The method of a row, not yet fitted."""
    options: dict[str, Any] = {"mode": mode, "presence_threshold": 0, "positive_points": 1}
    if name == "scale_tuning":
        on: dict[str, Any] = {
            part: mode != "reference" or part == "post_refinement" for part in PARTS
        }
        return fp.PerSAMF(sam, **options, **on)
    count = list(PUBLISHED).index(name)
    switches: dict[str, Any] = {part: number < count for number, part in enumerate(PARTS)}
    return fp.PerSAM(sam, **options, **switches)


def main(given: list[str] | None = None) -> int:
    parser = optional_album(__doc__)
    parser.add_argument("--methods", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--mode", choices=("corrected", "reference"), default="corrected")
    parser.add_argument("--persam-f", action="store_true", help="what PerSAM-F could keep")
    arguments = parser.parse_args(given)
    sam = load_model(arguments.model)
    with chosen_album(arguments.album) as folder:
        album = encode_album(sam, folder, arguments.objects)
        name = folder.name

    def measured(make: Callable[[str], Any], row: str) -> Scores:
        return score(album, lambda r, e: make(row).fit(r, [e]), arguments.every_reference)

    scores: dict[str, Scores] = {}
    if arguments.persam_f:
        print(f"{name}, {arguments.model}, PerSAM-F in corrected mode")
        print(f"{'with':24}{'mIoU':>8}{'bIoU':>8}")
        for row_name in KEPT:
            scores[row_name] = found = measured(lambda one: kept(sam, one), row_name)
            print(f"{row_name:24}{100 * found.miou:8.1f}{100 * found.biou:8.1f}", flush=True)
        print(last_line(scores))
        return 0
    print(f"{name}, {arguments.model}, mode={arguments.mode}; paper: PerSeg, ViT-H")
    print(f"{'with':20}{'mIoU':>8}{'gain':>8}{'bIoU':>8}{'paper':>10}{'gain':>8}")
    before = paper = None
    for row_name in arguments.methods:
        found = measured(lambda one: row(sam, one, arguments.mode), row_name)
        scores[row_name] = found
        miou, published = 100 * found.miou, PUBLISHED[row_name]
        gain = "" if before is None else f"{miou - before:+.1f}"
        theirs = "" if paper is None else f"{published - paper:+.1f}"
        print(
            f"{row_name:20}{miou:8.1f}{gain:>8}{100 * found.biou:8.1f}{published:10.1f}{theirs:>8}",
            flush=True,
        )
        before, paper = miou, published
    print(last_line(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
