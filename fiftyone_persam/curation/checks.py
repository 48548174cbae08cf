"""What a caller of this room may give, checked before anything is read or written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from bson import ObjectId

from ..errors import PersamError, did_you_mean
from ..options import as_plain
from .database import photo_ids
from .fiftyone_api import root_dataset

LONGEST_NAME = 100
MASKS = (fo.Segmentation, fo.Detections, fo.Detection)
_SHOWN = 60
_SAMPLES = (fo.Sample, fo.core.sample.SampleView)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise PersamError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        meant = did_you_mean(value, choices)
        raise PersamError(
            f"{name} {value!r} is not known: choose one of {', '.join(choices)}{meant}"
        )


def check_count(name: str, value: Any) -> None:
    """Raise PersamError unless ``value`` is None or a positive integer."""
    if value is None:
        return
    value = as_plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PersamError(f"{name} {value!r} is not a number of them: give 1 or more")


def check_switch(name: str, value: Any) -> None:
    """Raise PersamError unless ``value`` is "auto", True or False."""
    if not isinstance(value, bool) and not (isinstance(value, str) and value == "auto"):
        raise PersamError(f"{name} {value!r} is not known: give 'auto', True or False")


def check_switches(**switches: Any) -> None:
    """Raise PersamError unless all are True or False: "no" would count as True."""
    for name, value in switches.items():
        if not isinstance(as_plain(value), bool):
            raise PersamError(f"{name} {value!r} is not a switch: give True or False")


def check_backend(backend: Any, cache: Any = None) -> None:
    """Raise PersamError unless `choose_backend` has a back end for this."""
    from ..engine import choose_backend

    choose_backend(backend, cache)


def check_progress(progress: Any) -> None:
    """Raise PersamError unless this is True, False, None or a function."""
    if not (progress is None or isinstance(as_plain(progress), bool) or callable(progress)):
        raise PersamError(
            f"progress {progress!r} shows nothing: give True, False, None or a function of done "
            "and total"
        )


def check_mask_value(value: Any) -> None:
    """Raise PersamError unless this is None, a pixel's value, a colour, or a class's name."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, np.integer, str)):
        raise PersamError(
            f"mask_value {value!r} is not a pixel value: give an integer, or '#rrggbb' for colours"
        )
    if isinstance(value, str) and not value.strip():
        raise PersamError(f"mask_value {value!r} is empty: give a class, an integer, or '#rrggbb'")


def check_field_name(argument: str, name: Any) -> None:
    """Raise PersamError unless a field, its companions and a folder can have this name."""
    plain = isinstance(name, str) and name.isascii() and name.isidentifier()
    if not plain or name.startswith("_") or len(name) > LONGEST_NAME:
        raise PersamError(
            f"{argument} {_short(name)} cannot name a field: use letters, digits and underscores, "
            f"beginning with a letter, at most {LONGEST_NAME}"
        )
    if hasattr(fo.Sample, name) or name == "frames":
        raise PersamError(f"{argument} {name!r} means something else in FiftyOne: choose another")


def check_group_by(samples: Any, group_by: Any) -> None:
    """Raise PersamError unless this is a field that can name each photo's object."""
    dataset = root_dataset(samples)
    schema = dataset.get_field_schema()
    if not isinstance(group_by, str) or group_by not in schema:
        raise PersamError(
            f"dataset {dataset.name!r} has no field {group_by!r}: group_by takes a field's name"
            f"{did_you_mean(group_by, schema)}"
        )
    plain = (fo.StringField, fo.IntField, fo.BooleanField, fo.FloatField)
    if not isinstance(schema[group_by], plain):
        kind = type(schema[group_by]).__name__
        raise PersamError(
            f"group_by {group_by!r} is a {kind}, which names no object: take a field of texts"
        )


def check_field_known(samples: Any, argument: str, name: Any) -> None:
    """Raise PersamError unless this is a field of plain values of the samples."""
    schema = samples.get_field_schema()
    if not isinstance(name, str) or name not in schema:
        meant = did_you_mean(name, schema)
        raise PersamError(
            f"dataset {root_dataset(samples).name!r} has no field {name!r}: {argument} takes a "
            f"field's name{meant}"
        )
    plain = (fo.StringField, fo.IntField, fo.BooleanField, fo.FloatField, fo.ObjectIdField)
    dates = (fo.DateTimeField, fo.DateField)
    if not isinstance(schema[name], (*plain, *dates)):
        kind = type(schema[name]).__name__
        raise PersamError(
            f"{argument} {name!r} is a {kind}, which neither names nor sorts anything: take a "
            "field of texts or numbers"
        )


def check_mask_field(dataset: Any, argument: str, name: Any) -> None:
    """Raise PersamError unless this is a field of masks."""
    field = dataset.get_field(name) if isinstance(name, str) else None
    if field is None:
        meant = did_you_mean(name, dataset.get_field_schema())
        raise PersamError(
            f"dataset {dataset.name!r} has no field {name!r}: {argument} names one{meant}"
        )
    kind = getattr(field, "document_type", None)
    if kind not in MASKS:
        raise PersamError(
            f"{argument} {name!r} holds no masks: it must be a field of Segmentation or Detections"
        )


def check_states(states: Any, known: Sequence[str]) -> tuple[str, ...]:
    """States of review as a tuple, whatever they come in: a generator can be read only once.

    Raises:
        PersamError: this is not a list of states, or there is none in it.
    """
    several = isinstance(states, Iterable) and not isinstance(states, (str, bytes))
    listed = _listed(states) if several else []
    if not listed:
        raise PersamError(
            f"states {_short(states)} is not a list of states: give some of {', '.join(known)}"
        )
    for state in listed:
        if state not in known:
            raise PersamError(f"unknown review state {state!r}: choose from {', '.join(known)}")
    return tuple(listed)


def list_of_ids(ids: Any) -> list[str]:
    """Sample ids as a list of texts.

    Args:
        ids: texts or ``ObjectId`` in a list, set, array or generator; or a dataset or view, whose
            photos are meant.

    Raises:
        PersamError: they are something else.
    """
    if isinstance(ids, fo.core.collections.SampleCollection):
        return photo_ids(ids)
    if isinstance(ids, Iterable) and not isinstance(ids, (str, bytes, *_SAMPLES)):
        listed = _listed(ids)
        if all(isinstance(one, (str, ObjectId)) for one in listed):
            return [str(one) for one in listed]
    raise PersamError(f"ids {_short(ids)} is not a list of sample ids: give [sample.id, ...]")


def check_text(argument: str, value: Any) -> None:
    """Raise PersamError unless this is a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise PersamError(f"{argument} {_short(value)} is not a name: give a text")


def folder_path(argument: str, value: Any) -> Path:
    """A folder as a whole path; it need not exist.

    Raises:
        PersamError: this is not a path.
    """
    path = str(value) if isinstance(value, (str, os.PathLike)) else ""
    if not path or "\0" in path:
        raise PersamError(f"{argument} {_short(value)} is not a folder: give a path")
    return Path(path).expanduser().absolute()


def _listed(values: Any) -> list[Any]:
    """Several values as a list; an array may have any shape, and none."""
    return np.ravel(values).tolist() if isinstance(values, np.ndarray) else list(values)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
