"""What commands share: photos that are meant, references as text, the exit status."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ..errors import PersamError

Options = argparse.Namespace


def dataset_of(options: Options) -> Any:
    """The dataset that a command names."""
    import fiftyone as fo

    if not fo.dataset_exists(options.dataset):
        listed = ", ".join(fo.list_datasets()[:10]) or "there is none"
        raise PersamError(f"there is no dataset {options.dataset!r}: choose one of {listed}")
    return fo.load_dataset(options.dataset)


def samples_of(options: Options) -> Any:
    """The dataset, or what --view and --tag leave of it."""
    samples = dataset_of(options)
    if options.view is not None:
        if not samples.has_saved_view(options.view):
            views = ", ".join(samples.list_saved_views()) or "it has none"
            raise PersamError(
                f"dataset {options.dataset!r} has no saved view {options.view!r}: choose one of "
                f"its views ({views})"
            )
        samples = samples.load_saved_view(options.view)
    return samples.match_tags(options.tag) if options.tag else samples


def piece_of(given: str) -> Any:
    """ID, or ID:LABEL, as a reference."""
    sample_id, colon, label_id = given.partition(":")
    return (sample_id, label_id) if colon else sample_id


def objects_of(given: Sequence[str], option: str = "--object") -> dict[str, list[Any]]:
    """NAME=ID, or NAME=ID:LABEL, several times, as references by name."""
    found: dict[str, list[Any]] = {}
    for one in given:
        name, equals, piece = one.rpartition("=")
        if not equals:
            raise PersamError(f"{option} {one!r} has no name: give NAME=ID, such as mug={one}")
        found.setdefault(name, []).append(piece_of(piece))
    return found


def value_of(given: str | None) -> int | str | None:
    """A mask's value: a number, or a colour or the name of a class as it is."""
    return int(given) if given is not None and given.isdigit() else given


def verdict(run: Any) -> int:
    """The exit status: 1 where every photo failed."""
    return 0 if run.counts["segmented"] or not run.errors else 1
