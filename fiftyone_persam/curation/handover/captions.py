"""Captions of exported photos: a template, a field, or one text for all."""

from __future__ import annotations

import string
from typing import Any

import fiftyone as fo

from ...errors import PersamError, did_you_mean
from ..database import values_of

# What a template can say beside the names of fields.
LABEL = "label"

_SHOWN = 5
_SPOKEN = (fo.Classification, fo.Classifications, fo.Detection, fo.Detections)
_SILENT = (fo.ArrayField, fo.DictField, fo.VectorField)


class Captions:
    """How photos are captioned.

    ``"a photo of sks {label}"`` is a template: ``{label}`` is what the object is called,
    ``{tags}`` the sample's tags, and ``{name}`` the value of the field ``name``; fields of embedded
    documents are named with a dot. Lists are joined by commas, labels give their class. The plain
    name of a field takes the photo's caption from it. Any other text is the caption of all photos.
    """

    def __init__(self, dataset: Any, caption: str) -> None:
        """Check what is asked for.

        Args:
            dataset: where fields are looked up.
            caption: template, field or text.

        Raises:
            PersamError: this is not a text, not a template, or names a field that isn't there.
        """
        if not isinstance(caption, str) or not caption.strip():
            raise PersamError(
                f"caption {caption!r} cannot be used: give a template such as "
                "'a photo of sks {label}', a field's name, or a text"
            )
        self._dataset = dataset
        self._template = f"{{{caption}}}" if _has(dataset, caption) else caption
        try:
            parts = list(string.Formatter().parse(self._template))
        except ValueError as error:
            raise PersamError(
                f"caption {caption!r} is not a template ({error}): write a brace twice to keep it"
            ) from None
        self._parts = [(text, name) for text, name, _, _ in parts]
        for _, name, spec, conversion in parts:
            if name is None:
                continue
            if spec or conversion or (name != LABEL and not _has(dataset, name)):
                fields = [LABEL, *dataset.get_field_schema()]
                raise PersamError(
                    f"caption {caption!r} names {name or 'nothing'!r}, which dataset "
                    f"{dataset.name!r} does not have: use {{label}}, {{tags}} or a field's name"
                    f"{did_you_mean(name, fields)}"
                )

    @property
    def fields(self) -> list[str]:
        """The fields that are read."""
        named = [name for _, name in self._parts if name is not None]
        own = [name for name in dict.fromkeys(named) if name != LABEL or self._is_field_alone()]
        return own

    def of(self, samples: dict[str, str], labels: dict[str, str]) -> dict[str, str]:
        """Id -> caption, of every photo.

        Args:
            samples: id -> id of its sample in the dataset: a sample can have several patches.
            labels: id -> what the object is called.

        Raises:
            PersamError: photos have nothing in a field that the caption needs.
        """
        wanted = list(dict.fromkeys(samples.values()))
        values = {name: values_of(self._dataset, wanted, name) for name in self.fields}
        missing: dict[str, list[str]] = {}
        found: dict[str, str] = {}
        for one, sample_id in samples.items():
            text = ""
            for literal, name in self._parts:
                text += literal
                if name is None:
                    continue
                if name in values:
                    said = _say(values[name].get(sample_id))
                    if not said and name != "tags":
                        missing.setdefault(name, []).append(sample_id)
                else:
                    said = labels[one]
                text += said
            found[one] = " ".join(text.split())
        for name, lacking in missing.items():
            listed = ", ".join(lacking[:_SHOWN]) + (", ..." if len(lacking) > _SHOWN else "")
            raise PersamError(
                f"{len(lacking)} photos have nothing in {name!r} for their caption ({listed}): "
                "fill the field, or choose another caption"
            )
        return found

    def _is_field_alone(self) -> bool:
        """Whether the caption is a dataset's own field that happens to be called ``label``."""
        return self._parts == [("", LABEL)] and _has(self._dataset, LABEL)


def _has(dataset: Any, name: str) -> bool:
    """Whether a dataset has a field of this name that can be put into words."""
    plain = name.replace(".", "").replace("_", "")
    field = dataset.get_field(name) if plain.isalnum() else None
    if field is None:
        return False
    kind = getattr(field, "document_type", None)
    return kind in _SPOKEN if kind is not None else not isinstance(field, _SILENT)


def _say(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, fo.Label):
        inner = getattr(value, "label", None)
        if inner is None:
            listed = getattr(value, "classifications", None) or getattr(value, "detections", None)
            return _say(list(dict.fromkeys(one.label for one in listed or ())))
        return _say(inner)
    if isinstance(value, (list, tuple, set)):
        return ", ".join(said for said in map(_say, value) if said)
    return str(value)
