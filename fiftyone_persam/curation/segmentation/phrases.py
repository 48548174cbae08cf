"""Phrases as references: which model takes them, and what they mean in one photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bson import ObjectId

from ...errors import BadReferenceError, CheckpointError, PersamError
from ...personalize.reference import TEXT, TextReference
from ...personalize.registries import method_info
from ..checks import check_field_name
from ..fiftyone_api import dataset_id, dataset_of_sample
from ..frame_store import FrameStore
from ..labels.choices import resolve_photos
from ..labels.references import PhraseReference, SampleReference
from ..labels.shapes import LabelPrompt
from .marking import FIELD, Mark, check_markable, masked_detection, reference_field

if TYPE_CHECKING:
    import numpy.typing as npt

    from ...engine import EmbeddingCache
    from ...engine.job import PhotoTask

LOOKED_AT = 8
"""Photos that are searched for a phrase that is given without one, at most."""
_CLICK = "or mark the object in one photo, which needs no download"


def has_phrase(reference: Any) -> bool:
    """Whether words are among what a ``reference`` argument gives."""
    if isinstance(reference, Mapping):
        return any(has_phrase(one) for one in reference.values())
    return any(_phrase_of(one) is not None for one in _listed(reference))


def text_models() -> list[Any]:
    """What `list_models` says of the models that take phrases."""
    from ...sam import list_models

    return [info for info in list_models() if info.text]


def text_model(model: Any = None) -> Any:
    """The model that finds phrases: the given one if it takes them, else one that is here."""
    models = text_models()
    if hasattr(model, "phrase_tokens") or model in [info.name for info in models]:
        return model
    here = [info.name for info in models if info.available]
    return (here or [info.name for info in models])[0]


def model_of(method: str, model: Any) -> Any:
    """The model that a method works with: its own kind in place of the default one.

    Raises:
        PersamError: the method needs a model that takes phrases, and another one is named.
    """
    if not method_info(method).needs_text or not isinstance(model, str):
        return model
    from ...sam import list_models
    from ...sam.registry import BUNDLED

    infos = {info.name: info for info in list_models()}
    if model == BUNDLED:
        return text_model()
    if model in infos and not infos[model].text:
        named = ", ".join(name for name, info in infos.items() if info.text)
        raise PersamError(
            f"method {method!r} needs a model that takes phrases, which {model} does not: choose "
            f"one of {named}"
        )
    return model


def find_phrases(
    dataset: Any,
    reference: Any,
    method: str,
    tasks: Sequence[PhotoTask],
    model: Any,
    out_field: str,
    device: Any = "auto",
    dtype: Any = "auto",
    cache: EmbeddingCache | None = None,
) -> tuple[Any, list[Mark]]:
    """A ``reference`` argument with a mask in place of each phrase, if the method takes no words.

    Args:
        dataset: the run's.
        reference: see `segment`: a `TextReference`, a (sample or id, `TextReference`) pair, or a
            list with such.
        method: the run's.
        tasks: the photos of the call; a phrase without a photo is looked for in some of them, and
            the best mask counts.
        model: the run's; where it takes no phrases, another one finds them.
        out_field: the run's name.
        device: where to look.
        dtype: see `segment`.
        cache: see `segment`.

    Returns:
        The references, and the labels to be written when the run begins.

    Raises:
        BadReferenceError: a phrase is found nowhere.
        CheckpointError: no model that takes phrases is on this machine.
    """
    if isinstance(reference, Mapping):
        each: dict[str, Any] = {}
        written: list[Mark] = []
        for name, one in reference.items():
            each[name], some = find_phrases(
                dataset, one, method, tasks, model, out_field, device, dtype, cache
            )
            written += some
        return each, written
    pieces = _listed(reference)
    if not any(_phrase_of(one) is not None for one in pieces):
        return reference, []
    if TEXT in method_info(method).references:
        return [_worded(dataset, one) for one in pieces], []
    if isinstance(dataset, FrameStore):
        raise BadReferenceError(
            f"method {method!r} takes no words, and they are not looked for in videos: label the "
            "object in one frame, or use a method that takes words"
        )
    field = reference_field(out_field)
    finder = _Finder(dataset, field, text_model(model), device, dtype, cache)
    found: list[Any] = []
    marks: list[Mark] = []
    for one in pieces:
        phrase = _phrase_of(one)
        if phrase is None:
            found.append(one)
            continue
        where = one[0] if isinstance(one, tuple) else None
        reference_, mark = finder.find(phrase, where, tasks)
        found.append(reference_)
        marks.append(mark)
    return found, marks


def mark_phrase(sample: Any, phrase: str, field: str = FIELD, model: Any = None) -> str:
    """Mark in a photo what a phrase means, so that `segment` can learn it from there.

    The mask becomes a label as in `mark_mask`, under the phrase as its name; one that is there
    already is not written again.

    Args:
        sample: a photo of a dataset.
        phrase: such as "the blue mug".
        field: the field that takes the label; made if it is missing.
        model: one that takes phrases; one that is on this machine if None.

    Returns:
        The label's id: ``segment(dataset, (sample, id), label_field=field)``.

    Raises:
        BadReferenceError: the phrase cannot be used, or finds nothing in the photo.
        CheckpointError: no model that takes phrases is on this machine.
        PersamError: the field has labels of another type, belongs to a run, or is locked.
        PhotoError: the photo cannot be read.
    """
    text = TextReference(phrase)
    check_field_name("field", field)
    dataset = dataset_of_sample(sample)
    check_markable(dataset, field)
    finder = _Finder(dataset, field, text_model(model))
    reference, mark = finder.find(text.text, sample, ())
    mark.write()
    sample.reload()
    return str(reference.label_id)


# ----------------------------------------------------------------------------------------------


def _spread(many: Sequence[Any]) -> list[Any]:
    """As many as are looked at, from all over a sequence."""
    return list(many[:: max(1, -(-len(many) // LOOKED_AT))])


def _listed(reference: Any) -> list[Any]:
    if _is_pair(reference) or not isinstance(reference, (list, tuple)):
        return [reference]
    return list(reference)


def _is_pair(reference: Any) -> bool:
    return (
        isinstance(reference, tuple)
        and len(reference) == 2
        and isinstance(reference[1], TextReference)
        and not isinstance(reference[0], TextReference)
    )


def _phrase_of(one: Any) -> str | None:
    if _is_pair(one):
        return str(one[1].text)
    return one.text if isinstance(one, (TextReference, PhraseReference)) else None


def _worded(dataset: Any, one: Any) -> Any:
    """A phrase as what a run records; the photo it was given with is one of those it is about."""
    phrase = _phrase_of(one)
    return one if phrase is None else PhraseReference(phrase, dataset.name)


class _Finder:
    """Finds phrases in photos, with a model that takes them."""

    def __init__(
        self,
        dataset: Any,
        field: str,
        model: Any,
        device: Any = "auto",
        dtype: Any = "auto",
        cache: EmbeddingCache | None = None,
    ) -> None:
        from ...sam import load_sam

        self._dataset = dataset
        self._field = field
        self._cache = cache
        try:
            self._sam = load_sam(model, device, dtype, download=False)
        except PersamError as error:
            kind = CheckpointError if isinstance(error, CheckpointError) else PersamError
            how = ""
            if isinstance(model, str) and kind is CheckpointError:
                how = f" (fiftyone-persam models download {model})"
            raise kind(f"{error}{how}, {_CLICK}") from None

    def find(
        self, phrase: str, where: Any, tasks: Sequence[PhotoTask]
    ) -> tuple[SampleReference, Mark]:
        """The best mask of a phrase in one photo, or in some of those of the call."""
        from ...personalize import EvfSam

        fitted = EvfSam(self._sam).fit(TextReference(phrase))
        best: tuple[float, Any, Any] | None = None
        samples = self._photos(where, tasks)
        faults = []
        for sample in samples:
            try:
                (found,) = fitted.predict_embeddings([self._encode(sample.filepath)])
            except PersamError as error:
                faults.append(error)
                continue
            if found.candidate.any() and (best is None or found.score > best[0]):
                best = found.score, sample, found.candidate
        if best is None:
            if len(faults) == len(samples):
                raise faults[0]
            looked = Path(samples[0].filepath).name
            if len(samples) > 1:
                looked = f"any of {len(samples)} photos that were looked at"
            raise BadReferenceError(
                f"the phrase {phrase!r} finds nothing in {looked}: say it otherwise, or choose the "
                "photo that shows the object"
            )
        return self._reference(phrase, best[1], best[2])

    def _photos(self, where: Any, tasks: Sequence[PhotoTask]) -> list[Any]:
        if where is not None:
            return _spread(resolve_photos(self._dataset, where))
        return [self._dataset[task.id] for task in _spread(tasks)]

    def _encode(self, path: str) -> Any:
        from ...engine import encode_files

        if self._cache is None:
            return self._sam.encode([path])[0]
        return encode_files(self._sam, [path], self._cache)[0]

    def _reference(
        self, phrase: str, sample: Any, mask: npt.NDArray[np.bool_]
    ) -> tuple[SampleReference, Mark]:
        home = dataset_of_sample(sample)
        check_markable(home, self._field)
        known = [one for one in _labels(sample, self._field) if one.label == phrase]
        detection = masked_detection(mask, phrase)
        same = [one.id for one in known if _same(one, detection)]
        label_id = same[0] if same else str(ObjectId())
        reference = SampleReference(
            group="",
            dataset=home.name,
            dataset_id=str(dataset_id(home)),
            sample_id=sample.id,
            label_field=self._field,
            label_id=label_id,
            mask_value=None,
            filepath=sample.filepath,
            name=phrase,
            prompt=LabelPrompt(mask=mask),
        )
        mark = Mark(home, sample.id, mask, phrase, self._field, label_id)
        return replace(reference, text=phrase), mark


def _labels(sample: Any, field: str) -> list[Any]:
    label = sample[field] if sample.has_field(field) else None
    return list(getattr(label, "detections", None) or [])


def _same(one: Any, other: Any) -> bool:
    return bool(
        np.allclose(one.bounding_box, other.bounding_box, atol=1e-9)
        and one.mask is not None
        and np.array_equal(np.asarray(one.mask) > 0, other.mask)
    )
