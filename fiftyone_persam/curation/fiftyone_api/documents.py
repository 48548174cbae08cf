"""The database's own documents of datasets: found by id, seen anew, their fields declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as odm
from bson import ObjectId

from .views import dataset_id


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


def stored_document(dataset: Any, names: Sequence[str]) -> dict[str, Any]:
    """Some values of a dataset's own document, as the database has them now; {} if it is gone."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn`, which is not documented. Without it a dataset must be
    # loaded anew for each look at what others have changed.
    known, wanted = {"_id": dataset_id(dataset)}, dict.fromkeys(names, 1)
    return odm.get_db_conn().datasets.find_one(known, wanted) or {}


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


def new_field(name: str, kind: type, **options: Any) -> Any:
    """A field for `merge_schema`; options as of `Dataset.add_sample_field`."""
    # 1.22.1: `fiftyone.core.odm.create_field`, which is not documented.
    return odm.create_field(name, kind, **options)


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


def database_process() -> Any:
    """Tells one process of the database from the next, which was started after it had died."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn`, which is not documented.
    return odm.get_db_conn().command("hello").get("topologyVersion", {}).get("processId")


def store_collection() -> Any:
    """The collection behind all of FiftyOne's execution stores, for what these do not offer."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn` and the name of the collection. Without it the entries
    # of several stores cost a request each, and none can be awaited on the disk.
    return odm.get_db_conn()["execution_store"]
