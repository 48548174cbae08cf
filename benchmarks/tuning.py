"""Ways to tune on one photo, compared: the paper's table 5 on an album.

    python -m benchmarks.tuning ../shared/data/perseg_dev --model sam_lite --methods lora persam_f

For each method: how many numbers it tunes, mIoU and boundary IoU (sums over an object's photos,
then the mean over objects), and the median seconds of a fit, the photo encoded before, as they
passed and as the processor worked. ``--option lora.lr=1e-4`` sets a method's option. Without an
album: PerSeg at PERSEG_DIR, else the demo's own album. The last line has ``name mIoU`` pairs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import torch

from benchmarks.accuracy import load_model
from benchmarks.albums import Scores, chosen_album, encode_album, last_line, optional_album, score
from fiftyone_persam.errors import PersamError
from fiftyone_persam.options import check_names
from fiftyone_persam.personalize import METHODS, method_info
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

PUBLISHED: dict[str, tuple[str, float | None]] = {
    "persam": ("0", 89.3),
    "prompt_tuning": ("12K", 76.5),
    "adapter": ("196K", 78.3),
    "lora": ("293K", 90.0),
    "mask_weights_3": ("3", 92.9),
    "persam_f": ("2", 95.3),
    "ssprompt": ("-", None),
}
"""Tuned numbers and mIoU in the paper: PerSeg, SAM's ViT-H. SSPrompt has no figure for it."""


class Timed:
    """Fits a method to one object after the other and remembers how long each took."""

    def __init__(self, sam: PromptableSam, name: str, options: dict[str, Any]) -> None:
        self.sam = sam
        self.name = name
        self.options = {"presence_threshold": 0, **options}
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.parameters = 0

    def __call__(self, reference: Any, embedding: ImageEmbedding) -> Any:
        method: Any = METHODS[self.name](self.sam, **self.options)  # type: ignore[call-arg]
        wall, cpu = time.perf_counter(), time.process_time()
        method.fit(reference, [embedding])
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        self.parameters = getattr(method, "parameters", 0)
        return method


def parse_options(texts: list[str]) -> dict[str, dict[str, Any]]:
    """``METHOD.NAME=VALUE`` -> values by method and name.

    Raises:
        PersamError: a method has no such option, or the option no such value.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        method, _, rest = text.partition(".")
        name, equals, value = rest.partition("=")
        if not equals:
            raise PersamError(f"option {text!r} is not METHOD.NAME=VALUE: write lora.lr=1e-4")
        options = {option.name: option for option in method_info(METHODS.check(method)).options}
        check_names(method, options.values(), [name])
        found.setdefault(method, {})[name] = options[name].parse(value)
    return found


def main(given: list[str] | None = None) -> int:
    parser = optional_album(__doc__)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(PUBLISHED))
    parser.add_argument("--option", action="append", default=[], metavar="METHOD.NAME=VALUE")
    arguments = parser.parse_args(given)
    try:
        options = parse_options(arguments.option)
    except PersamError as error:
        parser.error(str(error))
    return compare(arguments, options)


def compare(arguments: argparse.Namespace, options: dict[str, dict[str, Any]]) -> int:
    sam = load_model(arguments.model)
    with chosen_album(arguments.album) as folder:
        album = encode_album(sam, folder, arguments.objects)
        title = folder.name
    print(f"{title}, {arguments.model} on {sam.device.type}; paper: PerSeg, ViT-H")
    print(
        f"{'method':16}{'tuned':>9}{'mIoU':>8}{'bIoU':>8}{'fit s':>9}{'CPU s':>8}"
        f"{'paper: tuned':>15}{'mIoU':>7}"
    )
    scores: dict[str, Scores] = {}
    for name in arguments.methods:
        timed = Timed(sam, name, options.get(name, {}))
        scores[name] = found = score(album, timed, arguments.every_reference)
        tuned, published = PUBLISHED.get(name, ("-", None))
        print(
            f"{name:16}{timed.parameters:>9,}{100 * found.miou:8.1f}{100 * found.biou:8.1f}"
            f"{statistics.median(timed.wall):9.2f}{statistics.median(timed.cpu):8.2f}"
            f"{tuned:>15}{'-' if published is None else f'{published:.1f}':>7}",
            flush=True,
        )
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(last_line(scores))
    return 0


if __name__ == "__main__":
    sys.exit(main())
