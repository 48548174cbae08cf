"""Objects followed through DAVIS's sequences: J&F by its protocol, frames a second, memory.

    python -m benchmarks.video ../shared/data/davis_dev --model sam_lite --method persam_f
    python -m benchmarks.video DAVIS --year 2017 --mode reference
    python -m benchmarks.video DAVIS --backwards --option persam_f.scale_tuning=off

The objects are learnt from the first frame's annotation (``--backwards``: the last one's, and
followed from there to the first: as many sequences again). J&F leaves out the first and the last
frame; means are over objects. The time is from files to masks: reading, encoding, fitting and
following. The last line is ``J&F 70.1, J 68.0, F 72.2, 9.1 frames/s``. Published for DAVIS 2017
with SAM's ViT-H: PerSAM 66.9, PerSAM-F 76.1.
"""

from __future__ import annotations

import argparse
import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.accuracy import load_model
from benchmarks.tuning import parse_options
from fiftyone_persam.datasets.davis.layout import DavisSequence, read_davis
from fiftyone_persam.errors import PersamError
from fiftyone_persam.metrics import JFScores, jf_scores, mean_scores
from fiftyone_persam.personalize import METHODS, Reference, sequence_session
from fiftyone_persam.sam import PromptableSam, load_photo

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Followed:
    """One sequence: its objects' scores, and how long it took.

    Attributes:
        scores: by object.
        frames: followed.
        seconds: from files to masks.
    """

    scores: dict[int, JFScores]
    frames: int
    seconds: float


def backwards(sequence: DavisSequence) -> DavisSequence:
    """The same sequence from its last frame to its first."""
    return replace(sequence, frames=sequence.frames[::-1], annotations=sequence.annotations[::-1])


def follow(
    sequence: DavisSequence,
    sam: PromptableSam,
    method: str,
    mode: str = "corrected",
    options: dict[str, Any] | None = None,
) -> Iterator[dict[int, Mask]]:
    """Masks of the objects in each frame, one frame after the other."""
    first = sequence.index_map(0)
    objects = sequence.first_objects()
    assert first is not None
    masks = {str(number): first == number for number in objects}
    photo = load_photo(sequence.frames[0])
    (embedding,) = sam.encode([photo])
    fitted = {
        name: METHODS[method](sam, mode=mode, **(options or {})).fit(
            Reference(photo, mask=mask), [embedding]
        )
        for name, mask in masks.items()
    }
    session = sequence_session(fitted)
    session.open(embedding, masks, photo)
    yield {int(name): mask for name, mask in masks.items()}
    for path in sequence.frames[1:]:
        photo = load_photo(path)
        (embedding,) = sam.encode([photo])
        found = session.step(embedding, photo)
        yield {int(name): one.mask for name, one in found.items()}


def measure(
    sequence: DavisSequence,
    sam: PromptableSam,
    method: str,
    mode: str = "corrected",
    options: dict[str, Any] | None = None,
) -> Followed:
    """Follow the objects of a sequence and score them; frames without annotation do not count."""
    found: dict[int, list[Mask]] = {}
    truth: dict[int, list[Mask]] = {}
    seconds, frames = 0.0, iter(follow(sequence, sam, method, mode, options))
    for number in range(len(sequence.frames)):
        started = time.perf_counter()
        masks = next(frames)
        seconds += time.perf_counter() - started
        map_ = sequence.index_map(number)
        for one, mask in masks.items() if map_ is not None else ():
            found.setdefault(one, []).append(mask)
            truth.setdefault(one, []).append(map_ == one)
    scores = {one: jf_scores(found[one], truth[one]) for one in found}
    return Followed(scores, len(sequence.frames), seconds)


def main(given: list[str] | None = None) -> int:
    arguments = _parser().parse_args(given)
    try:
        options = parse_options(arguments.option).get(arguments.method, {})
        sam = load_model(arguments.model)
        sequences = read_davis(arguments.root, arguments.year, arguments.split, arguments.sequences)
        runs = {}
        for sequence in sequences:
            if arguments.backwards:
                sequence = backwards(sequence)
            run = measure(sequence, sam, arguments.method, arguments.mode, options)
            runs[sequence.name] = run
            for number, one in run.scores.items():
                print(
                    f"{sequence.name:20} object {number}: {_line(one)}, recall J "
                    f"{100 * one.j_recall:.1f} F {100 * one.f_recall:.1f}, decay J "
                    f"{100 * one.j_decay:.1f} F {100 * one.f_decay:.1f}, "
                    f"{run.frames / run.seconds:.1f} frames/s",
                    flush=True,
                )
    except PersamError as error:
        print(error, file=sys.stderr)
        return 1
    mean = mean_scores([one for run in runs.values() for one in run.scores.values()])
    frames, seconds = (sum(getattr(run, n) for run in runs.values()) for n in ("frames", "seconds"))
    print(
        f"{arguments.method}, {arguments.mode} mode, {arguments.model}: {len(runs)} sequences, "
        f"{frames} frames, recall J {100 * mean.j_recall:.1f} F {100 * mean.f_recall:.1f}, decay J "
        f"{100 * mean.j_decay:.1f} F {100 * mean.f_decay:.1f}"
    )
    print(f"memory: {_memory()}; {platform.machine()}, {torch.get_num_threads()} threads")
    print(f"{_line(mean)}, {frames / seconds:.1f} frames/s")
    return 0


def _line(scores: JFScores) -> str:
    return f"J&F {100 * scores.jf:.1f}, J {100 * scores.j:.1f}, F {100 * scores.f:.1f}"


def _memory() -> str:
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    told = f"{peak / 2**30:.2f} GiB of the process at most"
    if torch.cuda.is_available():
        told += f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB on the GPU at most"
    return told


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="a folder in DAVIS's layout")
    parser.add_argument("--model", default="sam_lite")
    parser.add_argument("--method", default="persam_f", choices=list(METHODS))
    parser.add_argument("--mode", default="corrected", choices=["corrected", "reference"])
    parser.add_argument("--option", action="append", default=[], metavar="METHOD.NAME=VALUE")
    parser.add_argument("--backwards", action="store_true", help="from the last frame to the first")
    parser.add_argument("--year", choices=["2016", "2017"], help="by the lists there by default")
    parser.add_argument("--split", help="a list of sequences; val if there is one by default")
    parser.add_argument("--sequences", nargs="*", help="only these")
    return parser


if __name__ == "__main__":
    sys.exit(main())
