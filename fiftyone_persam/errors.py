"""Errors that a caller may want to catch.

Each message is one line: what was wrong, with which input, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


class PersamError(ValueError):
    """Base of every error this package raises on purpose.

    One line, even where a file's name or a library's own message has line breaks.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(" ".join(line.strip() for line in str(message).splitlines()))


class BadReferenceError(PersamError):
    """The reference does not describe one object: no prompt, empty mask, wrong size, ..."""


class CheckpointError(PersamError):
    """A checkpoint or a saved state is missing, truncated, foreign, or of another model."""


class PhotoError(PersamError):
    """A photo cannot be read or is not a photo."""


class RunConflictError(PersamError):
    """Two runs would write into the same place."""


class RunStoppedError(PersamError):
    """A run was stopped from elsewhere; what is finished stays, and it can be resumed."""


class DatasetLayoutError(PersamError):
    """A folder does not have the layout that an importer expects."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: what was probably meant, or nothing."""
    if not isinstance(name, str):
        return ""
    by_case = {one.casefold(): one for one in known}
    close = difflib.get_close_matches(name.casefold(), by_case, n=1, cutoff=0.7)
    return f"; did you mean {by_case[close[0]]!r}?" if close else ""


def problem_of(check: Callable[..., object], *args: object, **kwargs: object) -> str | None:
    """What a check says against what it is given, in one line; None if it has nothing against."""
    try:
        check(*args, **kwargs)
    except PersamError as error:
        return str(error)
    return None
