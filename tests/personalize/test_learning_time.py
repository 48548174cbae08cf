"""How long a method says that it learns."""

from __future__ import annotations

import pytest

from fiftyone_persam.personalize import METHODS
from fiftyone_persam.personalize.method import Effort
from fiftyone_persam.personalize.tuning.timing import LearningTime, learning_time
from tests.toys import registered

TUNED = ("prompt_tuning", "adapter", "lora", "ssprompt")


@pytest.mark.parametrize(
    ("seconds", "photos", "text"),
    [
        (0.0, 0, "learns at once"),
        (0.4, 0, "learns in under a second"),
        (0.4, 4, "learns in about 1 s and 4 more photos"),
        (7.6, 4, "learns in about 8 s and 4 more photos"),
        (70.0, 0, "learns in about 70 s"),
    ],
)
def test_in_words(seconds: float, photos: int, text: str) -> None:
    assert str(LearningTime(seconds, photos)) == text


def test_more_steps_take_longer() -> None:
    times = {name: learning_time(name) for name in METHODS}
    assert None not in times.values()  # each of ours says what it does
    known = {name: time.seconds for name, time in times.items() if time is not None}
    assert known["persam"] == 0 < known["persam_f"]
    assert {*TUNED, "mask_weights_3"} <= set(known)
    assert all(known[name] > known["mask_weights_3"] for name in TUNED)
    assert METHODS["lora"].effort() == Effort(steps=100, passes=84, photos=4)


def test_nobody_has_said() -> None:
    with registered():
        assert learning_time("toy") is None
    assert learning_time("lora", "no such model") is None


def test_larger_models_learn_longer() -> None:
    """Without reading their checkpoints, which are not here."""
    small, large = learning_time("persam_f"), learning_time("persam_f", "sam_vit_h")
    assert small is not None and large is not None and large.seconds > small.seconds
