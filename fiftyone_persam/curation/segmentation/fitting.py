"""The objects of a run: their references, and a predictor that has learnt each of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import fiftyone as fo

from ...engine.job import PhotoTask, Predictor
from ...errors import BadReferenceError
from ...personalize.registries import METHODS
from ..database import photos_of
from ..labels.objects import resolve_objects
from ..labels.references import AnyReference, PhraseReference
from ..labels.resolving import resolve_references
from ..runs.record import Parameters
from .plan import OBJECT, Plan

if TYPE_CHECKING:
    from ...engine import EmbeddingCache
    from ...sam import Contrast, ImageEmbedding, PromptableSam
    from ..labels.references import SampleReference

THRESHOLD = "presence_threshold"
"""An argument of `segment` itself, which methods that look at it have as an option."""
logger = logging.getLogger(__name__)


def choose_references(
    dataset: Any, reference: Any, parameters: Parameters, tasks: Sequence[PhotoTask]
) -> list[AnyReference]:
    """The references of the objects that the photos show."""
    if isinstance(reference, Mapping):
        return resolve_objects(dataset, reference, parameters.label_field, parameters.mask_value)
    found = resolve_references(
        dataset,
        reference,
        parameters.label_field,
        parameters.group_by,
        parameters.mask_value,
    )
    wanted = {task.group for task in tasks}
    check_covered(wanted, {one.group for one in found}, parameters.group_by)
    if parameters.group_by is None and len(found) > 1:
        _warn_of_several_objects(found)
    return [one for one in found if one.group in wanted]


def _warn_of_several_objects(references: Sequence[AnyReference]) -> None:
    """PerSeg's samples name their object: references of several are one by mistake."""
    names: set[str] = set()
    references = [one for one in references if one.sample_id]
    for home in {one.dataset for one in references}:
        photos = photos_of(fo.load_dataset(home))
        if photos.has_field(OBJECT):
            ids = [one.sample_id for one in references if one.dataset == home]
            names.update(map(str, photos.select(ids).distinct(OBJECT)))
    if len(names) > 1:
        logger.warning(
            "the references show %d objects (%s) and are taken as one: give group_by=%r for one "
            "reference per object",
            *(len(names), ", ".join(sorted(names)[:5]), OBJECT),
        )


def check_covered(wanted: set[str], found: set[str], group_by: str | None) -> None:
    """Raise BadReferenceError unless every object of the photos has a reference."""
    missing = sorted(wanted - found)
    if missing:
        listed = ", ".join(repr(group) for group in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise BadReferenceError(
            f"no reference for {listed}{more} in {group_by!r}: "
            "give one per object, or leave these photos out"
        )


def learn(plan: Plan, cache: EmbeddingCache | None = None) -> Plan:
    """A plan with a fitted predictor per object, and with all of the method's defaults.

    Raises:
        BadReferenceError: the method cannot learn from a reference.
        PhotoError: a reference photo cannot be read.
    """
    started = time.perf_counter()
    followed = all(task.sequence for task in plan.tasks)
    predictors, parameters = fit(
        *(plan.method, plan.sam, plan.parameters, plan.references),
        *(cache, plan.negatives, followed),
    )
    seconds = time.perf_counter() - started
    return replace(plan, predictors=predictors, parameters=parameters, fitting=seconds)


def fit(
    method: str,
    sam: PromptableSam,
    parameters: Parameters,
    references: Sequence[AnyReference],
    cache: EmbeddingCache | None = None,
    negatives: Sequence[SampleReference] = (),
    followed: bool = False,
) -> tuple[dict[str, Predictor], Parameters]:
    """One fitted predictor per object, and the parameters with all of the method's defaults.

    One for all objects where a photo may have several; of ``followed`` ones all photos are frames
    of sequences.
    """
    from ...engine import encode_pictures
    from ...personalize import TextReference
    from ...personalize.several import SeveralObjects

    build: Any = METHODS[method]
    options = dict(parameters.options)
    if any(option.name == THRESHOLD for option in build.options()):
        options[THRESHOLD] = parameters.presence_threshold
    fitted: dict[str, Predictor] = {}
    settings: dict[str, Any] = {}
    contrast: Contrast | None = None
    for group in dict.fromkeys(reference.group for reference in references):
        chosen = [one for one in references if one.group == group]
        said = [TextReference(one.text) for one in chosen if isinstance(one, PhraseReference)]
        shown = [one for one in chosen if not isinstance(one, PhraseReference)]
        if not parameters.objects:
            contrast = None  # each object's photos have a range of values of their own
        loaded = [one.load(contrast) for one in shown[:1]]
        contrast = loaded[0].contrast if loaded else contrast
        loaded += [one.load(contrast) for one in shown[1:]]
        others = [one.load(contrast) for one in negatives if one.group in ("", group)]
        predictor = build(sam, **options)
        more: dict[str, Any] = {"negatives": others} if others else {}
        if cache is not None and getattr(predictor, "looks_smaller", False):
            more["encode"] = partial(encode_pictures, sam, cache)
        embeddings = _embeddings(sam, shown, cache, contrast)
        fitted[group] = predictor.fit([*said, *loaded], embeddings, **more)
        settings = dict(predictor.settings)
    threshold = settings.pop(THRESHOLD, parameters.presence_threshold or 0.0)
    if parameters.objects:
        named: dict[str, Any] = {name: fitted[name] for name in parameters.objects}
        fitted = {"": SeveralObjects(named, followed)}
    return fitted, replace(parameters, presence_threshold=threshold, options=settings)


def _embeddings(
    sam: PromptableSam,
    references: Sequence[SampleReference],
    cache: EmbeddingCache | None,
    contrast: Contrast | None,
) -> list[ImageEmbedding] | None:
    """Embeddings of the references' photos by way of a cache; None where none can serve."""
    from ...engine import encode_files

    if cache is None or not references or any(one.frame is not None for one in references):
        return None
    return encode_files(sam, [one.filepath for one in references], cache, contrast)


def name_of_features(sam: Any) -> str | None:
    """The name of the backbone that a model finds objects by; None for its own features."""
    return getattr(getattr(sam, "features", None), "name", None)
