"""Work shared out among workers that may die: who gets what, what came back, what is left."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from ..errors import PersamError
from .job import PhotoResult, PhotoTask

DEATHS_OF_A_PHOTO = 3
"""A photo whose worker died so often is an error of its own: it may be what kills them."""
DEATHS_IN_A_ROW = 4
"""Deaths per worker without any result in between, after which the job fails."""


class Shards:
    """The photos of a job, in shards of ids, each in the hands of one worker at a time.

    Shards are large first and small towards the end, so that all workers end together. What a dead
    worker had not delivered is handed out again; what two workers delivered counts once.

    Args:
        tasks: photos with different ids.
        workers: how many share them.
        smallest: photos of a shard, but for the last one.
        largest: at most so many.
    """

    def __init__(
        self, tasks: Sequence[PhotoTask], workers: int, smallest: int, largest: int
    ) -> None:
        self._workers = max(1, workers)
        self._smallest = max(1, smallest)
        self._largest = max(self._smallest, largest)
        self._new = deque(tasks)
        self._again: deque[list[PhotoTask]] = deque()
        self._open = {task.id for task in tasks}
        self._deaths: Counter[str] = Counter()
        self._in_a_row = 0

    @property
    def finished(self) -> bool:
        """Whether every photo has its result."""
        return not self._open

    def take(self) -> list[PhotoTask]:
        """The next shard; empty if everything left is in somebody's hands."""
        while self._again:
            if shard := self._without_result(self._again.popleft()):
                return shard
        share = -(-len(self._new) // (2 * self._workers))
        size = min(self._largest, max(self._smallest, share), len(self._new))
        return [self._new.popleft() for _ in range(size)]

    def deliver(self, results: Iterable[PhotoResult]) -> list[PhotoResult]:
        """Take results; returns those of photos that had none yet."""
        first = []
        for result in results:
            if result.id in self._open:
                self._open.remove(result.id)
                first.append(result)
        if first:
            self._in_a_row = 0
        return first

    def give_back(self, shard: Sequence[PhotoTask], cause: str) -> list[PhotoResult]:
        """Take back a shard whose worker has died; nothing of it is lost.

        A shard is tried again as it is. If that worker dies as well, its photos are tried one by
        one, so that the photo that kills workers costs no other photo.

        Args:
            shard: what the worker had; empty if it died before it had anything.
            cause: why it died, in a few words.

        Returns:
            An error for each photo whose worker has died too often.

        Raises:
            PersamError: workers die again and again without any result.
        """
        self._in_a_row += 1
        left = self._without_result(shard)
        self._deaths.update(task.id for task in left)
        hopeless = [task for task in left if self._deaths[task.id] >= DEATHS_OF_A_PHOTO]
        hopeful = [task for task in left if self._deaths[task.id] < DEATHS_OF_A_PHOTO]
        if any(self._deaths[task.id] > 1 for task in hopeful):
            self._again.extend([task] for task in hopeful)
        elif hopeful:
            self._again.append(hopeful)
        if not hopeless and self._in_a_row > DEATHS_IN_A_ROW * self._workers:
            raise PersamError(
                f"workers died {self._in_a_row} times in a row ({cause}): "
                "look for what kills them, such as memory, then resume the run"
            )
        return self.deliver(
            PhotoResult(
                id=task.id,
                error=f"its worker died {DEATHS_OF_A_PHOTO} times, the last time: {cause}",
            )
            for task in hopeless
        )

    def _without_result(self, shard: Sequence[PhotoTask]) -> list[PhotoTask]:
        return [task for task in shard if task.id in self._open]
