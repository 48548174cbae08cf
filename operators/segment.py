"""``segment_from_reference``: one labelled photo in, masks of the object in all the others out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set, ValuesView
from typing import Any

import fiftyone.operators.types as types
from bson import ObjectId
from fiftyone.core.collections import SampleCollection

from fiftyone_persam.errors import BadReferenceError

from .base import Context, PersamOperator, choose, from_app, show_fields
from .method_form import (
    GROUPED,
    OPTION,
    SAID,
    check_kind,
    chosen_method,
    chosen_options,
    method_inputs,
    takes_words,
)
from .negatives import negative_arguments, negative_inputs
from .phrase import PHRASE, can_say, phrase_inputs
from .reference import (
    ChosenReference,
    candidates,
    chosen_reference,
    group_references,
    has_group_references,
    reference_inputs,
)
from .segment_form import (
    announce,
    check_references,
    chosen_model,
    evaluation_inputs,
    group_inputs,
    keeps_embeddings,
    model_inputs,
    output_inputs,
    skips_existing,
    truth_field,
    truth_of,
)
from .several import SEVERAL, can_be_several, chosen_objects, several_inputs
from .streaming import Progress
from .targets import photos_to_segment
from .video import EVERY, has_videos, is_frame, video_arguments, video_inputs

# Where the references are from; GIVEN: a list of ids, which only a call in Python has.
# SAID: nowhere, a phrase is looked for in every photo.
ONE, GROUPS, GIVEN = "one", GROUPED, "given"


class SegmentFromReference(PersamOperator):
    """Form around :func:`fiftyone_persam.segment`."""

    operator = "segment_from_reference"
    label = "Segment my object"
    description = "Find the object of one labelled photo in all the others and mask it (PerSAM)"
    delegable = True
    generator = True
    view_target = True
    submit = "Segment"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Reference, photos, method, output, evaluation."""
        chosen: ChosenReference | None
        if has_videos(ctx):
            chosen, given = None, ctx.params.get("literal") and ctx.params.get("objects")
            if given or (chosen := video_inputs(ctx, inputs)) is not None:
                self._photos(ctx, inputs, several=True)
                method_inputs(ctx, inputs)
                check_kind(ctx, inputs, chosen if chosen and chosen.label_id != EVERY else None)
                model_inputs(ctx, inputs)
                output_inputs(ctx, inputs, chosen)
            return
        chosen = None
        scope = self._scope(ctx, inputs)
        said = bool(ctx.params.get("literal") and ctx.params.get(PHRASE))  # judged by `segment`
        if scope == SAID:
            if not said and not phrase_inputs(ctx, inputs):
                return
        elif scope == ONE and said and not takes_words(ctx):
            pass  # the phrase stands for the label
        elif scope == ONE:
            chosen = reference_inputs(ctx, inputs)
            if chosen is None:
                return
        elif scope == SEVERAL:
            if not ctx.params.get("literal") and not several_inputs(ctx, inputs):
                return
        elif scope == GROUPS:
            if not group_inputs(ctx, inputs):
                return
        else:
            field = ctx.params.get("label_field", "ground_truth")
            group_by = ctx.params.get("group_by")
            check_references(ctx, inputs, given_references(ctx), field, group_by)
        self._photos(ctx, inputs, several=len(candidates(ctx)) > 1)
        method_inputs(ctx, inputs)
        check_kind(ctx, inputs, chosen)
        negative_inputs(ctx, inputs, chosen)
        if said or not takes_words(ctx):
            model_inputs(ctx, inputs)
        elif scope != SAID and not phrase_inputs(ctx, inputs):
            return
        output_inputs(ctx, inputs, chosen)
        evaluation_inputs(ctx, inputs, chosen)

    @staticmethod
    def _photos(ctx: Context, inputs: Any, several: bool) -> None:
        inputs.view_target(
            ctx,
            action_description="Segment",
            allow_selected_samples=several,
            default_target="CURRENT_VIEW",
        )
        announce(ctx, inputs)

    def resolve_placement(self, ctx: Context) -> Any:
        """A button over the grid."""
        return _button(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS)

    def _scope(self, ctx: Context, inputs: Any) -> str:
        given = ctx.params.get("scope")
        if given == GIVEN or (given in (SAID, SEVERAL) and ctx.params.get("literal")):
            return str(given)
        offered = {ONE: "The photo I selected"}
        if has_group_references(ctx.dataset):
            offered[GROUPS] = "Each object's own reference photo"
        if given == SEVERAL or can_be_several(ctx):
            offered[SEVERAL] = "Several objects, by the names of their labels"
        if can_say():
            offered[SAID] = "Words, in every photo"
        if len(offered) == 1:
            return ONE
        default = GROUPS if GROUPS in offered and not candidates(ctx) else ONE
        choose(inputs, "scope", offered, "Reference", default=default, radio=True)
        return given or default

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Segment, and evaluate where asked for."""
        import fiftyone_persam as fp

        view, name = photos_to_segment(ctx), ctx.params["out_field"]
        if ctx.params.get("download"):
            fp.load_sam(ctx.params.get("model", "sam_lite"), download=True)

        def work() -> dict[str, Any]:
            run = fp.segment(view, progress=progress, **segment_arguments(ctx))
            shown = f"frames.{name}" if has_videos(ctx) else name
            result: dict[str, Any] = {"run": name, "fields": [shown], **run_facts(run)}
            if ctx.params.get("evaluate"):
                progress.stage = "Evaluating"
                result = evaluated(ctx, view, result)
            return result

        return progress.published(ctx.dataset, name, work)

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the new masks and say what happened."""
        result = result or {}
        return [
            ctx.ops.clear_selected_samples(),
            ctx.ops.reload_dataset(),
            show_fields(ctx, *result["fields"]),
            ctx.ops.notify(
                result["summary"], variant="warning" if "warning" in result else "success"
            ),
        ]

    def in_panel(self, ctx: Context) -> bool:
        """In the App, unless the user does not want the panel."""
        wanted = bool(ctx.params.get("open_review", True)) and not has_videos(ctx)
        return from_app(ctx) and wanted

    def resolve_run_name(self, ctx: Context) -> str:
        """The name in the list of delegated operations."""
        return f"Segment into {ctx.params.get('out_field')}"

    def __call__(
        self,
        sample_collection: Any,
        reference: Any,
        label_field: str = "ground_truth",
        label_id: str | None = None,
        mask_value: int | None = None,
        method: str = "persam_f",
        model: str = "sam_lite",
        out_field: str = "object_masks",
        label_type: str | None = None,
        evaluate: bool = False,
        group_by: str | None = None,
        skip_existing: bool = False,
        similarity: bool = False,
        prompts: bool = False,
        compare_photos: bool = False,
        cache: bool = False,
        backend: str | None = None,
        delegate: bool = False,
        overwrite: bool = False,
        negatives: Any = None,
        negatives_field: str | None = None,
        use_rejected: bool = True,
        **options: Any,
    ) -> Any:
        """Segment the object of ``reference`` in every photo of a dataset or view.

        Args:
            sample_collection: a dataset or view
            reference: a sample, its id, or a (sample, label id) pair; of a video (sample, frame
                number) or (sample, frame number, label id); or several of one object, or
                one per object of ``group_by``: a view of samples, or a list of these; or a
                ``TextReference``, alone, in a (sample, ``TextReference``) pair, or in a list; or a
                mapping of names to references, for several objects at once
            label_field: the field of the reference's label
            label_id: which of its labels, where there are several
            mask_value: which value of a segmentation mask
            method: see :func:`fiftyone_persam.list_methods`
            model: see :func:`fiftyone_persam.list_models`
            out_field: the run's name and field
            label_type: ``"segmentation"``, ``"detections"`` or ``"both"``; by default the second
                for videos, the first for photos
            evaluate: compare with ``label_field`` afterwards
            group_by: field that names each photo's object: several references need one per value;
                one reference leaves it to the evaluation
            skip_existing: segment only photos that have no mask of this run yet
            similarity: write similarity maps, too
            prompts: write the prompt points, too
            compare_photos: in the end, a photo whose match is far behind the best ones loses
                presence
            cache: keep embeddings for other runs on these photos
            backend: ``"local"``, ``"devices"`` or ``"ray"``
            delegate: queue it for ``fiftyone delegated launch``
            overwrite: do these photos of a run of this name again
            negatives: what the object is not: as ``reference``, without names or words
            negatives_field: the label field of the negatives; ``label_field`` if None
            use_rejected: learn from masks that reviews have rejected
            options: of the method, see :func:`fiftyone_persam.list_methods`
        """
        chosen: dict[str, Any]
        phrase = None
        if not isinstance(reference, Mapping) and not is_frame(reference):
            reference, phrase = _without_words(_listed(reference))
        if isinstance(reference, Mapping):
            named = [
                [name, [_plain(o) for o in ([some] if is_frame(some) else _each(some))]]
                for name, some in reference.items()
            ]
            chosen = {"scope": SEVERAL, "objects": named}
        elif is_frame(reference):
            sample_id, number, chosen_label = _plain(reference)
            chosen = {"reference": sample_id, "frame": str(number), "label_id": chosen_label}
        elif reference is None:
            chosen = {"scope": SAID}
        elif _are_several(reference):
            chosen = {"scope": GIVEN, "references": [_by_id(one) for one in reference]}
        else:
            sample_id, chosen_label = _by_id(reference)
            chosen = {"scope": ONE, "reference": sample_id, "label_id": chosen_label or label_id}
        return self.call(
            sample_collection,
            delegate=delegate,
            **chosen,
            phrase=phrase,
            label_field=label_field,
            mask_value=None if mask_value is None else str(mask_value),
            method=method,
            model=model,
            out_field=out_field,
            label_type=label_type or _label_type(sample_collection),
            evaluate=evaluate,
            group_by=group_by,
            skip_existing=skip_existing,
            overwrite=overwrite,
            literal=True,
            negatives=None if negatives is None else [_by_id(one) for one in _each(negatives)],
            negatives_field=negatives_field,
            use_rejected=use_rejected,
            similarity=similarity,
            prompts=prompts,
            compare_photos=compare_photos,
            cache=cache,
            backend=backend,
            **{f"{OPTION}{name}": value for name, value in options.items()},
        )


class SegmentFromOpened(SegmentFromReference):
    """The same form, for the button over an opened photo."""

    operator = "segment_from_opened"
    unlisted = True

    def resolve_placement(self, ctx: Context) -> Any:
        """A button over an opened photo."""
        return _button(types.Places.SAMPLES_VIEWER_ACTIONS)


def _label_type(collection: Any) -> str:
    from fiftyone_persam.curation.forms.films import has_videos

    return "detections" if has_videos(collection) else "segmentation"


def _button(place: Any) -> Any:
    button = types.Button(
        label=SegmentFromReference.label, icon=SegmentFromReference.icon, prompt=True
    )
    return types.Placement(place, button)


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


def given_references(ctx: Context) -> list[Any]:
    """What a call in Python gave as references."""
    return [(sample, label) if label else sample for sample, label in ctx.params["references"]]


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
    words = _words(ctx)
    if given.get("scope") == SAID:
        return arguments | {"reference": words[0]}
    if given.get("scope") == SEVERAL:
        field, objects = given.get("label_field", "ground_truth"), given.get("objects")
        if objects is None:
            field, objects = chosen_objects(ctx)
        else:
            objects = {
                name: [(one, label) if label else one for one, label in some]
                for name, some in objects
            }
        found = {"reference": objects, "label_field": field}
        return arguments | found | negative_arguments(ctx, None)
    if given.get("scope") == GIVEN:
        value = given.get("mask_value")
        return (
            arguments
            | negative_arguments(ctx, None)
            | {
                "reference": [*given_references(ctx), *words],
                "label_field": given.get("label_field", "ground_truth"),
                "group_by": given.get("group_by"),
                "mask_value": int(value) if value else None,
            }
        )
    if given.get("scope") == GROUPS:
        return (
            arguments
            | negative_arguments(ctx, None)
            | {
                "reference": group_references(ctx.dataset),
                "label_field": given.get("label_field", "ground_truth"),
                "group_by": given["group_by"],
            }
        )
    if words and not takes_words(ctx):
        return arguments | {"reference": (given["reference"], words[0])}
    chosen = chosen_reference(ctx)
    pair = (chosen.sample, chosen.label_id) if chosen.label_id else chosen.sample
    return (
        arguments
        | negative_arguments(ctx, chosen)
        | {
            "reference": [pair, *words] if words else pair,
            "label_field": chosen.label_field,
            "mask_value": chosen.mask_value,
        }
    )


def _words(ctx: Context) -> list[Any]:
    """The phrase among what `segment` is given; a form's phrase may have become a label instead."""
    from fiftyone_persam.personalize import TextReference

    said = ctx.params.get("literal") or takes_words(ctx)
    return [TextReference(ctx.params[PHRASE])] if said and ctx.params.get(PHRASE) else []


def run_facts(run: Any) -> dict[str, Any]:
    """What the App says about a finished run."""
    return {"summary": str(run), "counts": dict(run.counts)}


def evaluated(ctx: Context, view: Any, result: dict[str, Any]) -> dict[str, Any]:
    """A run's result with its evaluation; the run has succeeded, whatever comes of that."""
    try:
        result = result | evaluate_run(ctx, view, result["run"])
    except Exception as error:  # FiftyOne's own, too: the masks are there all the same
        reason = " ".join(str(error).split()) or type(error).__name__
        summary = f"{result['summary']}; not evaluated: {reason}"
        return result | {"summary": summary, "warning": reason}
    return result | {"summary": f"{result['summary']}, mIoU {result['metrics']['mIoU']:.3f}"}


def evaluate_run(ctx: Context, view: Any, name: str) -> dict[str, Any]:
    """Evaluate a run's masks, in the same operation."""
    import fiftyone_persam as fp

    several = ctx.params.get("scope") in (GROUPS, GIVEN, SAID, SEVERAL)
    several = several or bool(_words(ctx) and not takes_words(ctx))
    chosen = None if several else chosen_reference(ctx)
    truth = truth_of(ctx, view, chosen)
    alone = ctx.params.get("scope") not in (GROUPS, SEVERAL)
    value = ctx.params.get("mask_value") if alone else None
    results = fp.evaluate(
        view if truth is None else truth.samples,
        name,
        gt_field=truth_field(ctx, chosen),
        eval_key=f"{name}_eval",
        group_by=ctx.params.get("group_by"),
        mask_value=int(value) if value else None,
    )
    return {"eval_key": f"{name}_eval", "metrics": plain_metrics(results)}


def plain_metrics(results: Any) -> dict[str, float]:
    """An evaluation's numbers, as numbers that JSON knows."""
    return {name: float(value) for name, value in results.metrics().items() if value is not None}
