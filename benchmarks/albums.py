"""The album that a benchmark looks at, encoded once: given, PerSeg itself, or the demo's own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser
from benchmarks.album import Photo, read_album
from fiftyone_persam.datasets import build_album
from fiftyone_persam.metrics import PerSegAccumulator
from fiftyone_persam.personalize import Prediction
from fiftyone_persam.sam import ImageEmbedding

Encoded = tuple[Photo, ImageEmbedding]


class Fitted(Protocol):
    def predict_embeddings(self, embeddings: Sequence[ImageEmbedding]) -> list[Prediction]: ...


@dataclass(frozen=True)
class Scores:
    """Means over an album's objects: mIoU, and boundary IoU summed up per object."""

    miou: float
    biou: float


def optional_album(description: str | None) -> argparse.ArgumentParser:
    """The arguments ``[ALBUM] --model --every-reference``; see `chosen_album`."""
    parser = album_parser(description, optional=True)
    parser.add_argument("--objects", nargs="+", help="only these objects of the album")
    parser.add_argument(
        "--every-reference",
        action="store_true",
        help="each photo in turn is the reference, not only each object's first",
    )
    return parser


def album_or_perseg(given: Path | None) -> Path | None:
    """The album given, else PerSeg at PERSEG_DIR, else None."""
    perseg = os.environ.get("PERSEG_DIR")
    return Path(perseg) if given is None and perseg else given


@contextmanager
def chosen_album(given: Path | None) -> Iterator[Path]:
    """The album given, else PerSeg at PERSEG_DIR, else the demo's, built in a scratch folder."""
    folder = album_or_perseg(given)
    if folder is not None:
        yield folder
        return
    with TemporaryDirectory() as scratch:
        yield build_album(Path(scratch) / "demo album")


def encode_album(
    sam: fp.PromptableSam, folder: Path, objects: list[str] | None = None
) -> list[list[Encoded]]:
    """The photos of each object with their embeddings, the reference first."""
    return [
        [(photo, sam.encode([photo.image])[0]) for photo in group]
        for group in read_album(folder, objects)
    ]


def score(
    album: Sequence[Sequence[Encoded]], fit: Callable[[Any, Any], Fitted], every: bool = False
) -> Scores:
    """Fit each object's reference, and score the masks of its other photos as PerSeg does.

    Args:
        album: from `encode_album`.
        fit: of a reference and its embedding.
        every: each photo in turn is the reference.
    """
    totals = PerSegAccumulator()
    for group in album:
        for photo, embedding in group if every else group[:1]:
            fitted = fit(fp.Reference(photo.image, mask=photo.mask), embedding)
            for other, at in group:
                if other is not photo:
                    found = fitted.predict_embeddings([at])[0]
                    totals.update(other.object, found.mask, other.mask)
    means = totals.compute()
    return Scores(means.miou, means.mean_boundary_iou)


def last_line(scores: dict[str, Scores]) -> str:
    """``name mIoU`` pairs, in percent, for programs to read."""
    return " ".join(f"{name} {100 * one.miou:.2f}" for name, one in scores.items())
