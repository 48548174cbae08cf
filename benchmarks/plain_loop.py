"""The whole job against a plain loop over photos, written as PerSAM was published.

    python -m benchmarks.plain_loop --model sam_lite --photos 50

The loop takes one photo at a time through `SamPredictor`: read, encode, three passes, write the
mask. `segment` does the same, and keeps score in the database. Both run PerSAM, and take turns.
``--without-database`` runs the job alone, files to files, where FiftyOne is not installed; the loop
then takes ``--loop-photos`` of the photos, and the ratio is that of photos per second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

import fiftyone_persam as fp
from benchmarks import released
from benchmarks.measuring import Figure, alternate, median_ratio, parser_of, run, spread
from benchmarks.models import MODELS, random_sam
from benchmarks.photos import LABELS, Photos, dataset_of, take_photos
from fiftyone_persam.engine import Job, LocalBackend, OutputSettings, PhotoTask
from fiftyone_persam.engine.memory import BATCH
from fiftyone_persam.engine.side_by_side import photos_side_by_side

BARS = {("cpu", "sam_lite"): 1.5, ("cuda", "vit_h"): 20.0}


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    if arguments.device == "cuda" and not torch.cuda.is_available():
        name = f"plain SamPredictor loop / whole job, {arguments.model} on cuda"
        return [Figure(name, None, "x", BARS["cuda", "vit_h"], False, "no CUDA here")]
    sam = random_sam(arguments.model, arguments.device)
    # The published loop runs in float32.
    plain = random_sam(arguments.model, str(sam.device), "float32")
    photos = take_photos(arguments.album, arguments.photos, scratch)
    if arguments.without_database:
        return [_without_database(arguments, sam, plain, photos, scratch)]
    with dataset_of(photos) as dataset:
        reference = dataset.first().id

        def ours(batch_size: int | None = None) -> None:
            name = f"run_{len(dataset.list_runs())}"
            fp.segment(
                dataset,
                reference,
                LABELS,
                "persam",
                sam,
                name,
                masks_dir=scratch / name,
                presence_threshold=0,
                batch_size=batch_size,
                progress=False,
            )

        few = Photos(photos.files[:2], photos.masks[:2])
        _loop(plain, few, scratch / "loop")  # warms up
        parts = {"loop": lambda: _loop(plain, photos, scratch / "loop"), "ours": ours}
        beside = photos_side_by_side(sam)
        if beside > 1:
            parts["batches"] = lambda: ours(BATCH["cpu"])
        seconds = alternate(parts, arguments.repeats, arguments.clock)
    device = sam.device.type
    figures = [
        Figure(
            f"plain SamPredictor loop / whole job, {arguments.model} on {device}",
            median_ratio(seconds["loop"], seconds["ours"]),
            "x",
            BARS.get((device, arguments.model)),
            False,
            f"loop {spread(seconds['loop'])}, ours {spread(seconds['ours'])}; "
            f"{len(photos.files)} photos",
        )
    ]
    if beside > 1:
        figures.append(
            Figure(
                f"whole job in batches of {BATCH['cpu']} / photos side by side, {arguments.model}",
                median_ratio(seconds["batches"], seconds["ours"]),
                "x",
                None,
                False,
                f"in batches {spread(seconds['batches'])}, side by side {spread(seconds['ours'])} "
                f"on {beside} cores",
            )
        )
    return figures


def _without_database(
    arguments: argparse.Namespace,
    sam: fp.PromptableSam,
    plain: fp.PromptableSam,
    photos: Photos,
    scratch: Path,
) -> Figure:
    reference = fp.Reference(str(photos.files[0]), mask=photos.masks[0])
    fitted = fp.PerSAM(sam, presence_threshold=0).fit(reference)
    few = Photos(photos.files[: arguments.loop_photos], photos.masks[: arguments.loop_photos])

    def ours() -> None:
        job = Job(
            tasks=[PhotoTask(f"photo{n}", str(file)) for n, file in enumerate(photos.files)],
            sam=sam,
            predictors={"": fitted},
            output=OutputSettings(masks_dir=scratch / "masks", storage="file"),
        )
        done = sum(len(results) for results in LocalBackend().run(job))
        assert done == len(photos.files)

    ours()
    _loop(plain, Photos(few.files[:2], few.masks[:2]), scratch / "loop")
    parts = {"loop": lambda: _loop(plain, few, scratch / "loop"), "ours": ours}
    seconds = alternate(parts, arguments.repeats, arguments.clock)
    loop = [len(few.files) / one for one in seconds["loop"]]
    job = [len(photos.files) / one for one in seconds["ours"]]
    device = sam.device.type
    return Figure(
        f"plain SamPredictor loop / job without database, {arguments.model} on {device}",
        median_ratio(job, loop),
        "x",
        BARS.get((device, arguments.model)),
        False,
        f"loop {max(loop):.3g} photos/s in float32, ours {max(job):.3g} in "
        f"{str(sam.dtype).removeprefix('torch.')}; {len(few.files)} and {len(photos.files)} photos",
    )


def _loop(sam: fp.PromptableSam, photos: Photos, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    colours = np.zeros((*photos.masks[0].shape, 3), np.uint8)
    colours[photos.masks[0]] = 255
    done = released.persam(sam.sam, _read(photos.files[0]), colours, _photos(photos))
    for file, record in zip(photos.files, done, strict=True):
        cv2.imwrite(str(folder / f"{file.stem}.png"), record["mask"].astype(np.uint8) * 255)


def _photos(photos: Photos) -> Iterator[npt.NDArray[np.uint8]]:
    for file in photos.files:
        yield _read(file)


def _read(file: Path) -> npt.NDArray[np.uint8]:
    pixels = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    return np.asarray(pixels, np.uint8)


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=50, repeats=2)
    parser.add_argument("--model", choices=MODELS, default="sam_lite")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--without-database", action="store_true")
    parser.add_argument("--loop-photos", type=int, default=16)
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
