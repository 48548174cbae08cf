"""Choosing a model in a form: what is wrong with a choice before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import problem_of
from ...sam.features import check_features


def problem_with_features(given: str | None) -> str | None:
    """What keeps a second backbone from finding the object, in one line, or None.

    Its weights are fetched when the run begins.
    """
    return problem_of(check_features, given)


def problem_with_options(method: str, options: Mapping[str, Any]) -> str | None:
    """What keeps options of a method from being had together, in one line, or None."""
    from ...personalize.cascade_settings import check_together
    from ...personalize.registries import method_info

    if "mode" not in {option.name for option in method_info(method).options}:
        return None
    return problem_of(lambda: check_together(**options))
