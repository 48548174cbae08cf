from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from fiftyone_persam.engine.loading import load_ahead


def test_order_is_kept_and_one_bad_item_costs_itself() -> None:
    def load(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number * 10

    outcomes = list(load_ahead(range(6), load, workers=3, ahead=4))
    assert [item for item, _ in outcomes] == list(range(6))
    assert isinstance(outcomes[3][1], ValueError)
    assert [value for _, value in outcomes if not isinstance(value, Exception)] == [
        0,
        10,
        20,
        40,
        50,
    ]


@pytest.mark.parametrize("ahead", [1, 4])
def test_no_more_is_taken_than_may_wait(ahead: int) -> None:
    taken = []

    def endless() -> Iterator[int]:
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    loader = load_ahead(endless(), lambda number: number, workers=2, ahead=ahead)
    for _ in range(5):
        next(loader)
    assert len(taken) <= 5 + ahead
    loader.close()  # ends, although there is always more


def test_closing_waits_for_its_threads() -> None:
    before = threading.active_count()
    loader = load_ahead(range(100), lambda number: number, workers=4, ahead=8)
    next(loader)
    loader.close()
    assert threading.active_count() == before
