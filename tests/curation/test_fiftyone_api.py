"""FiftyOne's private API: used in one folder, and all there in the release that is installed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_persam.curation import fiftyone_api
from fiftyone_persam.curation.fiftyone_api.compatibility import USED

from .discs import Make, make_photos

ROOT = Path(__file__).parents[2]
ADAPTER = ROOT / "fiftyone_persam" / "curation" / "fiftyone_api"
ROOMS = ("fiftyone_persam/curation", "fiftyone_persam/datasets", "fiftyone_persam/cli", "operators")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(path: Path) -> Iterator[str]:
    """Private attributes of others, and private names from FiftyOne, in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value.func if isinstance(node.value, ast.Call) else node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls", "super")):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fiftyone."):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield str(name.value)


@pytest.mark.parametrize("room", ROOMS)
def test_only_the_adapter_touches_private_attributes(room: str) -> None:
    found = {
        path.relative_to(ROOT).as_posix(): sorted(set(private_uses(path)))
        for path in (ROOT / room).rglob("*.py")
        if ADAPTER not in path.parents
    }
    assert {path: names for path, names in found.items() if names} == {}, (
        "give each a function in fiftyone_api"
    )


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 1))


def test_this_release_of_fiftyone_has_everything(photos: fo.Dataset) -> None:
    assert fiftyone_api.missing(photos) == [], "\n".join(fiftyone_api.missing(photos))


@pytest.mark.parametrize("name", ["_bulk_write", "_is_patches", "_merge_sample_field_schema"])
def test_a_release_that_lacks_something(
    photos: fo.Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in fo.Dataset.__mro__:
        if name in vars(kind):
            monkeypatch.delattr(kind, name)
    lines = fiftyone_api.missing(photos)
    assert lines and all(f"FiftyOne {fo.__version__} has no {name} on a" in line for line in lines)
    assert "by which" in lines[0] and "fiftyone_api" in lines[0]


def test_the_list_is_what_is_used() -> None:
    listed = {name for names in USED.values() for name in names}
    # A class is looked at, not had: `issubclass` needs it beside the attribute.
    assert {name for path in ADAPTER.glob("*.py") for name in private_uses(path)} - {
        "_HasMedia"
    } | {"_from_dict"} == listed


def test_each_use_says_when_it_was_seen() -> None:
    """A comment names the version of FiftyOne, for every function that needs a private name."""
    for text in (path.read_text(encoding="utf-8") for path in ADAPTER.glob("*.py")):
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name != "missing":
                body = ast.get_source_segment(text, node) or ""
                if re.search(r"\._[a-z]|\bodm\.", body):
                    assert re.search(r"# \d+\.\d+\.\d+: ", body), node.name


def test_each_function_does_what_it_says(photos: fo.Dataset) -> None:
    api, sample = fiftyone_api, photos.first()
    assert api.dataset_name(str(api.dataset_id(photos))) == photos.name
    assert api.dataset_name("0" * 24) is None
    sample["boxes"] = fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])])
    sample.save()
    patches, view = photos.to_patches("boxes"), photos.limit(1)
    assert api.root_dataset(patches) is api.root_dataset(view) is photos
    assert api.own_dataset(patches) is not photos and api.own_dataset(view) is photos
    assert api.is_patches(patches) and not api.is_patches(view)
    assert api.photo_of_patch(patches.first()).id == sample.id
    assert api.dataset_of_sample(sample) is api.dataset_of_sample(view.first()) is photos
    assert not api.is_frames(view)
    assert api.is_dynamic_groups(photos.group_by("filepath"))
    assert not api.is_dynamic_groups(view) and not api.is_dynamic_groups(photos)
    assert api.serialized_view(view)[0]["_cls"].endswith("Limit")
    api.merge_schema(photos, {"a": api.new_field("a", fo.IntField, description="A")})
    assert photos.get_field("a").description == "A" and "a" in api.loaded_fields(photos)
    assert api.run_documents(photos, "runs") == {}
    assert api.stored_document(photos, ["name"])["name"] == photos.name
