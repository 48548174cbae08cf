"""The package's rooms: who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fiftyone_persam as fp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fiftyone_persam"

# Every room, and the rooms below it that it may use. Modules beside them are everybody's.
BELOW = {
    "cli": {"curation", "datasets", "engine", "personalize", "sam", "metrics"},
    "dreambooth": {"datasets", "sam"},
    "curation": {"datasets", "engine", "personalize", "sam", "metrics"},
    "datasets": {"engine", "personalize", "sam", "metrics"},
    "engine": {"personalize", "sam"},
    "personalize": {"sam"},
    "sam": set(),
    "metrics": set(),
}
# The sub-rooms of curation, from the ground up: a file may use those of its own row and of the rows
# before it. Single files stand in the row of their name.
FLOORS = (
    ("fiftyone_api", "checks", "progress", "frame_store", "database", "named_files"),
    ("labels",),
    ("runs",),
    ("review",),
    ("evaluation",),
    ("segmentation",),
    ("handover",),
    ("lifecycle", "adoption"),
    ("forms",),
    ("zoo",),
)
EVERYBODYS = ("errors", "options", "registry", "__version__")
LEGACY = ("perseg_evaluation",)  # a stored path, see there
WITHOUT_FIFTYONE = ("dreambooth", "engine", "personalize", "sam", "metrics")
WITHOUT_TORCH = ("metrics",)

PUBLIC = (
    "PerSAM",
    "PerSAMF",
    "PerSegDataset",
    "PersamError",
    "Reference",
    "TextReference",
    "boundary_iou",
    "delete_run",
    "evaluate",
    "iou",
    "list_methods",
    "list_models",
    "list_runs",
    "load_run",
    "load_sam",
    "segment",
)


def imported(path: Path) -> Iterator[str]:
    """Dotted names of everything a module imports anywhere in it, relative ones made absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def modules(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def test_every_room_is_here() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(BELOW)
    assert all(len(modules(room)) > 1 for room in rooms)


@pytest.mark.parametrize("room", BELOW)
def test_arrows_point_downwards(room: str) -> None:
    allowed = {room, *EVERYBODYS} | BELOW[room]
    for path in modules(room):
        for name in imported(path):
            head, _, rest = name.partition(".")
            assert head != "operators", f"{path.name} imports {name}"
            if head == "fiftyone_persam":
                assert rest.partition(".")[0] in allowed, f"{path.name} imports {name}"


def test_curation_has_floors() -> None:
    """No sub-room uses one above it, so that there is no circle between sub-rooms."""
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    for path in modules("curation"):
        place = path.relative_to(PACKAGE / "curation").with_suffix("").parts[0]
        if place in ("__init__", *LEGACY):
            continue
        for name in imported(path):
            if name.startswith("fiftyone_persam.curation."):
                used = name.split(".")[2]
                assert floor[used] <= floor[place], f"{place}/{path.name} imports {name}"


@pytest.mark.parametrize("room", BELOW)
def test_no_import_circle(room: str) -> None:
    """Modules of a room can be put in an order in which each uses earlier ones only."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules(room)}
    graph = {
        name: {
            used
            for found in imported(path)
            for used in (found, found.rpartition(".")[0])
            if used in names and used != name
        }
        for name, path in names.items()
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("room", "library"),
    [(room, "fiftyone") for room in WITHOUT_FIFTYONE]
    + [(room, "torch") for room in WITHOUT_TORCH]
    + [("sam", "skimage"), ("sam", "sklearn")],
)
def test_what_a_room_does_without(room: str, library: str) -> None:
    for path in modules(room):
        heads = {name.partition(".")[0] for name in imported(path)}
        assert library not in heads, f"{path.name} imports {library}"


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import fiftyone_persam", ["torch", "fiftyone", "numpy"]),
        ("import fiftyone_persam.cli as c; c.build_parser()", ["torch", "fiftyone", "numpy"]),
        ("import fiftyone_persam; dir(fiftyone_persam)", ["torch", "fiftyone"]),
        ("from fiftyone_persam import iou, boundary_iou, accuracy", ["torch", "fiftyone"]),
        ("from fiftyone_persam.personalize import METHODS; list(METHODS)", ["torch", "fiftyone"]),
        ("from fiftyone_persam import PerSAM, PerSAMF, Reference, load_sam", ["fiftyone"]),
        (
            "import fiftyone_persam.dreambooth.__main__ as m; m.build_parser()",
            ["torch", "fiftyone"],
        ),
        ("from fiftyone_persam import segment, PerSAM", ["diffusers", "transformers", "peft"]),
        ("from fiftyone_persam.engine import Job, LocalBackend, MemoryCache", ["fiftyone"]),
    ],
)
def test_what_an_import_loads(statement: str, absent: list[str]) -> None:
    code = f"{statement}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert "fiftyone_persam" in loaded
    assert loaded.isdisjoint(absent)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name: str) -> None:
    assert name in fp.__all__ and name in dir(fp)
    value = getattr(fp, name)
    assert callable(value) and value.__doc__


def test_all_names_can_be_had() -> None:
    assert sorted(set(fp.__all__)) == sorted(fp.__all__)
    for name in fp.__all__:
        assert getattr(fp, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fp.nothing  # noqa: B018


@pytest.mark.parametrize("room", BELOW)
def test_a_room_exports_what_it_says(room: str) -> None:
    module = importlib.import_module(f"fiftyone_persam.{room}")
    assert module.__all__ and all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    "error", ["BadReferenceError", "CheckpointError", "PhotoError", "RunConflictError"]
)
def test_errors_have_one_ancestor(error: str) -> None:
    assert issubclass(getattr(fp, error), fp.PersamError)
    assert issubclass(fp.PersamError, ValueError)
