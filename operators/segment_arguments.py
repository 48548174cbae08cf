"""The form's values as the arguments of one call of :func:`fiftyone_persam.segment`."""

from __future__ import annotations

from typing import Any

from .base import Context, mask_value_of
from .method_form import chosen_method, chosen_options, takes_words
from .more_options import FEATURES, keeps_embeddings
from .negatives import negative_arguments
from .phrase import PHRASE
from .reference import chosen_reference, group_references
from .scope import GIVEN, GROUPED, SAID, SEVERAL, TOGETHER
from .segment_form import chosen_model, skips_existing
from .several import chosen_objects
from .together import shown_together
from .video import has_videos, video_arguments


def segment_arguments(ctx: Context) -> dict[str, Any]:
    """The form's values as arguments of :func:`fiftyone_persam.segment`."""
    from fiftyone_persam.curation.forms.runs import fields_of_run

    given = ctx.params
    arguments: dict[str, Any] = {
        "method": chosen_method(ctx),
        "model": chosen_model(ctx),
        "out_field": given["out_field"],
        "label_type": given.get("label_type"),
        "skip_existing": bool(given.get("skip_existing")),
        "overwrite": bool(given.get("overwrite")),
        "similarity": bool(given.get("similarity")),
        "prompts": bool(given.get("prompts")),
        "compare_photos": bool(given.get("compare_photos")),
        "cache": bool(given.get("cache", keeps_embeddings())),
        "backend": given.get("backend"),
        "features": given.get(FEATURES) or None,
        **chosen_options(ctx),
    }
    # A call in Python means what it says. A form has one question for a run that is there, and
    # its other inputs may be left over from another name.
    fields = fields_of_run(ctx.dataset, given["out_field"])
    if fields is not None and not given.get("literal"):
        arguments |= {
            "skip_existing": skips_existing(ctx),
            "overwrite": not skips_existing(ctx),
            "label_type": fields.label_type,
            "similarity": fields.similarity,
            "prompts": fields.prompts,
            "compare_photos": fields.compare_photos,
        }
    if has_videos(ctx):
        return arguments | video_arguments(ctx)
    return arguments | _reference_arguments(ctx)


def _reference_arguments(ctx: Context) -> dict[str, Any]:
    """The references, what the object is not, and the labels that both are."""
    given, words = ctx.params, words_of(ctx)
    scope, field = given.get("scope"), given.get("label_field", "ground_truth")
    if scope == SAID:
        return {"reference": words[0]}
    if scope == SEVERAL:
        objects = given.get("objects")
        if objects is None:
            field, objects = chosen_objects(ctx)
        else:
            objects = {
                name: [(one, label) if label else one for one, label in some]
                for name, some in objects
            }
        return negative_arguments(ctx, None) | {"reference": objects, "label_field": field}
    if scope == TOGETHER:
        field, found = shown_together(ctx)
        pairs = [(sample, label) if label else sample for sample, label in found]
        return negative_arguments(ctx, None) | {"reference": pairs, "label_field": field}
    if scope == GIVEN:
        value = given.get("mask_value")
        return negative_arguments(ctx, None) | {
            "reference": [*given_references(ctx), *words],
            "label_field": field,
            "group_by": given.get("group_by"),
            "mask_value": mask_value_of(value),
        }
    if scope == GROUPED:
        return negative_arguments(ctx, None) | {
            "reference": group_references(ctx.dataset),
            "label_field": field,
            "group_by": given["group_by"],
        }
    if words and not takes_words(ctx):
        return {"reference": (given["reference"], words[0])}
    chosen = chosen_reference(ctx)
    pair = (chosen.sample, chosen.label_id) if chosen.label_id else chosen.sample
    return negative_arguments(ctx, chosen) | {
        "reference": [pair, *words] if words else pair,
        "label_field": chosen.label_field,
        "mask_value": chosen.mask_value,
    }


def given_references(ctx: Context) -> list[Any]:
    """What a call in Python gave as references."""
    return [(sample, label) if label else sample for sample, label in ctx.params["references"]]


def words_of(ctx: Context) -> list[Any]:
    """The phrase among what `segment` is given; a form's phrase may have become a label instead."""
    from fiftyone_persam.personalize import TextReference

    said = ctx.params.get("literal") or takes_words(ctx)
    return [TextReference(ctx.params[PHRASE])] if said and ctx.params.get(PHRASE) else []
