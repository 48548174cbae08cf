"""What the command line says of this machine: its version, models, database and plugin."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fiftyone_persam as fp
from fiftyone_persam.cli.main import main

from .commands import Call


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"fiftyone-persam {fp.__version__}\n"


def test_models(run: Call) -> None:
    code, out, _ = run("models", "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and [row[0] for row in rows] == [model.name for model in fp.list_models()]
    assert "here bundled" in " ".join(rows[0])
    assert all(row[-1] == "(Apache-2.0)" for row in rows)
    assert run("models", "verify")[:2] == (0, "sam_lite: ok\n")
    code, out, err = run("models", "verify", "sam_lite", "sam_vit_b")
    assert (code, out) == (1, "sam_lite: ok\n")
    assert err.startswith("sam_vit_b: ") and err.count("\n") == 1


def test_a_damaged_checkpoint_is_found(run: Call) -> None:
    (model,) = [model for model in fp.list_models() if model.name == "mobile_sam"]
    assert model.path is not None
    Path(model.path).parent.mkdir(parents=True, exist_ok=True)
    Path(model.path).write_bytes(b"not the file")
    try:
        code, out, err = run("models", "verify")
    finally:
        Path(model.path).unlink()
    assert (code, out) == (1, "sam_lite: ok\n") and "mobile_sam" in err


def test_doctor(run: Call) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    for expected in (r"torch +ok: \d", r"database +ok: MongoDB", r"model sam_lite +ok: "):
        assert re.search(expected, out, re.MULTILINE)


def test_the_plugin_that_is_installed_is_found(run: Call, tmp_path: Path) -> None:
    code, out, _ = run("install-plugin", "--plugins-dir", tmp_path)
    assert code == 0 and "@fiftyone-persam/persam is in" in out
    script = (
        "import json, fiftyone.plugins as fop, fiftyone.operators as foo;"
        "print(json.dumps([[p.name for p in fop.list_plugins(builtin=False)],"
        "[o.uri for o in foo.list_operators(builtin=False)]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(tmp_path)},
        cwd=tmp_path,  # not the checkout: the plugin has to find the library by itself
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    plugins, operators = json.loads(done.stdout.splitlines()[-1])
    assert plugins == ["@fiftyone-persam/persam"]
    assert "@fiftyone-persam/persam/segment_from_reference" in operators
