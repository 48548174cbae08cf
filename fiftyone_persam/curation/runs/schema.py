"""Changes of a dataset's fields, by one process at a time.

FiftyOne stores the whole list of a dataset's fields with every change, so of two processes that
change it together the last one wins and the other's fields are gone. Every change of this package
goes through here: under a lease of the whole dataset, on a list that was read within it, and looked
at again. Each function does what is left to do, so it can be repeated after a process was killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...engine.writing import MASK_VALUE
from ...errors import PersamError
from .. import fiftyone_api
from ..database import make_durable, refresh, with_retries
from . import colours, shown
from .lease import Lease

SCHEMA = "*fields*"  # no run can have this name
WAIT = 120.0
"""Seconds to wait for another process that changes the fields."""
TRIES = 5

_HELD = threading.local()


@contextmanager
def schema_lease(dataset: Any) -> Iterator[None]:
    """The right to change a dataset's fields, as they are now; waits for its turn.

    May be held within itself: several changes then cost one look at what others have changed.
    """
    identity = str(fiftyone_api.dataset_id(dataset))
    held: set[str] = _HELD.__dict__.setdefault("datasets", set())
    if identity in held:
        yield
        return
    with Lease(dataset, SCHEMA, wait=WAIT, what="the list of fields"):
        held.add(identity)
        try:
            refresh(dataset)
            yield
        finally:
            held.discard(identity)


def add_fields(dataset: Any, fields: Mapping[str, Any]) -> None:
    """Add fields that are missing.

    Args:
        dataset: the dataset.
        fields: name, or path of an attribute -> an instance of `fo.Field`.
    """
    if all(dataset.get_field(name) is not None for name in fields):
        return

    def add() -> None:
        missing = {name: f for name, f in fields.items() if dataset.get_field(name) is None}
        if missing:
            fiftyone_api.merge_schema(dataset, missing)

    _change(dataset, add, lambda names: {name.partition(".")[0] for name in fields} <= names)


def delete_fields(dataset: Any, names: Iterable[str]) -> None:
    """Delete fields with their values, indexes, mask targets, and what the App knows of them."""
    names = list(names)
    paths = [_shown(dataset, name) for name in names]

    def delete() -> None:
        if present := [name for name in names if dataset.has_field(name)]:
            dataset.delete_sample_fields(present)
        # A database that died in between may have forgotten the fields, and have their values.
        gone = [name for name in names if not dataset.has_field(name)]
        fiftyone_api.drop_values(dataset, gone)
        for index in dataset.list_indexes():
            if index.partition(".")[0] in names:
                dataset.drop_index(index)
        schemas = dict(dataset.label_schemas or {})
        if kept := [name for name in schemas if name.partition(".")[0] in names]:
            dataset.set_label_schemas({n: s for n, s in schemas.items() if n not in kept})
        if colours.remove(dataset, paths) | shown.forget(dataset):
            dataset.save()
        if targets := [name for name in names if name in dataset.mask_targets]:
            for name in targets:
                del dataset.mask_targets[name]
            dataset.save()

    _change(dataset, delete, lambda present: not present & set(names))


def rename_fields(dataset: Any, renamed: Mapping[str, str]) -> None:
    """Rename fields, with their mask targets and what the App knows of them.

    Args:
        dataset: the dataset.
        renamed: old name -> new name; names that are not there are left out.
    """
    paths = {_shown(dataset, old): _shown(dataset, new) for old, new in renamed.items()}

    def rename() -> None:
        if mapping := {old: new for old, new in renamed.items() if dataset.has_field(old)}:
            dataset.rename_sample_fields(mapping)
        # A database that died in between may know the new names, and have the values under the old.
        left = {old: new for old, new in renamed.items() if dataset.has_field(new)}
        fiftyone_api.rename_values(dataset, left)
        schemas = dict(dataset.label_schemas or {})
        if any(name in renamed for name in schemas):
            active = [renamed.get(name, name) for name in dataset.active_label_schemas or []]
            dataset.set_label_schemas({renamed.get(n, n): s for n, s in schemas.items()})
            dataset.active_label_schemas = active
        if colours.rename(dataset, paths):
            dataset.save()
        if targets := [name for name in renamed if name in dataset.mask_targets]:
            for name in targets:
                dataset.mask_targets[renamed[name]] = dataset.mask_targets.pop(name)
            dataset.save()

    _change(dataset, rename, lambda present: not present & set(renamed))


def name_values(dataset: Any, field: str, targets: Mapping[int, str]) -> None:
    """Set the mask targets of a field: what each pixel value means."""
    with schema_lease(dataset):
        if dict(dataset.mask_targets.get(field) or {}) != dict(targets):
            dataset.mask_targets[field] = dict(targets)
            dataset.save()


def colour_fields(
    dataset: Any, names: Iterable[str], values: Iterable[int] = (MASK_VALUE,)
) -> None:
    """Give fields that belong together a colour of their own in the App; see `colours`."""
    with schema_lease(dataset):
        if colours.add(dataset, [_shown(dataset, name) for name in names], values):
            dataset.save()


def hide_fields(dataset: Any, names: Iterable[str]) -> None:
    """Have the App not show fields until somebody ticks them; see `shown`."""
    paths = [_shown(dataset, name) for name in names]
    with schema_lease(dataset):
        if paths and shown.hide(dataset, paths):
            dataset.save()


def show_fields(dataset: Any, names: Iterable[str]) -> None:
    """Have the App show fields, where a dataset says which; see `shown`."""
    with schema_lease(dataset):
        if shown.show(dataset, [_shown(dataset, name) for name in names]):
            dataset.save()


def edit_field(dataset: Any, name: str, edit: Callable[[Any], None]) -> None:
    """Change what is editable of a field: its description, its ``info``."""
    with schema_lease(dataset):
        if (field := dataset.get_field(name)) is not None:
            edit(field)
            field.save()


def remove_empty_group(dataset: Any, name: str) -> None:
    """Remove a group of the App's sidebar that has no field any more."""
    with schema_lease(dataset):
        fiftyone_api.delete_empty_sidebar_group(dataset, name)


def check_unlocked(dataset: Any, names: Iterable[str], action: str) -> None:
    """Raise PersamError if somebody has locked one of these fields against changes.

    Args:
        dataset: the dataset.
        names: fields, those that do not exist included.
        action: what is about to be done, for the message.
    """
    for name in names:
        field = dataset.get_field(name)
        if field is not None and getattr(field, "read_only", False):
            raise PersamError(
                f"field {name!r} is locked (read_only), so {action} is not possible: unlock it "
                f"(field = dataset.get_field({name!r}); field.read_only = False; field.save())"
            )


def stored_fields(dataset: Any) -> set[str]:
    """The names of a dataset's fields as the database has them."""
    fields = fiftyone_api.fields_list(dataset)
    stored = with_retries(fiftyone_api.stored_document, dataset, (f"{fields}.name",))
    return {field["name"] for field in stored.get(fields) or []}


def _shown(dataset: Any, name: str) -> str:
    """What the App calls a field: it tells those of frames from those of their video."""
    return str(getattr(dataset, "field_prefix", "")) + name


def _change(dataset: Any, change: Callable[[], None], done: Callable[[set[str]], bool]) -> None:
    for tried in range(TRIES):
        with schema_lease(dataset):
            if tried:  # somebody who takes no lease; within an outer one nothing was read again
                refresh(dataset)
            change()
        make_durable()  # a database that is killed forgets, and samples would have unknown fields
        if done(stored_fields(dataset)):
            return
    raise PersamError(
        f"the fields of dataset {dataset.name!r} are changed by another program all the time: "
        "stop it, then try again"
    )
