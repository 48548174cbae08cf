"""Processes killed in the middle: a sample of what `python -m tests.curation.kills` tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from .kills import kill_everywhere


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["rename", "delete", "evaluate anew", "threshold"])
def test_what_is_killed_is_finished_or_has_not_begun(operation: str, tmp_path: Path) -> None:
    report = kill_everywhere(operation, tmp_path, every=13, first=4)
    assert report.tried and report.faults == {}
