"""What a call in Python gives as references, as plain values, which can be queued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set, ValuesView
from typing import Any

from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_persam.errors import BadReferenceError

from .phrase import PHRASE
from .scope import GIVEN, ONE, SAID, SEVERAL
from .video import is_frame


def reference_params(reference: Any, label_id: str | None) -> dict[str, Any]:
    """The parameters of an operation that say what ``reference`` says.

    Args:
        reference: as :func:`fiftyone_persam.segment` takes it
        label_id: which of its labels, where it is one sample that has several

    Returns:
        The scope, and what belongs to it: ids, numbers and words only

    Raises:
        BadReferenceError: if there is more than one phrase
    """
    phrase = None
    if not isinstance(reference, Mapping) and not is_frame(reference):
        reference, phrase = _without_words(_listed(reference))
    return {**_scope_params(reference, label_id), PHRASE: phrase}


def negative_params(negatives: Any) -> Any:
    """What the object is not, as ids: a list, by name where objects are named, or None."""
    if isinstance(negatives, Mapping):
        return {name: [_by_id(one) for one in _each(some)] for name, some in negatives.items()}
    return None if negatives is None else [_by_id(one) for one in _each(negatives)]


def _scope_params(reference: Any, label_id: str | None) -> dict[str, Any]:
    if isinstance(reference, Mapping):
        named = [
            [name, [_plain(o) for o in ([some] if is_frame(some) else _each(some))]]
            for name, some in reference.items()
        ]
        return {"scope": SEVERAL, "objects": named}
    if is_frame(reference):
        sample_id, number, chosen_label = _plain(reference)
        return {"reference": sample_id, "frame": str(number), "label_id": chosen_label}
    if reference is None:
        return {"scope": SAID}
    if _are_several(reference):
        return {"scope": GIVEN, "references": [_by_id(one) for one in reference]}
    sample_id, chosen_label = _by_id(reference)
    return {"scope": ONE, "reference": sample_id, "label_id": chosen_label or label_id}


def _are_several(reference: Any) -> bool:
    """Whether this is a view or a list of references, rather than one or a (sample, id) pair."""
    if isinstance(reference, SampleCollection):
        return True
    return isinstance(reference, (list, tuple)) and not _is_pair(reference)


def _is_pair(reference: Any) -> bool:
    """Whether this is a sample, or its id, and the id of one of its labels."""
    two = isinstance(reference, tuple) and len(reference) == 2
    return two and isinstance(reference[1], (str, ObjectId))


def _listed(reference: Any) -> Any:
    """References in an array, a set or a generator as a list; anything else as it is."""
    if hasattr(reference, "ravel"):
        return reference.ravel().tolist()
    if isinstance(reference, Set):
        return sorted(reference, key=str)  # a run must be one that can be made again
    return list(reference) if isinstance(reference, (Iterator, ValuesView)) else reference


def _each(reference: Any) -> list[Any]:
    """One reference or several, as a list."""
    listed = _listed(reference)
    return list(listed) if _are_several(listed) else [listed]


def _by_id(reference: Any) -> tuple[Any, str | None]:
    """A reference as plain values, which can be queued: the sample's id, and the label's."""
    sample, label_id = reference if isinstance(reference, tuple) else (reference, None)
    sample_id = getattr(sample, "id", sample)
    sample_id = str(sample_id) if isinstance(sample_id, ObjectId) else sample_id
    return sample_id, None if label_id is None else str(label_id)


def _plain(reference: Any) -> tuple[Any, ...]:
    """Like `_by_id`, with the frame's number between the two for a frame of a video."""
    if not is_frame(reference):
        return _by_id(reference)
    sample_id, label_id = _by_id((reference[0], (*reference[2:], None)[0]))
    return sample_id, int(reference[1]), label_id


def _without_words(reference: Any) -> tuple[Any, str | None]:
    """A reference without its phrase, and the phrase; None where nothing is left."""
    from fiftyone_persam.personalize import TextReference

    if isinstance(reference, TextReference):
        return None, reference.text
    if not isinstance(reference, (list, tuple)):
        return reference, None
    texts = [one.text for one in reference if isinstance(one, TextReference)]
    rest = [one for one in reference if not isinstance(one, TextReference)]
    if len(texts) > 1:
        raise BadReferenceError(f"there are {len(texts)} phrases: give one")
    if not texts:
        return reference, None
    if not rest:
        return None, texts[0]
    return rest[0] if isinstance(reference, tuple) and len(rest) == 1 else rest, texts[0]
