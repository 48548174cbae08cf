"""Drawing episodes as the published code does, call for call.

The published loaders (HSNet's, and Matcher's after it) seed numpy with 0 at the start of every fold
and draw with ``np.random.choice(..., 1, replace=False)`` in one process, in this order: the class,
the query, its object, then supports until one is not the query. The same calls on a generator of
the same seed give the same episodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np

from ...errors import PersamError
from .records import Episode, Example, OneShotIndex

PATIENCE = 10_000
"""Draws in a row that may yield nothing; the published code would go on for ever."""

T = TypeVar("T")


def episodes(
    index: OneShotIndex, fold: int, shots: int = 1, seed: int = 0, limit: int | None = None
) -> Iterator[Episode]:
    """The episodes of a fold.

    Args:
        index: the benchmark.
        fold: which fold.
        shots: labelled supports of each episode.
        seed: of the generator, 0 as published.
        limit: stop after this many episodes; None for as many as published.

    Raises:
        PersamError: no such fold, wrong numbers, or a class with too few photos.
    """
    for name, value, least in (("shots", shots, 1), ("limit", limit, 0)):
        if value is not None and (isinstance(value, bool) or int(value) != value or value < least):
            raise PersamError(f"{name} {value!r} is not a number: give {least} or more")
    classes = index.of_fold(fold)
    for one in classes:
        if len(index.photos.get(one, ())) <= shots:
            raise PersamError(
                f"class {index.classes[one].name!r} of {index.name} has "
                f"{len(index.photos.get(one, ()))} usable photos: {shots} shots need "
                f"{shots + 1} or more"
            )
    drawn = _draw(index, fold, classes, shots, np.random.RandomState(seed))
    for number, episode in enumerate(drawn):
        if limit is not None and number >= limit:
            return
        yield episode


def count(index: OneShotIndex, fold: int) -> int:
    """How many episodes a fold has by the published protocol."""
    protocol, classes = index.protocol, index.of_fold(fold)
    if protocol.count is not None:
        return protocol.count
    queries = sum(len(index.photos[one]) for one in classes)
    if protocol.classes == "first":
        return queries - len(classes)
    found = index.listed.get(fold, queries)
    return found if protocol.most is None else min(found, protocol.most)


def _draw(
    index: OneShotIndex, fold: int, classes: list[int], shots: int, rng: np.random.RandomState
) -> Iterator[Episode]:
    rule = index.protocol.classes
    if rule == "first":
        for one in classes:
            first, *others = index.photos[one]
            for key in others:
                support, query = (_only(index, one, k) for k in (first, key))
                yield Episode((support,), query, one, fold)
        return
    if rule == "query":
        for one in classes:
            for key in index.queries.get(one, index.photos[one]):
                query = _only(index, one, key)
                yield Episode(_supports(index, one, [key], shots, rng), query, one, fold)
        return
    for number in range(count(index, fold)):
        one = classes[number % len(classes)] if rule == "round_robin" else _choice(rng, classes)
        key, query = _draw_example(index, one, (), rng)
        yield Episode(_supports(index, one, [key], shots, rng), query, one, fold)


def _supports(
    index: OneShotIndex, one: int, query: list[str], shots: int, rng: np.random.RandomState
) -> tuple[Example, ...]:
    """Supports that are not the query; parts of one photo are drawn once only, as published."""
    found: list[Example] = []
    used = list(query)
    while len(found) < shots:
        key, example = _draw_example(index, one, used, rng)
        found.append(example)
        if index.protocol.objects and index.protocol.classes == "round_robin":
            used.append(key)  # the published loader of PASCAL-Part alone looks at that
    return tuple(found)


def _draw_example(
    index: OneShotIndex, one: int, used: Sequence[str], rng: np.random.RandomState
) -> tuple[str, Example]:
    for _ in range(PATIENCE):
        key = _choice(rng, index.photos[one])
        if key in used:
            continue
        candidates = index.examples[one, key]
        example = _choice(rng, candidates) if index.protocol.objects else candidates[0]
        if example is not None:
            return key, example
    raise PersamError(
        f"{PATIENCE} draws of class {index.classes[one].name!r} of {index.name} found no usable "
        "photo: check its annotations"
    )


def _only(index: OneShotIndex, one: int, key: str) -> Example:
    example = index.examples[one, key][0]
    if example is None:
        raise PersamError(f"photo {key} of {index.name} has no mask of its class")
    return example


def _choice(rng: np.random.RandomState, items: Sequence[T]) -> T:
    return items[int(rng.choice(len(items), 1, replace=False)[0])]
