from __future__ import annotations

import pytest

from fiftyone_persam.engine import PhotoResult, PhotoTask
from fiftyone_persam.engine.sharding import DEATHS_IN_A_ROW, DEATHS_OF_A_PHOTO, Shards
from fiftyone_persam.errors import PersamError


def tasks(count: int) -> list[PhotoTask]:
    return [PhotoTask(f"p{number}", f"{number}.jpg") for number in range(count)]


def results(shard: list[PhotoTask]) -> list[PhotoResult]:
    return [PhotoResult(task.id) for task in shard]


@pytest.mark.parametrize(
    ("count", "workers", "smallest", "largest"),
    [(0, 1, 1, 1), (1, 4, 8, 8), (100, 2, 4, 16), (1000, 8, 1, 1000), (7, 3, 0, 0)],
)
def test_every_photo_is_handed_out_once(
    count: int, workers: int, smallest: int, largest: int
) -> None:
    shards = Shards(tasks(count), workers, smallest, largest)
    sizes, seen = [], []
    while shard := shards.take():
        sizes.append(len(shard))
        seen += shards.deliver(results(shard))
    assert [result.id for result in seen] == [task.id for task in tasks(count)]
    assert shards.finished
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= max(1, largest, smallest) for size in sizes)
    assert all(size >= smallest for size in sizes[:-1])


def test_results_count_once() -> None:
    shards = Shards(tasks(3), 1, 3, 3)
    shard = shards.take()
    assert len(shards.deliver(results(shard[:2]))) == 2
    assert [result.id for result in shards.deliver(results(shard))] == ["p2"]
    assert shards.deliver(results(shard)) == []


def test_a_dead_worker_s_photos_are_handed_out_again() -> None:
    shards = Shards(tasks(6), 2, 3, 3)
    first, second = shards.take(), shards.take()
    shards.deliver(results(first[:1]))
    assert shards.give_back(first, "SIGKILL") == []
    assert shards.take() == first[1:]
    assert not shards.finished and shards.take() == []
    # The same photos again: one by one from now on.
    shards.deliver(results(second))
    assert shards.give_back(first[1:], "SIGKILL") == []
    assert [shards.take(), shards.take()] == [[first[1]], [first[2]]]


def test_a_photo_that_kills_workers_is_an_error() -> None:
    shards = Shards(tasks(8), 1, 8, 8)
    deadly = "p5"
    errors = []
    while not shards.finished:
        shard = shards.take()
        ids = [task.id for task in shard]
        survived = ids.index(deadly) if deadly in ids else len(ids)
        shards.deliver(results(shard[:survived]))
        if survived < len(ids):
            errors += shards.give_back(shard, "SIGSEGV")
    assert [(one.id, one.error) for one in errors] == [
        (deadly, f"its worker died {DEATHS_OF_A_PHOTO} times, the last time: SIGSEGV")
    ]


def test_workers_that_die_before_they_work_end_the_job() -> None:
    shards = Shards(tasks(8), 2, 1, 1)
    for _ in range(2 * DEATHS_IN_A_ROW):
        shards.give_back([], "exit code 1")
    with pytest.raises(PersamError, match=r"died 9 times in a row \(exit code 1\): .*resume"):
        shards.give_back([], "exit code 1")
