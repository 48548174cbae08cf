"""A dataset with all that belongs to it: kept, put back, and looked at as a user sees it."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as odm

from fiftyone_persam.curation.runs.folders import MARK

from .discs import make_photos

PHOTOS = 3


class World:
    """A dataset that can be put back to what it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "world"
        (self.folder / "photos").mkdir(parents=True)
        self.dataset = fo.Dataset(f"kills-{time.monotonic_ns()}", persistent=True)
        self.dataset.add_samples(make_photos(self.folder / "photos", PHOTOS))
        self.masks = Path(fo.config.default_dataset_dir) / self.dataset.slug
        self._places = {self.folder: folder / "kept_world", self.masks: folder / "kept_masks"}
        self._stored: dict[str, tuple[dict[str, Any], list[Any]]] = {}

    def keep(self) -> None:
        """Note what there is, in the database and on the disk."""
        database = odm.get_db_conn()
        identity = self.dataset._doc.id
        of_dataset = {
            "datasets": {"_id": identity},
            self.dataset._sample_collection_name: {},
            "runs": {"_dataset_id": identity},
            "execution_store": {"dataset_id": identity},
            "fs.files": {},
            "fs.chunks": {},
        }
        self._stored = {
            name: (which, list(database[name].find(which))) for name, which in of_dataset.items()
        }
        for place, kept in self._places.items():
            shutil.rmtree(kept, ignore_errors=True)
            if place.exists():
                shutil.copytree(place, kept)

    def put_back(self) -> None:
        """Make it all as it was."""
        database = odm.get_db_conn()
        for name, (which, documents) in self._stored.items():
            database[name].delete_many(which)
            if documents:
                database[name].insert_many(documents)
        for place, kept in self._places.items():
            shutil.rmtree(place, ignore_errors=True)
            if kept.exists():
                shutil.copytree(kept, place)
        self.dataset.reload()

    def picture(self) -> dict[str, Any]:
        """What a user sees of it, without ids, times and names of files; and what is left over."""
        database = odm.get_db_conn()
        identity = self.dataset._doc.id
        document = database.datasets.find_one({"_id": identity})
        runs = {run["_id"]: run for run in database.runs.find({"_dataset_id": identity})}
        files = {one["_id"] for one in database["fs.files"].find({}, {"_id": 1})}
        chunks = set(database["fs.chunks"].distinct("files_id"))
        named: set[str] = set()
        samples = {}
        collection = database[self.dataset._sample_collection_name]
        for sample in collection.find():
            samples[sample["filepath"]] = {
                name: _plain(value, named)
                for name, value in sample.items()
                if name not in ("_id", "last_modified_at", "created_at", "filepath", "_media_type")
                and value is not None
            }
        config = document.get("app_config", {})
        present = [
            path
            for path in self.masks.rglob("*")
            if path.is_file() and path.name != MARK and str(path) not in named
        ]
        exported = self.folder / "out"
        stores = list(database.execution_store.find({"dataset_id": identity}))
        return {
            "fields": sorted(one["name"] for one in document["sample_fields"]),
            "targets": document.get("mask_targets", {}),
            "label schemas": sorted(document.get("label_schemas") or {}),
            "sidebar": [
                [g["name"], sorted(g["paths"])]
                for g in config.get("sidebar_groups") or []
                if g["paths"]
            ],
            "runs": {key: _run(runs.get(i), files) for key, i in document["runs"].items()},
            "evaluations": {
                key: _run(runs.get(i), files) for key, i in document["evaluations"].items()
            },
            "samples": samples,
            "exported": {
                str(path.relative_to(exported)): _hash(path.read_bytes())
                for path in exported.rglob("*")
                if path.is_file() and path.suffix == ".png"
            },
            "reviews": {
                one["key"]: [_without_ids(one["value"])]
                for one in stores
                if one["store_name"] == "fiftyone-persam-review"
            },
            "left": {
                "files": sorted(path.name for path in present),
                "staging": [path.name for path in self.folder.iterdir() if path.name[0] == "."],
                "results": len(files - {run.get("results") for run in database.runs.find()}),
                "chunks": len(chunks - files),
                "runs": len(set(runs) - set(_ids(document))),
                "stores": sorted(
                    f"{one['store_name']}: {one['key']}"
                    for one in stores
                    if one["store_name"] != "fiftyone-persam-review"
                ),
            },
        }

    def close(self) -> None:
        self.dataset.delete()
        shutil.rmtree(self.masks, ignore_errors=True)


def _ids(document: dict[str, Any]) -> list[Any]:
    return [*document["runs"].values(), *document["evaluations"].values()]


def _run(document: dict[str, Any] | None, files: set[Any]) -> dict[str, Any]:
    if document is None:
        return {"gone": True}
    config = {
        name: document["config"].get(name)
        for name in ("state", "parameters", "references", "method", "pred_field", "gt_field")
    }
    return {**config, "key": document["key"], "results": document.get("results") in files}


def _plain(value: Any, named: set[str]) -> Any:
    if isinstance(value, dict):
        found = {}
        for name, inner in value.items():
            if name in ("mask_path", "map_path") and inner:
                named.add(inner)
                path = Path(inner)
                found[name] = _hash(path.read_bytes()) if path.is_file() else "missing"
            elif name != "_id":
                found[name] = _plain(inner, named)
        return found
    if isinstance(value, list):
        return [_plain(one, named) for one in value]
    return _hash(value) if isinstance(value, bytes) else value


def _without_ids(value: Any) -> Any:
    steps = [{k: v for k, v in step.items() if k != "id"} for step in value["undo"]]
    return {**value, "undo": steps}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two pictures differ, a line each.

    Numbers may differ by the rounding of batches of another size, which a resumed run has.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for name in sorted({*one, *other}, key=str):
            found += differences(one.get(name), other.get(name), f"{where}/{Path(str(name)).name}")
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for n, pair in pairs for line in differences(*pair, f"{where}/{n}")]
    same = one == other
    if isinstance(one, float) and isinstance(other, float):
        same = math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-6)
    return [] if same else [f"{where}: {one!r:.120} instead of {other!r:.120}"]
