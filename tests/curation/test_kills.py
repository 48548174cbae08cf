"""Processes killed in the middle: a sample of what `python -m tests.curation.kills` tries.

Two points of each operation, spread over it; with PERSAM_KILLS=2, 3, ... in the environment other
ones, so that one test run after the other tries all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .kill_operations import OPERATIONS
from .kills import kill_everywhere

POINTS = 2


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_killed_is_finished_or_has_not_begun(operation: str, tmp_path: Path) -> None:
    first = int(os.environ.get("PERSAM_KILLS", "1"))
    report = kill_everywhere(operation, tmp_path, first=first, most=POINTS)
    assert len(report.tried) == POINTS and report.faults == {}
