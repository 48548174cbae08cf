"""Presence of the photos of a run, compared with one another."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_persam.personalize.comparison import among_others


def test_what_is_far_behind_the_best_loses_presence() -> None:
    alone = np.array([0.999, 0.998, 0.997, 0.6, 0.1])
    found = among_others(alone)
    assert (found <= alone).all()
    assert found[3] < 0.3 < alone[3] and found[4] < alone[4]
    np.testing.assert_array_equal(found[:3], alone[:3])


def test_the_order_stays() -> None:
    alone = np.random.default_rng(0).random(50)
    found = among_others(alone)
    np.testing.assert_array_equal(np.argsort(found), np.argsort(alone))


@pytest.mark.parametrize(
    "alone",
    [
        [],
        [0.4],
        [0.3, 0.2, 0.35],  # the object is in none of them
        [0.8, 0.85, 0.9],
        [0.0, 0.0],
        [1.0, 1.0],
        [np.nan, np.nan],
    ],
)
def test_photos_that_are_much_alike_stay_as_they_are(alone: list[float]) -> None:
    np.testing.assert_array_equal(among_others(alone), alone)


def test_a_photo_without_presence_counts_for_nothing() -> None:
    alone = [0.999, np.nan, 0.6]
    found = among_others(alone)
    assert np.isnan(found[1])
    np.testing.assert_array_equal(found[[0, 2]], among_others([0.999, 0.6]))


def test_numbers_at_the_ends_stay_numbers() -> None:
    found = among_others([1.0, 0.0, 1.0])
    assert np.isfinite(found).all() and found[0] == found[2] == 1.0 and found[1] == 0.0
