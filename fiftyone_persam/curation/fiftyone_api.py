"""FiftyOne's private API, as far as this package needs it: nobody else touches it.

Each use is one function. Its comment names the version of FiftyOne in which it was last seen, and
what breaks without it. `missing` tells which of them a release of FiftyOne lacks.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import bson
import fiftyone as fo
import fiftyone.core.odm as odm
from bson import DBRef, Int64, ObjectId, json_util
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS
from fiftyone.core.evaluation import EvaluationResults
from gridfs import GridFS

LARGEST_BATCH = 1_000_000
"""Documents that the database may send at once; it sends 16 MB at most."""

# Whose attribute -> which, and what it is for. `missing` looks for them.
USED: dict[str, dict[str, str]] = {
    "dataset": {
        "_doc": "datasets are told apart, runs read and their results replaced",
        "_root_dataset": "the dataset behind a view is found",
        "_dataset": "a deleted dataset is recognised",
        "_is_patches": "patches are told from photos",
        "_is_frames": "frames are told from photos",
        "_is_dynamic_groups": "photos that are only grouped for looking at them are recognised",
        "_reload": "what other processes did to a dataset is seen",
        "_merge_sample_field_schema": "all fields of a run are declared at once",
        "_bulk_write": "all fields of many photos are written at once",
        "_sample_collection": "decisions are awaited on the database's disk, runs have an index",
        "_pipeline": "photos of a run are counted in the database",
        "_sample_collection_name": "decisions are awaited on the database's disk",
        "_rename_sidebar_group": "an evaluation takes the place of an earlier one",
        "_evaluation_cache": "evaluations are renamed",
        "_delete_empty_sidebar_group": "a deleted evaluation leaves the App's sidebar",
        "_frame_collection": "results of videos are read, frame by frame",
        "_merge_frame_field_schema": "all fields of a run over videos are declared at once",
    },
    "view": {
        "_root_dataset": "the dataset behind a view is found",
        "_dataset": "the dataset that FiftyOne has made for a view is found",
        "_is_patches": "patches are told from photos",
        "_is_frames": "frames are told from photos",
        "_is_clips": "clips are told from photos",
        "_stages": "photos of a view that leaves fields out are found with all their fields",
        "_is_dynamic_groups": "photos that are only grouped for looking at them are recognised",
        "_pipeline": "photos of a run are counted in the database",
        "_get_media_fields": "files that an export would copy are looked at first",
        "_serialize": "an operator that is called from Python gets the caller's view",
    },
    "sample view": {"_view": "the photo behind a patch is found"},
    "Sample": {"_reload_docs": "samples in memory see the decisions about them"},
    "EvaluationResults": {"_from_dict": "an evaluation's numbers per object are loaded"},
}


def missing(dataset: Any) -> list[str]:
    """What this release of FiftyOne lacks of what this package uses, a line each.

    Args:
        dataset: any dataset with at least one sample; it is not changed.
    """
    view = dataset.view()
    owners = {
        "dataset": dataset,
        "view": view,
        "sample view": view.first(),
        "Sample": fo.Sample,
        "EvaluationResults": EvaluationResults,
    }
    return [
        f"FiftyOne {fo.__version__} has no {name} on a {owner}, by which {purpose}: "
        f"find what has taken its place, and change {__name__}"
        for owner, names in USED.items()
        for name, purpose in names.items()
        if not hasattr(owners[owner], name)
    ]


# Datasets, views and samples ----------------------------------------------------------------------


def dataset_id(dataset: Any) -> ObjectId:
    """A dataset's id, which stays when it is renamed."""
    # 1.22.1: `_doc`. Without it a renamed dataset is another one: its references, review and lease
    # are not found.
    found: ObjectId = dataset._doc.id
    return found


def root_dataset(samples: Any) -> Any:
    """The dataset behind a view, of a view of patches too; a dataset itself."""
    # 1.22.1: `_root_dataset`. Without it nothing that takes a view knows where to write.
    return samples._root_dataset


def own_dataset(samples: Any) -> Any:
    """The dataset that holds the samples: for patches and frames one that FiftyOne has made."""
    # 1.22.1: `_dataset`. Without it a view of a deleted dataset fails in the middle of the work.
    return samples if isinstance(samples, fo.Dataset) else samples._dataset


def dataset_of_sample(sample: Any) -> Any:
    """The dataset that a sample is of; of a patch, the dataset that FiftyOne has made for it."""
    return root_dataset(sample.dataset)


def photo_of_patch(patch: Any) -> Any:
    """The sample that a patch was cut out of."""
    # 1.22.1: `_view`. Without it a patch that was chosen in the App cannot be a reference.
    return root_dataset(patch._view)[patch.sample_id]


def is_patches(samples: Any) -> bool:
    """Whether this is a view of patches."""
    # 1.22.1: `_is_patches`. Without it patches are taken for photos.
    return bool(samples._is_patches)


def is_frames(samples: Any) -> bool:
    """Whether this is a view of a video's frames."""
    # 1.22.1: `_is_frames`. Without it frames are taken for photos.
    return bool(samples._is_frames)


def is_clips(samples: Any) -> bool:
    """Whether this is a view of parts of videos."""
    # 1.22.1: `_is_clips`. Without it a message cannot say how photos are made of them.
    return bool(samples._is_clips)


def stages_of(view: Any) -> list[Any]:
    """What a view does, step by step."""
    # 1.22.1: `_stages`. Without it a view that leaves fields out hides results and ground truth.
    return list(view._stages)


def is_dynamic_groups(samples: Any) -> bool:
    """Whether photos are grouped by a field, which makes no slices."""
    # 1.22.1: `_is_dynamic_groups`. Without it such a view is taken for one of slices and refused.
    return bool(samples._is_dynamic_groups)


def serialized_view(samples: Any) -> Any:
    """A view as operators get it from the App."""
    # 1.22.1: `_serialize`. Without it an operator that is called from Python works on all photos.
    return samples.view()._serialize()


# Schemas and values -------------------------------------------------------------------------------


def reload_document(dataset: Any) -> None:
    """See what other processes have changed in a dataset, its fields excepted."""
    # 1.22.1: `_reload`. Without it `reload` is left, after which views fail that were looked
    # through before.
    dataset._reload()


def loaded_fields(dataset: Any) -> set[str]:
    """The names of the fields in a dataset's document as it was loaded last, private ones too."""
    # 1.22.1: `_doc.sample_fields`, `_doc.frame_fields`. Without them fields that another process
    # has made are not seen.
    return {field.name for field in getattr(dataset._doc, fields_list(dataset)) or []}


def fields_list(dataset: Any) -> str:
    """The part of a dataset's document that lists the fields which runs write."""
    return str(getattr(dataset, "fields_list", "sample_fields"))


def merge_schema(dataset: Any, fields: Mapping[str, Any]) -> None:
    """Add fields to a dataset's schema, all in one.

    Args:
        dataset: the dataset.
        fields: by name; see `new_field`.
    """
    # 1.22.1: `_merge_sample_field_schema`. Without it `add_sample_field` is left, which saves and
    # loads the schema for each field: a run's beginning takes ten times as long.
    dataset._merge_sample_field_schema(dict(fields))


def merge_frame_schema(dataset: Any, fields: Mapping[str, Any]) -> None:
    """Like `merge_schema`, for fields of the frames of a video dataset."""
    # 1.22.1: `_merge_frame_field_schema`; as there.
    dataset._merge_frame_field_schema(dict(fields))


def media_files(view: Any) -> dict[str, list[str]]:
    """Sample id -> the files that its labels and fields name, which an export copies."""
    # 1.22.1: the names of fields of media, as `FiftyOneDataset` exports them.
    fields = view._get_media_fields(blacklist=("filepath", "media_reference"))
    found: dict[str, list[str]] = {}
    for name, key in fields.items():
        rows = zip(*view.values(["id", name if key is None else f"{name}.{key}"]), strict=True)
        for sample_id, value in rows:
            paths = value if isinstance(value, list) else [value]
            found.setdefault(sample_id, []).extend(path for path in paths if path)
    return found


def new_field(name: str, kind: type, **options: Any) -> Any:
    """A field for `merge_schema`; options as of `Dataset.add_sample_field`."""
    # 1.22.1: `fiftyone.core.odm.create_field`, which is not documented.
    return odm.create_field(name, kind, **options)


def bulk_write(
    dataset: Any, operations: Sequence[Any], ids: Iterable[str], concern: Any = None
) -> None:
    """Carry out operations of `pymongo` on samples, those in memory too.

    Args:
        dataset: the samples' dataset.
        operations: what to do.
        ids: the samples that are changed.
        concern: when they count as done, a `pymongo.WriteConcern`; FiftyOne's own if None.
    """
    # 1.22.1: `_bulk_write`. Without it `set_values` is left, which costs a request per field, and
    # a process that dies in between leaves photos that are half written. `_sample_collection` and
    # `Sample._reload_docs` are what it is made of: FiftyOne lets nobody choose the write concern.
    if concern is None:
        dataset._bulk_write(list(operations), ids=list(ids))
        return
    samples = dataset._sample_collection.with_options(write_concern=concern)
    samples.bulk_write(list(operations), ordered=False)
    if fields_list(dataset) == "frame_fields":
        fo.Frame._reload_docs(dataset._sample_collection_name, frame_ids=list(ids))
        return
    fo.Sample._reload_docs(dataset._sample_collection_name, sample_ids=list(ids))


def bulk_write_frames(dataset: Any, operations: Sequence[Any], ids: Iterable[str]) -> None:
    """Carry out operations of `pymongo` on frames of a video dataset, those in memory too."""
    # 1.22.1: `_bulk_write` with ``frames=True``; as `bulk_write`.
    dataset._bulk_write(list(operations), ids=list(ids), frames=True)


def sample_collection(dataset: Any) -> Any:
    """The database's collection of a dataset's samples, for questions that views cannot ask."""
    # 1.22.1: `_sample_collection`. Without it runs have no index.
    return dataset._sample_collection


def frame_collection(dataset: Any) -> Any:
    """The database's collection of a video dataset's frames."""
    # 1.22.1: `_frame_collection`. Without it a run over videos cannot be counted, nor gone on with.
    return dataset._frame_collection


def aggregate(samples: Any, stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents that the database makes of a dataset's or view's samples.

    Args:
        samples: a dataset or view.
        stages: of an aggregation, after those of the view.
    """
    # 1.22.1: `_pipeline` and `_sample_collection`. Without them counts and columns of a large run
    # are read through `values`, value by value: seconds instead of milliseconds.
    collection = samples._dataset._sample_collection
    return list(collection.aggregate([*samples._pipeline(), *stages], allowDiskUse=True))


def aggregate_raw(samples: Any, stages: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """Like `aggregate`, but arrays of documents in BSON, as the database sends them.

    The driver's own raw batches make an object of each document before they join them again, which
    takes three times as long as the database does.
    """
    # 1.22.1: as `aggregate`.
    collection = samples._dataset._sample_collection
    database = collection.database
    ask = functools.partial(database.command, codec_options=DEFAULT_RAW_BSON_OPTIONS)
    command = {
        "aggregate": collection.name,
        "pipeline": [*samples._pipeline(), *stages],
        "cursor": {"batchSize": LARGEST_BATCH},
        "allowDiskUse": True,
    }
    with database.client.start_session() as session:
        array, cursor = _batch(ask(command, session=session), b"firstBatch")
        yield array
        while cursor:
            more = {"getMore": Int64(cursor), "collection": collection.name}
            array, cursor = _batch(ask(more, session=session), b"nextBatch")
            yield array


def _batch(reply: Any, name: bytes) -> tuple[bytes, int]:
    """The array of documents in a reply, and the cursor's id, 0 at its end."""
    raw = reply["cursor"].raw
    head = b"\x04" + name + b"\0"
    before = raw.index(head)
    start = before + len(head)
    end = start + int.from_bytes(raw[start : start + 4], "little")
    rest = raw[4:before] + raw[end:]
    return raw[start:end], int(bson.decode(struct.pack("<i", len(rest) + 4) + rest)["id"])


def stored_document(dataset: Any, names: Sequence[str]) -> dict[str, Any]:
    """Some values of a dataset's own document, as the database has them now; {} if it is gone."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn`, which is not documented. Without it a dataset must be
    # loaded anew for each look at what others have changed.
    known, wanted = {"_id": dataset_id(dataset)}, dict.fromkeys(names, 1)
    return odm.get_db_conn().datasets.find_one(known, wanted) or {}


def store_collection() -> Any:
    """The collection behind all of FiftyOne's execution stores, for what these do not offer."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn` and the name of the collection. Without it the entries
    # of several stores cost a request each, and none can be awaited on the disk.
    return odm.get_db_conn()["execution_store"]


def rename_values(dataset: Any, renamed: Mapping[str, str]) -> None:
    """Move the values of fields of all samples to other names, where they are not moved yet."""
    # 1.22.1: `_sample_collection`. Without it values are lost where a database died while FiftyOne
    # renamed their fields.
    if renamed:
        anywhere = {"$or": [{name: {"$exists": True}} for name in renamed]}
        dataset._sample_collection.update_many(anywhere, {"$rename": dict(renamed)})


def drop_values(dataset: Any, names: Sequence[str]) -> None:
    """Remove values of all samples that are left over of fields which are gone."""
    # 1.22.1: `_sample_collection`, as `rename_values`.
    if names:
        anywhere = {"$or": [{name: {"$exists": True}} for name in names]}
        dataset._sample_collection.update_many(anywhere, {"$unset": dict.fromkeys(names, "")})


def database_process() -> Any:
    """Tells one process of the database from the next, which was started after it had died."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn`, which is not documented.
    return odm.get_db_conn().command("hello").get("topologyVersion", {}).get("processId")


def dataset_name(identity: str) -> str | None:
    """What the dataset with this id is called now; None if it is gone."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn`, which is not documented. Without it every dataset
    # must be loaded to find one by its id.
    found = odm.get_db_conn().datasets.find_one(ObjectId(identity), {"name": 1})
    return None if found is None else str(found["name"])


def load_by_id(identity: str) -> Any:
    """The dataset with this id; None if it is gone."""
    name = dataset_name(identity)
    return None if name is None else fo.load_dataset(name)


def has_sample(identity: str, values: Mapping[str, Any]) -> bool:
    """Whether a dataset has a sample with these stored values."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn` and the name of a dataset's collection. Without it a
    # dataset that lacks one of the fields must be loaded to be asked.
    database = odm.get_db_conn()
    found = database.datasets.find_one(ObjectId(identity), {"sample_collection_name": 1})
    return (
        found is not None
        and database[found["sample_collection_name"]].find_one(dict(values), {"_id": 1}) is not None
    )


# Runs and evaluations -----------------------------------------------------------------------------


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


def rename_evaluation(dataset: Any, key: str, new_key: str) -> None:
    """Rename an evaluation and its group in the App's sidebar; its fields are renamed already."""
    # 1.22.1: `_rename_sidebar_group`. Without it the group keeps the old name.
    dataset._rename_sidebar_group(key, new_key)
    if dataset.has_evaluation(key):
        dataset.rename_evaluation(key, new_key)


def forget_cached_evaluation(dataset: Any, key: str) -> None:
    """Have an evaluation's results loaded anew: those in memory keep the config they came with."""
    # 1.22.1: `_evaluation_cache`. Without it an evaluation of a renamed run names the old field.
    dataset._evaluation_cache.pop(key, None)


def delete_empty_sidebar_group(dataset: Any, name: str) -> None:
    """Remove a group of fields from the App's sidebar if it has none left."""
    # 1.22.1: `_delete_empty_sidebar_group`. Without it the names of deleted evaluations stay there.
    dataset._delete_empty_sidebar_group(name)


async def show_colours(dataset: Any) -> None:
    """Have the App's open tabs draw in a dataset's colours as they are now; in its server only."""
    # 1.22.1: the server's own `dispatch_event` and `SetColorScheme`. Without them the colour of a
    # new run is seen when the page is loaded again.
    try:
        from fiftyone.core.session.events import SetColorScheme
        from fiftyone.core.state import build_color_scheme
        from fiftyone.server.events import dispatch_event
    except ImportError:
        return
    dataset._reload()
    await dispatch_event(None, SetColorScheme.from_odm(build_color_scheme(None, dataset)))


# Labels -------------------------------------------------------------------------------------------
