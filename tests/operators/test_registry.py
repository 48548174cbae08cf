"""The plugin as FiftyOne finds it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .context import PLUGIN, ROOT

PROBE = """
import json, sys
import fiftyone.operators as foo
from fiftyone.operators.registry import OperatorRegistry
registry = OperatorRegistry()
ours = [o for o in registry.list_operators(builtin=False)]
print(json.dumps({
    "operators": [o.uri for o in ours],
    "errors": registry.list_errors(),
    "torch": "torch" in sys.modules,
    "configs": [[o.name, o.config.label, o.config.icon,
                 getattr(o.config, 'help_markdown', None) or o.config.description] for o in ours],
}))
"""


def probe(folder: Path, **env: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(folder), **env},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "persam").symlink_to(ROOT, target_is_directory=True)
    return probe(folder)


def test_it_loads_without_errors(found):
    assert found["errors"] == []


def test_the_yml_and_the_registry_agree(found):
    listed = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    names = {f"{PLUGIN}/{name}" for name in (*listed["operators"], *listed["panels"])}
    assert set(found["operators"]) == names
    assert len(found["operators"]) == len(names)


def test_looking_at_the_operators_does_not_load_torch(found):
    assert not found["torch"]


def test_every_operator_says_what_it_is(found):
    for name, label, icon, description in found["configs"]:
        assert label and label != name, name
        if name not in ("watch_runs", "show_run"):
            assert icon, name
            assert description, name


def test_a_plain_download_works_without_an_installed_library(tmp_path):
    """`fiftyone plugins download` copies the folder; the library comes with it."""
    import shutil

    folder = tmp_path / "plugins" / "copy"
    for part in ("fiftyone.yml", "operators", "fiftyone_persam"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / part)
    assert probe(tmp_path / "plugins", PYTHONPATH="")["errors"] == []


def test_without_torch_the_form_says_what_to_install(tmp_path):
    """The operators stay there when a package is missing: a vanished plugin explains nothing."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "persam").symlink_to(ROOT, target_is_directory=True)
    code = """
import importlib.util, json
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name in ("torch", "segment_anything") else found(name, package))
import fiftyone.operators as foo
from fiftyone.operators.executor import ExecutionContext, ValidationContext
out = {}
for operator in foo.list_operators(builtin=False):
    if operator.name in ("doctor", "watch_runs", "show_run", "review_masks"):
        continue
    ctx = ExecutionContext({"params": {}}, operator_uri=operator.uri)
    form = operator.resolve_type(ctx, "inputs")
    out[operator.name] = [e.reason for e in ValidationContext(ctx, form, operator).errors]
print(json.dumps(out))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(tmp_path / "plugins")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, errors in json.loads(done.stdout.splitlines()[-1]).items():
        assert len(errors) == 1, (name, errors)
        assert "pip install torch segment-anything" in errors[0], name
