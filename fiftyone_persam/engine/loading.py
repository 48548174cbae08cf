"""Loading ahead: threads read and resize the next photos while the model works on these."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def load_ahead(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    workers: int,
    ahead: int,
    prepare: Callable[[], object] | None = None,
) -> Iterator[tuple[Item, Loaded | Exception]]:
    """Apply ``load`` to ``items`` in threads, in order.

    Args:
        items: may be endless; only as many are taken as are being loaded.
        load: called in a worker thread.
        workers: number of threads.
        ahead: how many items may be loaded, or loading, beyond the one in use.
        prepare: called in every worker thread before its first item.

    Yields:
        Each item with what ``load`` returned or the exception it raised, so that one bad item
        costs only itself.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="persam-load", initializer=prepare)
    waiting: deque[tuple[Item, Future[Loaded]]] = deque()

    def outcome() -> tuple[Item, Loaded | Exception]:
        item, future = waiting.popleft()
        try:
            return item, future.result()
        except Exception as error:
            return item, error

    try:
        for item in items:
            waiting.append((item, pool.submit(load, item)))
            if len(waiting) > ahead:
                yield outcome()
        while waiting:
            yield outcome()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
