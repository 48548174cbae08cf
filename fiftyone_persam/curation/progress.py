"""Telling a caller how far a run is: a hook of theirs, or FiftyOne's own bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fiftyone as fo

Hook = Callable[[int, int], Any]


Progress = bool | Hook | None


class StoppedError(Exception):
    """Carries what a progress hook raised past the handling of faults."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def reporting(progress: Progress, total: int) -> Iterator[Callable[[int], None]]:
    """How to tell the caller about progress: through a hook, or with FiftyOne's own bar."""
    if callable(progress):
        hook = progress

        def call(done: int) -> None:
            try:
                hook(done, total)
            except BaseException as error:
                raise StoppedError(error) from error

        yield call
        return
    with fo.ProgressBar(total=total, iters_str="photos", progress=progress) as bar:
        yield lambda done: bar.set_iteration(done)
