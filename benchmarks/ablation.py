"""What each part of PerSAM is worth: the paper's table 4 on an album.

    python -m benchmarks.ablation ../shared/data/perseg_dev --model sam_lite

Each row has the parts of the row before and one more, from a single positive point to PerSAM-F, in
``mode="corrected"`` (``--mode reference`` for the released code, whose PerSAM-F drops the guidance
instead of adding to it). Without an album: PerSeg at PERSEG_DIR, else the demo's own album. The
last line has ``name mIoU`` pairs.
"""

from __future__ import annotations

import sys
from typing import Any

import fiftyone_persam as fp
from benchmarks.accuracy import load_model
from benchmarks.albums import Scores, chosen_album, encode_album, last_line, optional_album, score

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


def row(sam: fp.PromptableSam, name: str, mode: str) -> Any:
    """The method of a row, not yet fitted."""
    options: dict[str, Any] = {"mode": mode, "presence_threshold": 0, "positive_points": 1}
    if name == "scale_tuning":
        on = {part: mode != "reference" or part == "post_refinement" for part in PARTS}
        return fp.PerSAMF(sam, **options, **on)
    count = list(PUBLISHED).index(name)
    switches = {part: number < count for number, part in enumerate(PARTS)}
    return fp.PerSAM(sam, **options, **switches)


def main(given: list[str] | None = None) -> int:
    parser = optional_album(__doc__)
    parser.add_argument("--methods", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--mode", choices=("corrected", "reference"), default="corrected")
    arguments = parser.parse_args(given)
    sam = load_model(arguments.model)
    with chosen_album(arguments.album) as folder:
        album = encode_album(sam, folder, arguments.objects)
        name = folder.name
    print(f"{name}, {arguments.model}, mode={arguments.mode}; paper: PerSeg, ViT-H")
    print(f"{'with':20}{'mIoU':>8}{'gain':>8}{'bIoU':>8}{'paper':>10}{'gain':>8}")
    scores: dict[str, Scores] = {}
    before = paper = None
    for name in arguments.methods:
        scores[name] = found = score(
            album,
            lambda reference, embedding, name=name: row(sam, name, arguments.mode).fit(
                reference, [embedding]
            ),
            arguments.every_reference,
        )
        miou, published = 100 * found.miou, PUBLISHED[name]
        gain = "" if before is None else f"{miou - before:+.1f}"
        theirs = "" if paper is None else f"{published - paper:+.1f}"
        text = f"{name:20}{miou:8.1f}{gain:>8}{100 * found.biou:8.1f}{published:10.1f}{theirs:>8}"
        print(text, flush=True)
        before, paper = miou, published
    print(last_line(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
