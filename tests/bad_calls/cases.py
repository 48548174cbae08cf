"""A bad call, and what has to come of it: one line that says what to do, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fiftyone_persam.errors import PersamError

from .world import World

LONGEST = 400
# What to do follows a colon, or is said as what has to be given.
ADVICE = re.compile(r": \S")


@dataclass(frozen=True)
class Bad:
    """One bad call.

    Attributes:
        id: the test's name.
        call: makes the call.
        says: pattern that the message must have: the wrong input, and what to do.
        error: the exact type of the error.
    """

    id: str
    call: Callable[[World], Any]
    says: str
    error: type[Exception] = PersamError


def table(*rows: Bad) -> Any:
    """The rows as parameters of a test."""
    names = [row.id for row in rows]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return pytest.mark.parametrize("bad", rows, ids=names)


def check_error(bad: Bad, error: BaseException) -> None:
    """The error is of the type that callers catch, and one line with what to do."""
    assert type(error) is bad.error, f"{type(error).__name__}: {error}"
    check_line(str(error), bad.says)


def check_line(message: str, says: str) -> None:
    assert message.splitlines() == [message], "not one line"
    assert re.search(says, message), message
    assert ADVICE.search(message), f"no advice: {message}"
    assert len(message) <= LONGEST, f"{len(message)} characters: {message}"


def refused(bad: Bad, world: World) -> None:
    """Make the call: it is refused as it should be, and nothing has changed anywhere."""
    try:
        with pytest.raises(BaseException) as caught:
            bad.call(world)
    finally:
        changes = world.changes()
        if changes:
            world.repair()
    check_error(bad, caught.value)
    assert not changes, "\n".join(changes)
