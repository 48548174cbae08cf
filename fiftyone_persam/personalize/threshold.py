"""The one place that compares presence with a threshold. Imports nothing heavy.

Everybody who has to know whether an object counts as absent asks `is_absent`: the methods, the
engine that writes masks, and whoever counts or reviews results. So they cannot disagree.
"""

from __future__ import annotations

from typing import Any


def is_absent(presence: Any, threshold: Any) -> Any:
    """Whether an object of this presence counts as absent at this threshold.

    Args:
        presence: 0 to 1: a number, an array, or an expression of a database that compares as
            numbers do; None where a photo has none, as after an error.
        threshold: 0 to 1; None or 0 turns the test off.

    Returns:
        A bool; for an array or an expression, one of the same kind.
    """
    if presence is None:
        return False
    return presence < (0.0 if threshold is None else threshold)
