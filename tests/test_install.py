"""Every way to install: what the wheel carries, and that the plugin's operators load afterwards."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = "@fiftyone-persam/persam"
LARGEST_WHEEL = 30_000_000  # bytes

# What FiftyOne finds, in a process that sees this checkout only where an installation leads there.
PROBE = """
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
sys.path[:] = [p for p in sys.path if pathlib.Path(p or ".").resolve() != root]
from fiftyone.operators.registry import OperatorRegistry
registry = OperatorRegistry()
operators = [operator.name for operator in registry.list_operators(builtin=False)]
import fiftyone_persam
print(json.dumps({
    "operators": operators,
    "errors": registry.list_errors(),
    "library": str(pathlib.Path(fiftyone_persam.__file__).resolve().parent),
}))
"""


def run(*words: str | Path, **env: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command outside the checkout; it must succeed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=ROOT.parent,
        env={**os.environ, **{name: str(value) for name, value in env.items()}},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def probe(plugins: Path, *path: Path) -> dict[str, Any]:
    done = run(
        sys.executable, "-c", PROBE, ROOT,
        FIFTYONE_PLUGINS_DIR=plugins, PYTHONPATH=os.pathsep.join(map(str, path)),
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def check(found: dict[str, Any], listed: set[str], library: Path) -> None:
    assert found["errors"] == []
    assert sorted(found["operators"]) == sorted(listed)
    assert found["library"] == str(library.resolve())
    assert (library / "sam/weights/sam_lite.safetensors").is_file()


@pytest.fixture(scope="module")
def listed() -> set[str]:
    """The operators and panels that fiftyone.yml names."""
    definition = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    return {*definition["operators"], *definition["panels"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``make wheel`` builds it, with the build tools that are here."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling, which the extra 'test' installs")
    folder = tmp_path_factory.mktemp("dist")
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, ROOT,
    )  # fmt: skip
    [built] = folder.glob("fiftyone_persam-*-py3-none-any.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed into."""
    folder = tmp_path_factory.mktemp("site")
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
        "--target", folder, wheel,
    )  # fmt: skip
    return folder


def sources(folder: str) -> set[str]:
    """The files of a folder that belong to the project."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_carries_library_plugin_weights_and_outlines(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    plugin = {f"fiftyone_persam/_plugin/{name}" for name in sources("operators")}
    assert names == sources("fiftyone_persam") | plugin | {"fiftyone_persam/_plugin/fiftyone.yml"}
    assert {
        "fiftyone_persam/py.typed",
        "fiftyone_persam/sam/weights/sam_lite.safetensors",
        "fiftyone_persam/sam/weights/README.md",
        "fiftyone_persam/sam/weights/discovery.safetensors",
        "fiftyone_persam/datasets/outlines/cat.png",
        "fiftyone_persam/curation/zoo/model/manifest.json",
        "fiftyone_persam/curation/zoo/dataset/fiftyone.yml",
    } <= names
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_wheel_says_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    needed = {
        Requirement(line).name
        for line in re.findall(r"^Requires-Dist: (.*)$", text, re.MULTILINE)
        if "extra ==" not in line
    }
    # `fiftyone plugins requirements` reads this file; FiftyOne itself is there then.
    lines = (ROOT / "requirements.txt").read_text().split("\n")
    assert needed == {Requirement(line).name for line in lines if line} | {"fiftyone"}
    assert "fiftyone>=1.22" in text.replace(" ", "").replace("(", "").replace("<2,", "")


def test_versions_agree(wheel: Path) -> None:
    import fiftyone_persam

    version = fiftyone_persam.__version__
    assert wheel.name.split("-")[1] == version
    assert yaml.safe_load((ROOT / "fiftyone.yml").read_text())["version"] == version


def test_pip_then_install_plugin(installed: Path, listed: set[str], tmp_path: Path) -> None:
    command = installed / "bin" / "fiftyone-persam"
    run(sys.executable, command, "install-plugin", "--plugins-dir", tmp_path, PYTHONPATH=installed)
    check(probe(tmp_path, installed), listed, installed / "fiftyone_persam")


def test_symlink_to_the_checkout(listed: set[str], tmp_path: Path) -> None:
    (tmp_path / "persam").symlink_to(ROOT, target_is_directory=True)
    check(probe(tmp_path), listed, ROOT / "fiftyone_persam")


def test_plugins_download(listed: set[str], tmp_path: Path, serve: Callable[[Path], str]) -> None:
    """FiftyOne's own command, from an archive such as a code host hands out."""
    web, plugins = tmp_path / "web", tmp_path / "plugins"
    plugins.mkdir()
    top = tmp_path / "archive" / "fiftyone-persam-main"
    for folder in ("fiftyone_persam", "operators"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, top / folder, ignore=skipped)
    for name in ("fiftyone.yml", "requirements.txt", "README.md"):
        shutil.copyfile(ROOT / name, top / name)
    web.mkdir()
    shutil.make_archive(str(web / "persam"), "zip", top.parent)
    fiftyone = Path(sys.executable).with_name("fiftyone")
    url = f"{serve(web)}/persam.zip"
    run(sys.executable, fiftyone, "plugins", "download", url, FIFTYONE_PLUGINS_DIR=plugins)
    check(probe(plugins), listed, plugins.joinpath(*PLUGIN.split("/"), "fiftyone_persam"))


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Serve a folder on this machine until the test ends."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    def start(folder: Path) -> str:
        handler = functools.partial(Handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        request.addfinalizer(server.server_close)
        request.addfinalizer(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    return start
