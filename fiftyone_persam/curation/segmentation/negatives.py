"""What the object is not: labels that somebody gives. Masks that a review has rejected are in
`rejected`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np

from ...errors import BadReferenceError, PersamError
from ...personalize.registries import METHODS, method_info
from ...sam.frames import video_info
from ..checks import check_mask_value
from ..labels.objects import object_names
from ..labels.references import SampleReference
from ..labels.resolving import resolve_references
from ..labels.shapes import LabelPrompt
from ..labels.sizes import read_shown_size
from .phrases import has_phrase

_OVERLAP = 0.5
_HOW = "give a photo with a label of something else, or leave negatives out"


def takes_negatives(method: str, options: Mapping[str, Any]) -> bool:
    """Whether a method learns what the object is not."""
    return bool(METHODS[method].takes_negatives) and options.get("mode") != "reference"


def resolve_negatives(
    dataset: Any,
    negatives: Any,
    label_field: str,
    method: str,
    options: Mapping[str, Any],
    objects: Sequence[str] = (),
    mask_value: int | str | None = None,
) -> list[SampleReference]:
    """The negative references of a call; ``group`` names the object that they are not, "" for all.

    Args:
        dataset: where ids are looked up.
        negatives: see `segment`.
        label_field: of the negatives.
        method: of the run.
        options: of the method.
        objects: the run's, where it is of several.
        mask_value: which value or class of the negatives' masks.

    Raises:
        BadReferenceError: one cannot be used.
        PersamError: the method takes none, or an object is not one of the run.
    """
    if negatives is None or (isinstance(negatives, (list, tuple)) and not negatives):
        return []
    if not takes_negatives(method, options):
        how = "mode='reference' does" if options.get("mode") == "reference" else "it does"
        raise PersamError(
            f"{method_info(method).title} cannot learn from negatives, because {how} not know "
            "them: leave them out, or choose persam"
        )
    named = {"": negatives}
    if isinstance(negatives, Mapping):
        strange = [name for name in object_names(negatives) if name not in objects]
        if strange:
            listed = ", ".join(map(repr, objects)) or "one object: give negatives without names"
            raise PersamError(f"negatives are of {strange[0]!r}, and the run is of {listed}")
        named = dict(negatives)
    found: list[SampleReference] = []
    for name, given in named.items():
        try:
            check_mask_value(mask_value)
            if has_phrase(given):
                raise BadReferenceError(f"a phrase shows nothing: {_HOW}")
            some = resolve_references(dataset, given, label_field, None, mask_value)
        except PersamError as error:
            # What was given, and is to be changed, are arguments of the negatives.
            text = str(error).replace("mask_value", "negatives_mask_value")
            text = text.replace("label_field", "negatives_field")
            raise BadReferenceError(f"negatives: {text}") from None
        if any(not isinstance(one, SampleReference) for one in some):
            raise BadReferenceError(
                f"negatives: a phrase does not show what the object is not: {_HOW}"
            )
        found += [replace(one, group=name) for one in some]
    return found


def check_apart(references: Sequence[Any], negatives: Sequence[SampleReference]) -> None:
    """Raise BadReferenceError if a negative is what a reference of the same object shows."""
    for negative in negatives:
        for one in references:
            same = (one.sample_id, one.frame) == (negative.sample_id, negative.frame)
            same = same and negative.group in ("", one.group)
            if same and overlaps(one.prompt, negative.prompt, negative.filepath):
                raise BadReferenceError(
                    f"the negative in {Path(negative.filepath).name} lies on the reference itself: "
                    "give a label of something else"
                )


def overlaps(one: LabelPrompt, other: LabelPrompt, filepath: str) -> bool:
    """Whether two labels of one photo, or of one frame of a video, mark the same thing."""
    drawn = [prompt.mask for prompt in (one, other) if prompt.mask is not None]
    size = drawn[0].shape if drawn else _size(filepath)
    a, b = _area(one, size), _area(other, size)
    smaller = min(int(a.sum()), int(b.sum()))
    return bool(smaller and (a & b).sum() > _OVERLAP * smaller)


def _size(filepath: str) -> tuple[int, int]:
    if fo.core.media.get_media_type(filepath) == fo.core.media.VIDEO:
        info = video_info(filepath)
        return info.height, info.width
    return read_shown_size(filepath)


def _area(prompt: LabelPrompt, size: tuple[int, ...]) -> Any:
    if prompt.mask is not None:
        return prompt.mask
    area = np.zeros(size, np.bool_)
    if prompt.box is not None:
        x0, y0, x1, y1 = (round(value) for value in prompt.box)
        area[y0:y1, x0:x1] = True
    elif prompt.points is not None and prompt.labels is not None:
        for x, y in prompt.points[prompt.labels == 1].astype(int):
            area[y, x] = True
    return area
