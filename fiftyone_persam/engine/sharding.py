"""Work shared out among workers that may die: who gets what, what came back, what is left."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from ..errors import PersamError
from .job import PhotoResult, PhotoTask
from .sequences import units

LISTEN_SECONDS = 1.0
"""For so long a back end waits for its workers before whoever listens to it has a say."""
DEATHS_OF_A_PHOTO = 3
"""A photo whose worker died so often is an error of its own: it may be what kills them."""
DEATHS_IN_A_ROW = 4
"""Deaths per worker without any result in between, after which the job fails."""


class Shards:
    """The photos of a job, in shards of ids, each in the hands of one worker at a time.

    Shards are large first and small towards the end, so that all workers end together. What a dead
    worker had not delivered is handed out again; what two workers delivered counts once. A sequence
    is never cut: one worker gets it whole and in order, from its first frame on if it has to be
    handed out again.

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
        self._new = deque(units(tasks))
        self._left = len(tasks)
        self._again: deque[list[PhotoTask]] = deque()
        self._open = {task.id for task in tasks if not task.again}
        self._deaths: Counter[str] = Counter()  # by the id of a unit's first task
        self._in_a_row = 0

    @property
    def finished(self) -> bool:
        """Whether every photo has its result."""
        return not self._open

    def take(self) -> list[PhotoTask]:
        """The next shard; empty if everything left is in somebody's hands."""
        while self._again:
            if shard := _tasks(self._unfinished(self._again.popleft())):
                return shard
        share = -(-self._left // (2 * self._workers))
        size = min(self._largest, max(self._smallest, share))
        shard = []
        while self._new and (not shard or len(shard) + len(self._new[0]) <= size):
            shard += self._new.popleft()
        self._left -= len(shard)
        return shard

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
        left = self._unfinished(shard)
        self._deaths.update(unit[0].id for unit in left)
        hopeless = [unit for unit in left if self._deaths[unit[0].id] >= DEATHS_OF_A_PHOTO]
        hopeful = [unit for unit in left if self._deaths[unit[0].id] < DEATHS_OF_A_PHOTO]
        if any(self._deaths[unit[0].id] > 1 for unit in hopeful):
            self._again.extend(hopeful)
        elif hopeful:
            self._again.append(_tasks(hopeful))
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
            for task in _tasks(hopeless)
            if not task.again
        )

    def _unfinished(self, shard: Sequence[PhotoTask]) -> list[list[PhotoTask]]:
        """Photos without a result, and sequences that lack one, whole: their state is lost."""
        return [unit for unit in units(shard) if any(task.id in self._open for task in unit)]


def _tasks(several: Iterable[list[PhotoTask]]) -> list[PhotoTask]:
    return [task for unit in several for task in unit]
