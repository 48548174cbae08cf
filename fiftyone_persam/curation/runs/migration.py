"""What earlier versions of this package have stored, brought up to date while it is read.

Nothing is rewritten by reading: a dataset may be open in an earlier version at the same time. What
is written anew is written as the present version does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import PersamError

VERSION = 1
"""Of the record. 0: plain values without a version; 1: with it, and each value always there."""

_COMPARISON = re.compile(r"IoU between the masks of runs '(\w+)' and '(\w+)'")


def migrate(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a run's config as `VERSION` has them.

    Args:
        values: as they are stored.
        name: the run's name, for messages.

    Raises:
        PersamError: a later version of this package has written them.
    """
    version = values.get("record_version", 0)
    if version > VERSION:
        raise PersamError(
            f"run {name!r} was recorded by a later version of fiftyone-persam (record version "
            f"{version}, this one reads up to {VERSION}): upgrade fiftyone-persam"
        )
    changed = dict(values)
    if version < 1:
        # These values came one by one; runs without them had no such thing to tell.
        missing: dict[str, Any] = {
            "earlier": [],
            "parameters": {},
            "references": [],
            "reason": "",
            "backend": "local",
            "weights_sha256": None,
        }
        changed = {**missing, **changed}
        changed["parameters"] = changed["parameters"] or {}
    return changed


def comparison_in(description: str | None) -> tuple[str, str] | None:
    """The two runs that a field compares, which its description was the only one to tell."""
    match = _COMPARISON.fullmatch(description or "")
    return None if match is None else (match[1], match[2])
