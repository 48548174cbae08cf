"""Choosing a model in a form: what is wrong with a choice before anything is loaded."""

from __future__ import annotations

from ...errors import problem_of
from ...sam.features import check_features


def problem_with_features(given: str | None) -> str | None:
    """What keeps a second backbone from finding the object, in one line, or None.

    Its weights are fetched when the run begins.
    """
    return problem_of(check_features, given)
