"""Several objects of one run: a reference argument that names each of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo

from ...errors import BadReferenceError
from ..database import photos_of
from ..fiftyone_api import dataset_of_sample
from .choices import label_choices
from .pixels import mask_pixels, targets_of
from .references import SampleReference
from .resolving import resolve_references
from .shapes import INSTANCES
from .video_frames import frame_choice, is_frame_choice

LONGEST = 100
_HOW = "reference={'mug': sample, 'cat': (sample, label id)}"


def object_names(reference: Mapping[Any, Any]) -> list[str]:
    """The names in a mapping of objects, checked.

    Raises:
        BadReferenceError: there is none, or one is not a name.
    """
    if not reference:
        raise BadReferenceError(f"the reference names no object: give {_HOW}")
    for name in reference:
        plain = isinstance(name, str) and name.strip() == name and 0 < len(name) <= LONGEST
        if not plain or any(unicodedata.category(c).startswith("C") for c in name):
            shown = repr(name) if len(repr(name)) <= LONGEST else f"{repr(name)[:LONGEST]}..."
            raise BadReferenceError(
                f"{shown} is not the name of an object: give a text of 1 to {LONGEST} characters "
                f"without blanks around it, as in {_HOW}"
            )
    return list(reference)


def resolve_objects(
    dataset: Any,
    reference: Mapping[str, Any],
    label_field: str = "ground_truth",
    mask_value: int | str | None = None,
) -> list[Any]:
    """The references of several objects; ``group`` has the object's name.

    Of a photo with several labels those count that are called as the object is; of a mask with
    several classes, the class of that name.

    Args:
        dataset: where ids are looked up.
        reference: object's name -> whatever `resolve_references` takes.
        label_field: the samples' label field.
        mask_value: of all of them.

    Raises:
        BadReferenceError: a name or a reference cannot be used, or two objects have the same one.
        PhotoError: a reference photo cannot be read.
    """
    names = object_names(reference)
    found: list[Any] = []
    for name in names:
        try:
            chosen = [
                one
                for choice in label_choices(dataset, reference[name])
                for one in _own(choice, name, label_field, mask_value)
            ]
            resolved = [
                one
                for piece, value in chosen
                for one in resolve_references(dataset, piece, label_field, None, value)
            ]
            if not resolved:
                resolved = resolve_references(dataset, reference[name], label_field)  # says why
        except BadReferenceError as error:
            raise BadReferenceError(f"object {name!r}: {error}") from None
        found += [replace(one, group=name) for one in resolved]
    _check_different(found)
    return found


def objects_in(samples: Any, label_field: str = "ground_truth") -> dict[str, list[Any]]:
    """The objects that the labels of some photos name, as `segment` takes them.

    Args:
        samples: a dataset, a view, or a list of samples; of a video its (sample, frame number).
            Labels of a frame that are called the same are objects of their own there, "person" and
            "person 2".
        label_field: Detections, Polylines, Keypoints, or a Segmentation whose classes have names in
            ``mask_targets``.

    Returns:
        Object's name -> (sample id, label id) pairs, or sample ids, in the photos' order.

    Raises:
        BadReferenceError: no label there has a name.
    """
    if is_frame_choice(samples):
        return _objects_of_frame(*frame_choice(None, samples), label_field)
    listed = samples
    if isinstance(samples, fo.core.collections.SampleCollection):
        listed = photos_of(samples)
    found: dict[str, list[Any]] = {}
    for sample in listed:
        for name, piece in _named(sample, label_field):
            found.setdefault(name, []).append(piece)
    if not found:
        raise BadReferenceError(
            f"no label in {label_field!r} of these photos has a name: label objects there, each "
            "with its name"
        )
    return found


# ----------------------------------------------------------------------------------------------


def _objects_of_frame(frame: Any, label_id: str | None, field: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, piece in _named(frame, field):
        own, count = name, 1
        while own in found:
            count += 1
            own = f"{name} {count}"
        label = piece[1] if isinstance(piece, tuple) else None
        if label_id in (None, label):
            found[own] = [(frame.id, frame.number, label)]
    if not found:
        raise BadReferenceError(
            f"no label in {field!r} of frame {frame.number} of {Path(frame.filepath).name} has a "
            "name: label objects there, each with its name"
        )
    return found


def _named(sample: Any, field: str) -> list[tuple[str, Any]]:
    label = sample[field] if sample.has_field(field) else None
    if isinstance(label, fo.Segmentation):
        classes = _classes(sample, label, field)
        return [(name, sample.id) for name in classes]
    listed = INSTANCES.get(type(label))
    instances = getattr(label, listed) if listed else [label] if label is not None else []
    return [(str(o.label), (sample.id, o.id)) for o in instances if getattr(o, "label", None)]


def _classes(sample: Any, label: Any, field: str) -> list[str]:
    from ...sam.masks import classes_in

    pixels = mask_pixels(label, f"the label of {Path(sample.filepath).name} in {field!r}")
    targets = targets_of(dataset_of_sample(sample), field)
    if pixels is None:
        return []
    return [targets[value] for value in classes_in(pixels, targets) if value in targets]


def _own(
    choice: Any, name: str, field: str, value: int | str | None
) -> list[tuple[Any, int | str | None]]:
    """What in one photo is an object: pieces for `resolve_references`, each with a mask value."""
    if not isinstance(choice, tuple):  # found before
        return [(choice, value)]
    sample, label_id = choice
    piece = sample if label_id is None else (sample, label_id)
    label = sample[field] if label_id is None and _has(sample, field) else None
    listed = INSTANCES.get(type(label))
    if listed is not None:
        instances = getattr(label, listed)
        own = [one for one in instances if getattr(one, "label", None) == name]
        if len(instances) > 1 and own:
            return [((sample, one.id), value) for one in own]
    elif (
        isinstance(label, fo.Segmentation)
        and value is None
        and name in targets_of(dataset_of_sample(sample), field).values()
    ):
        return [(piece, name)]
    return [(piece, value)]


def _has(sample: Any, field: Any) -> bool:
    return isinstance(field, str) and bool(sample.has_field(field))


def _check_different(references: list[Any]) -> None:
    """Raise BadReferenceError if two objects have one label."""
    known: dict[tuple[Any, ...], str] = {}
    for one in references:
        if not isinstance(one, SampleReference):
            key: tuple[Any, ...] = (one.text,)
        else:
            key = (one.sample_id, one.label_field, one.prompt.fingerprint())
        other = known.setdefault(key, one.group)
        if other != one.group:
            where = Path(one.filepath).name if one.filepath else repr(one.text)
            raise BadReferenceError(
                f"objects {other!r} and {one.group!r} have the same reference ({where}): give each "
                "its own label"
            )
