"""The command line in a process of its own: signals, exit codes, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys

import fiftyone as fo
import pytest

import fiftyone_persam as fp

from .commands import NAME, Call, reference_of, spawn


def test_a_process_of_its_own_prints_no_traceback(photos: fo.Dataset) -> None:
    with spawn("runs", "show", NAME, "nothing") as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 2 and out == ""
    assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err


def test_a_database_that_is_away_is_one_line() -> None:
    nowhere = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"
    with spawn("runs", "list", "x", FIFTYONE_DATABASE_URI=nowhere) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "connect" in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize("on_interrupt", ["SIG_DFL", "SIG_IGN"])  # as shells and job runners start
def test_ctrl_c_leaves_a_run_to_resume(run: Call, photos: fo.Dataset, on_interrupt: str) -> None:
    paths = photos.values("filepath")
    photos.add_samples([fo.Sample(paths[i % 6]) for i in range(90)])
    with spawn(
        *("segment", NAME, "--reference", reference_of(photos, "cat"), "--batch-size", "1"),
        on_interrupt=on_interrupt,
        FIFTYONE_SHOW_PROGRESS_BARS="true",
        PYTHONUNBUFFERED="1",
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        seen = ""
        while "photos/s" not in seen:
            piece = process.stdout.read(1)
            assert piece, process.stderr.read()
            seen += piece
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("stopped") and "Traceback" not in out + err
    made = fp.load_run(photos, "persam")
    assert made.state == "interrupted" and made.counts["remaining"] > 0
    photos.delete_samples(photos.skip(8))  # so that going on takes no time
    code, out, _ = run("runs", "resume", NAME, "persam")
    assert code == 0 and "8 segmented" in out
    assert fp.load_run(photos, "persam").state == "done"


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fiftyone_persam", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.split()[-1] == fp.__version__
