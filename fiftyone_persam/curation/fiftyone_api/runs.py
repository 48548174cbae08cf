"""Runs and evaluations as the database stores them, and their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import fiftyone.core.odm as odm
from bson import DBRef, ObjectId, json_util
from gridfs import GridFS

from .documents import reload_document, stored_document
from .views import dataset_id


def mend_runs(dataset: Any) -> None:
    """Drop the names of runs and evaluations that are gone, as after a deletion cut off."""
    # 1.22.1: `_doc.runs`, `_doc.evaluations`, `fiftyone.core.odm.patch_runs` and
    # `patch_evaluations`. Without them every list logs a warning until somebody mends it by hand.
    for documents, patch in (
        (dataset._doc.runs, odm.patch_runs),
        (dataset._doc.evaluations, odm.patch_evaluations),
    ):
        if any(isinstance(document, DBRef) for document in documents.values()):
            patch(dataset.name)
            reload_document(dataset)


def stored_runs(chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs of all datasets as they are stored, that a query chooses."""
    # 1.22.1: the collection `runs`. Without it every dataset must be loaded to find a run.
    return list(odm.get_db_conn().runs.find(dict(chosen)))


def drop_unlisted_runs(dataset: Any, key: str) -> None:
    """Drop runs and evaluations of this name that were stored, but never became the dataset's."""
    # 1.22.1: the collection `runs`. Without it a process that dies in `register_run` leaves one
    # that nobody sees.
    stored = stored_document(dataset, ("runs", "evaluations"))
    listed = [*stored.get("runs", {}).values(), *stored.get("evaluations", {}).values()]
    chosen = {"_dataset_id": dataset_id(dataset), "key": key, "_id": {"$nin": listed}}
    odm.get_db_conn().runs.delete_many(chosen)


def run_documents(dataset: Any, kind: str) -> dict[str, Any]:
    """Key -> the database's id, of a dataset's "runs" or "evaluations" as they are loaded."""
    # 1.22.1: `_doc.runs` and `_doc.evaluations`. Without them every look at a dataset
    # loads it anew.
    present = getattr(dataset._doc, kind)
    return {key: getattr(document, "id", None) for key, document in present.items()}


def put_results(results: Any, identity: ObjectId) -> None:
    """Store results of a run or evaluation under an id of one's own; they are nobody's yet.

    FiftyOne chooses the id itself, and removes the old results before it writes the new ones: a
    process that dies in between leaves results of nobody, or a run without results.
    """
    # 1.22.1: results are JSON in GridFS, as `save_run_results` writes them.
    content = json_util.dumps(results.serialize()).encode()
    meta = {"results_meta": dict(results.get_meta() or {})}
    files = _result_files()
    files.delete(identity)  # what an attempt before this one has left
    files.put(content, _id=identity, content_type="application/json", metadata=meta)


def results_id(dataset: Any, kind: str, key: str) -> ObjectId | None:
    """The id of the stored results of one of a dataset's "runs" or "evaluations", if there are."""
    # 1.22.1: `_doc.runs[...].results`, a file in GridFS. Without it results are replaced in steps
    # between which a crash loses them.
    document = getattr(dataset._doc, kind).get(key)
    found: ObjectId | None = None if document is None else document.results.grid_id
    return found


def has_results(dataset: Any, kind: str, key: str) -> bool:
    """Whether the results of a run or evaluation are there; its record may have outlived them."""
    identity = results_id(dataset, kind, key)
    return identity is not None and bool(_result_files().exists(identity))


def use_results(
    dataset: Any, kind: str, key: str, identity: ObjectId, earlier: ObjectId | None
) -> bool:
    """Make stored results those of a run or evaluation, and remove earlier ones; can be repeated.

    Returns:
        False if they are not there as a whole; what there is of them is gone then.
    """
    # 1.22.1: as `results_id`; `results_meta` is what `save_run_results` puts beside them.
    document, files = getattr(dataset._doc, kind).get(key), _result_files()
    if document is None or not files.exists(identity):
        files.delete(identity)
        return False
    if document.results.grid_id != identity:
        values = {"results": identity, **(files.get(identity).metadata or {})}
        odm.get_db_conn().runs.update_one({"_id": document.id}, {"$set": values})
        reload_document(dataset)
    if earlier is not None and earlier != identity:
        files.delete(earlier)
    return True


def delete_results(identities: Iterable[ObjectId | None]) -> None:
    """Remove stored results, or what a process that died has left of them."""
    files = _result_files()
    for identity in identities:
        if identity is not None:
            files.delete(identity)


def _result_files() -> Any:
    # 1.22.1: `fiftyone.core.odm.get_db_conn`, which is not documented.
    return GridFS(odm.get_db_conn())


def forget_cached_evaluation(dataset: Any, key: str) -> None:
    """Have an evaluation's results loaded anew: those in memory keep the config they came with."""
    # 1.22.1: `_evaluation_cache`. Without it an evaluation of a renamed run names the old field.
    dataset._evaluation_cache.pop(key, None)
