"""Loading ahead: threads read and resize the next photos while the model works on these."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def load_ahead(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    workers: int,
    ahead: int,
    pool: ThreadPoolExecutor | None = None,
) -> Generator[tuple[Item, Loaded | Exception], None, None]:
    """Apply ``load`` to ``items`` in threads, in order.

    Args:
        items: may be endless; only as many are taken as are being loaded.
        load: called in a worker thread.
        workers: number of threads.
        ahead: how many items may be loaded, or loading, beyond the one in use.
        pool: the threads; ended here. ``workers`` new ones if None.

    Yields:
        Each item with what ``load`` returned or the exception it raised, so that one bad item
        costs only itself.
    """
    threads = pool or ThreadPoolExecutor(workers, thread_name_prefix="persam-load")
    waiting: deque[tuple[Item, Future[Loaded]]] = deque()

    def outcome() -> tuple[Item, Loaded | Exception]:
        item, future = waiting.popleft()
        try:
            return item, future.result()
        except Exception as error:
            return item, error

    try:
        for item in items:
            waiting.append((item, threads.submit(load, item)))
            if len(waiting) > ahead:
                yield outcome()
        while waiting:
            yield outcome()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
