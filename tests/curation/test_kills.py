"""Processes killed in the middle: a sample of what `python -m tests.curation.kills` tries.

Two points of each operation, other ones every day: in a few weeks all of them are tried.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from .kills import OPERATIONS, kill_everywhere

POINTS = 2


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_killed_is_finished_or_has_not_begun(operation: str, tmp_path: Path) -> None:
    today = datetime.date.today().toordinal()
    report = kill_everywhere(operation, tmp_path, first=today, most=POINTS)
    assert len(report.tried) == POINTS and report.faults == {}
