"""What the form that segments shows under "More options", in groups."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, choose, refuse
from .method_form import chosen_method, chosen_options, option_inputs, option_names, sentence
from .scope import SEVERAL
from .video import has_videos

INSTANCES = "max_instances"
"""The one option that is asked for at once: how many of it a photo may show."""
_FOUND = ("presence_threshold", "candidates", "several_references")
_PLACED = ("location_prior", "positive_points", "negative_prior")
_DECODED = ("mode", "guided_attention", "semantic_prompt", "post_refinement")
FEATURES = "features"


def instances_input(ctx: Context, inputs: Any) -> None:
    """How many of the object a photo may show, where the method can look for several."""
    if ctx.params.get("scope") != SEVERAL:  # those compete: each is one thing in a photo
        option_inputs(ctx, inputs, [INSTANCES])


def more_inputs(ctx: Context, inputs: Any, new: bool) -> None:
    """Everything else that a run can be told.

    Args:
        ctx: the operator's
        inputs: the form
        new: whether the run begins now; one that is there writes what it has written
    """
    names = option_names(ctx)
    known = {INSTANCES, *_FOUND, *_PLACED, *_DECODED}
    rest = [name for name in names if name not in known]
    _header(inputs, "found", "Is it there, how many, which one")
    option_inputs(ctx, inputs, _FOUND)
    if new and not has_videos(ctx) and ctx.params.get("scope") != SEVERAL:
        inputs.bool(
            "compare_photos",
            default=False,
            label="Compare the photos with one another",
            description=(
                "In the end, a photo whose match is far behind the best ones counts as less certain"
            ),
        )
    if any(name in names for name in _PLACED):
        _header(inputs, "placed", "Where it is looked for")
        option_inputs(ctx, inputs, _PLACED)
        features_input(ctx, inputs)
    if rest:
        _header(inputs, "learnt", "How it is learnt")
        option_inputs(ctx, inputs, rest)
    if any(name in names for name in _DECODED):
        _header(inputs, "decoded", "How its mask is made")
        option_inputs(ctx, inputs, _DECODED)
    if new:
        _header(inputs, "written", "What is written beside the masks")
        inputs.bool(
            "similarity",
            default=False,
            label="Similarity maps",
            description="How much each place looks like the object, as a heatmap field",
        )
        inputs.bool(
            "prompts",
            default=False,
            label="Prompt points",
            description="The points SAM was given, as a keypoints field",
        )
    _header(inputs, "machine", "How the work is done")
    _machine_inputs(ctx, inputs)


def check_options(ctx: Context, inputs: Any) -> None:
    """Refuse options that cannot be had together, before the run does."""
    from fiftyone_persam.curation.forms.models import problem_with_options
    from fiftyone_persam.personalize import METHODS

    method = chosen_method(ctx)
    if method not in METHODS or ctx.params.get("literal"):  # judged by `segment`
        return
    if problem := problem_with_options(method, chosen_options(ctx)):
        refuse(inputs, problem, name="options_problem")


def features_input(ctx: Context, inputs: Any) -> None:
    """Another network that finds the object, while the model masks it."""
    from fiftyone_persam.curation.forms.models import problem_with_features

    prop = inputs.str(
        FEATURES,
        label="Second backbone",
        description="Finds the object in place of the model: timm/<model>, such as timm/resnet50",
    )
    if problem := problem_with_features(ctx.params.get(FEATURES) or None):
        prop.invalid = True
        prop.error_message = problem


def _machine_inputs(ctx: Context, inputs: Any) -> None:
    from fiftyone_persam.engine import BACKENDS, available_backends

    inputs.bool(
        "cache",
        default=keeps_embeddings(),
        label="Keep what the model saw in each photo",
        description="Other runs on these photos are many times faster then; at most 10 GB",
    )
    backends = available_backends()
    if len(backends) > 1:
        named = {name: sentence(BACKENDS[name].help) for name in backends}
        choose(inputs, "backend", named, "Where the work is done", default=backends[0])
    if not has_videos(ctx):
        inputs.bool("open_review", default=True, label="Open the review panel")


def keeps_embeddings() -> bool:
    """Whether the user has chosen before to keep embeddings: then runs go on with it."""
    from fiftyone_persam.engine.disk_cache import default_cache_dir

    return default_cache_dir().is_dir()


def _header(inputs: Any, name: str, text: str) -> None:
    inputs.view(f"{name}_header", types.Header(label=text, divider=True))
