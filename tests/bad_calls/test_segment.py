"""Bad calls of `segment` and `resume_run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone as fo

import fiftyone_persam as fp
from fiftyone_persam.engine import DiskCache, MemoryCache
from fiftyone_persam.errors import BadReferenceError, PersamError, RunConflictError

from .cases import Bad, refused, table
from .world import UNKNOWN_ID, World

NAN = float("nan")


def segment(
    name: str,
    says: str,
    error: type[Exception] = PersamError,
    samples: Callable[[World], Any] | None = None,
    **changes: Any,
) -> Bad:
    def call(w: World) -> Any:
        given = {k: v(w) if callable(v) else v for k, v in changes.items()}
        return w.segment(samples(w) if samples else None, **given)

    return Bad(name, call, says, error)


def photos(name: str, samples: Callable[[World], Any], says: str) -> Bad:
    return Bad(
        name,
        lambda w: fp.segment(samples(w), w.photos.first(), method="persam", model=w.sam),
        says,
    )


PHOTOS = (
    photos("samples-none", lambda w: None, "NoneType is not a FiftyOne dataset or view: give one"),
    photos("samples-name", lambda w: w.photos.name, "str is not a FiftyOne dataset or view: "),
    photos("samples-list", lambda w: list(w.photos), "list is not a FiftyOne dataset or view: "),
    photos("samples-sample", lambda w: w.photos.first(), "Sample is not a FiftyOne dataset.*: "),
    photos("samples-empty", lambda w: w.empty, "no photo to segment: .*empty"),
    photos("samples-empty-view", lambda w: w.photos.match_tags("nobody"), "no photo to segment: "),
    photos("samples-deleted", lambda w: w.deleted, "'bad-calls-deleted' is deleted: load"),
    photos("samples-groups", lambda w: w.groups, "is grouped: choose its photos"),
    photos("samples-videos", lambda w: w.videos, "film.mp4 does not exist: check its path"),
    photos("samples-clips", lambda w: w.clips, "film.mp4 does not exist: check its path"),
    photos("samples-patches", lambda w: w.patches, "patches view of .* shows objects, .*: give"),
    photos("samples-frames", lambda w: w.frames.limit(0), "no frame to segment: .*empty"),
)


def reference(name: str, given: Callable[[World], Any], says: str) -> Bad:
    return Bad(
        name,
        lambda w: fp.segment(w.photos, given(w), method="persam", model=w.sam, out_field="new"),
        says,
        BadReferenceError,
    )


def label(field: Any, says: str, name: str | None = None, **more: Any) -> Bad:
    error = BadReferenceError
    return segment(f"label-{name or field}", says, error, label_field=field, **more)


REFERENCES = (
    reference("reference-none", lambda w: None, "NoneType is not a reference: give a sample"),
    reference("reference-number", lambda w: 3, "int is not a reference: "),
    reference("objects-empty", lambda w: {}, "the reference names no object: give"),
    reference("objects-blank", lambda w: {" ": w.id()}, "' ' is not the name of an object: give"),
    reference("objects-line", lambda w: {"a\nb": w.id()}, "is not the name of an object: give"),
    reference("objects-number", lambda w: {3: w.id()}, "3 is not the name of an object: give"),
    reference("objects-none", lambda w: {"mug": None}, "object 'mug': NoneType is not a ref.*: "),
    reference("objects-same", lambda w: {"a": w.id(), "b": w.id()},
              "objects 'a' and 'b' have the same reference .*: give"),
    segment("objects-grouped", "looks for all of them in every photo: leave", BadReferenceError,
            reference=lambda w: {"mug": w.id()}, group_by="note"),
    segment("negatives-number", "negatives: int is not a reference: give", BadReferenceError,
            negatives=3),
    segment("negatives-own", "lies on the reference itself: give", BadReferenceError,
            negatives=lambda w: w.id()),
    segment("negatives-named", "negatives are of 'cat', and the run is of one object: give",
            negatives=lambda w: {"cat": w.id()}),
    segment("negatives-field", "negatives: .*has no field 'nix': ", BadReferenceError,
            negatives=lambda w: w.id(), negatives_field="nix"),
    segment("negatives-released", "cannot learn from negatives, .*: leave them out",
            negatives=lambda w: w.id(), mode="reference"),
    segment("use-rejected", "use_rejected 'no' is not a switch: give", use_rejected="no"),
    reference("reference-unknown-id", lambda w: UNKNOWN_ID, f"no sample with id '{UNKNOWN_ID}': "),
    reference("reference-bad-id", lambda w: "first", "no sample with id 'first': give"),
    reference("reference-empty-id", lambda w: "", "no sample with id '': give"),
    reference("reference-unknown-path", lambda w: w.path("x.png"), "no sample with id .*: give"),
    reference("reference-in-no-dataset", lambda w: fo.Sample("loose.png"),
              "loose.png is in no dataset: add"),
    reference("reference-empty-list", lambda w: [], "the reference is empty: give"),
    reference("reference-empty-view", lambda w: w.photos.match_tags("x"), "reference is empty: "),
    reference("reference-list-with-none", lambda w: [w.id(), None], "NoneType is not a reference"),
    reference("reference-list-with-view", lambda w: [w.photos], "a view inside a list .*: "),
    reference("reference-video", lambda w: w.videos.first(), "(?i)film.mp4 .*: "),
    reference("label-id-unknown", lambda w: (w.id(), UNKNOWN_ID),
              f"no label with id '{UNKNOWN_ID}' in 'ground_truth': give"),
    label("ground_trut", "no field 'ground_trut': .*did you mean 'ground_truth'"),
    label("", "no field '': ", "empty"),
    label(None, "no field None: ", "none"),
    label("boxes.detections", "'boxes.detections' of reference .* marks no object: use", "inner"),
    label("number", "'number' of reference .* holds a float.*: use"),
    label("note", "'note' of reference .* holds a str.*: use"),
    label("kind", "holds a Classification.*: use"),
    label("filepath", "'filepath' of reference .* holds a str"),
    label("boxes", "has 2 labels in 'boxes': choose one with reference=\\(sample, label id\\)"),
    label("no_boxes", "no label in 'no_boxes': label"),
    label("outside", "in 'outside' has a box .*: draw it again"),
    label("flat", "in 'flat' has a box without area: draw"),
    label("nan_box", "in 'nan_box' has a box .*: draw"),
    label("inf_box", "in 'inf_box' has a box .*: draw"),
    label("blank", "in 'blank' has an empty mask: draw"),
    label("line", "in 'line' surrounds no area: "),
    label("far_line", "in 'far_line' lies outside its photo: draw"),
    label("dots", "in 'dots' has no point on the object: set"),
    label("far_dots", "in 'far_dots' .*outside.*: "),
    label("beside", "in 'beside' has no point on the object: set"),
    label("empty_mask", "in 'empty_mask' is empty: choose"),
    label("no_mask", "in 'no_mask' has no mask: draw"),
    label("other_size", "20 x 48 pixels but its photo is 64 x 48 .*: make both"),
    label("lost_mask", "in 'lost_mask' cannot be read .*: check its file"),
    label("text_mask", "in 'text_mask' cannot be read .*: check its file"),
    label("boxes", "no label in 'boxes': label", "unlabelled-photo",
          reference=lambda w: w.photos.last()),
    segment("mask-value-absent", "has no pixel of value 7: choose", BadReferenceError,
            mask_value=7),
    segment("mask-value-colour", "is not a colour mask: mask_value", BadReferenceError,
            mask_value="#ff0000"),
    segment("mask-value-bool", "mask_value True is not a pixel value: give", mask_value=True),
    segment("mask-value-half", "mask_value 1.5 is not a pixel value: give", mask_value=1.5),
    segment("mask-value-word", "mask_value 'red' .*: give", mask_value="red"),
)  # fmt: skip


def out_field(value: Any, name: str | None = None, says: str = "cannot name a field: use") -> Bad:
    return segment(f"out-field-{name or value}", says, out_field=value)


NAMES = (
    out_field(None, "none"),
    out_field(3, "three"),
    out_field("", "empty"),
    out_field(" ", "space"),
    out_field("my run", "two-words"),
    out_field("a.b", "dot"),
    out_field("..", "dots"),
    out_field("../up", "upwards"),
    out_field("/etc/run", "absolute"),
    out_field("a/b", "slash"),
    out_field("a\\b", "backslash"),
    out_field("$a", "dollar"),
    out_field("_a", "underscore"),
    out_field("1a", "digit"),
    out_field("a-b", "dash"),
    out_field("hündchen", "umlaut"),
    out_field("a\nb", "line-break"),
    out_field("a\0b", "nul"),
    out_field("x" * 200, "too-long", "cannot name a field: .*100"),
    out_field("id", says="has a field 'id' .*: choose"),
    out_field("filepath", says="has a field 'filepath' .*: choose"),
    out_field("tags", says="has a field 'tags' .*: choose"),
    out_field("metadata", says="has a field 'metadata' .*: choose"),
    out_field("save", says="'save' .*: choose"),
    out_field("to_dict", says="'to_dict' .*: choose"),
    out_field("frames", says="'frames' .*: choose"),
    out_field("number", says="has a field 'number' that no run has written: choose"),
    out_field("ground_truth", says="has a field 'ground_truth'.*: choose"),
    out_field("der", "whose-score-exists", "has a field 'der_score'.*: choose"),
    segment("run-exists", "has a run 'mine' already: go on with it with skip_existing",
            RunConflictError, out_field="mine"),
    segment("run-of-another-tool", "has a run 'foreign' of another tool: choose",
            RunConflictError, out_field="foreign"),
    segment("field-of-a-run", "field 'mine_score' belongs to run 'mine': choose",
            RunConflictError, out_field="mine_score"),
    segment("run-of-other-fields", "run 'mine' writes other fields .*: ask for the same",
            RunConflictError, out_field="mine", label_type="both", skip_existing=True),
    segment("run-skip-and-overwrite", "skip_existing and overwrite contradict .*: choose",
            out_field="mine", skip_existing=True, overwrite=True),
)  # fmt: skip

SETTINGS = (
    segment("method-unknown", "method 'persam-f' is not known: choose .*persam_f",
            method="persam-f"),
    segment("method-none", "method None is not known: choose", method=None),
    segment("method-list", r"method \['persam'\] is not known: choose", method=["persam"]),
    segment("segment-model-unknown", "model 'sam_light' is not known: .*did you mean 'sam_lite'",
            model="sam_light"),
    segment("group-by-unknown", "no field 'color': .*did you mean 'colour'", group_by="color"),
    segment("group-by-number", "no field 3: ", group_by=3),
    segment("group-by-empty", "no field '': ", group_by=""),
    segment("group-by-inner", "no field 'kind.label': group_by takes", group_by="kind.label"),
    segment("group-by-list", "group_by 'tags' .*: ", group_by="tags"),
    segment("group-by-label", "group_by 'ground_truth' .*: ", group_by="ground_truth"),
    segment("group-by-none-values", "3 photos have no value in 'partly': set", group_by="partly"),
    segment("group-without-reference", "no reference for 'blue' in 'colour': give",
            BadReferenceError, samples=lambda w: w.album, reference=lambda w: w.album.first(),
            group_by="colour", out_field="fresh"),
    segment("label-type", "label_type 'masks' is not known: choose", label_type="masks"),
    segment("label-type-number", "label_type 3 is not known: choose", label_type=3),
    segment("mask-storage", "mask_storage 's3' is not known: choose", mask_storage="s3"),
    segment("masks-dir-number", "masks_dir 3 is not a folder: give", masks_dir=3),
    segment("masks-dir-empty", "masks_dir '' is not a folder: give", masks_dir=""),
    segment("masks-dir-file", "masks cannot be written into .*text.png.*: ",
            masks_dir=lambda w: w.path("text.png")),
    segment("masks-dir-below-file", "masks cannot be written into .*text.png.*: ",
            masks_dir=lambda w: w.path("text.png/masks")),
    segment("masks-dir-nul", "masks_dir .* is not a folder: give", masks_dir="a\0b"),
    segment("masks-dir-too-long", "masks cannot be written into .*: ",
            masks_dir="/tmp/" + "x" * 300),
    segment("masks-dir-of-another-run", "belongs to run 'mine' .*: choose", RunConflictError,
            masks_dir=lambda w: fp.load_run(w.photos, "mine").masks_dir),
    segment("masks-dir-moved", "keeps its masks in .*: leave masks_dir out", RunConflictError,
            out_field="mine", overwrite=True, masks_dir=lambda w: w.path("hollow")),
    segment("similarity-text", "similarity 'no' .*: give True or", similarity="no"),
    segment("prompts-number", "prompts 2 .*: give True or", prompts=2),
    segment("overwrite-text", "overwrite 'false' .*: give True or", overwrite="false",
            out_field="mine"),
    segment("skip-existing-number", "skip_existing 1 .*: give True or", skip_existing=1),
    segment("threshold-2", "presence_threshold 2 is out of range: give", presence_threshold=2),
    segment("threshold-negative", "presence_threshold -0.1 .*: give", presence_threshold=-0.1),
    segment("threshold-nan", "presence_threshold nan .*: give", presence_threshold=NAN),
    segment("threshold-bool", "presence_threshold True .*: give", presence_threshold=True),
    segment("threshold-text", "presence_threshold '0.5' .*: give", presence_threshold="0.5"),
    segment("batch-size-0", "batch_size 0 .*: give", batch_size=0),
    segment("batch-size-negative", "batch_size -4 .*: give", batch_size=-4),
    segment("batch-size-bool", "batch_size True .*: give", batch_size=True),
    segment("batch-size-half", "batch_size 1.5 .*: give", batch_size=1.5),
    segment("batch-size-text", "batch_size '4' .*: give", batch_size="4"),
    segment("num-workers-0", "num_workers 0 .*: give", num_workers=0),
    segment("num-workers-bool", "num_workers False .*: give", num_workers=False),
    segment("device-unknown", "device 'gpu0' is not known: use", device="gpu0"),
    segment("dtype-unknown", "dtype 'half' is not known: use", dtype="half"),
    segment("compile-unknown", "compile 'yes' is not known: give", compile="yes"),
    segment("cache-number", "cache 3 is not a cache: give", cache=3),
    segment("cache-empty", "cache '' is not a cache: give", cache=""),
    segment("cache-file", "embeddings cannot be cached in .*text.png: choose",
            cache=lambda w: w.path("text.png")),
    segment("backend-name", "backend 'slurm' .*: give", backend="slurm"),
    segment("backend-class", "backend .*: give", backend=lambda w: DiskCache),
    segment("progress-number", "progress 3 .*: ", progress=3),
    segment("option-unknown", "'post_refinment' is not an argument .*: .*did you mean "
            "'post_refinement'", post_refinment=False),
    segment("option-of-other-method", "'steps' is not an argument .* of persam: ", steps=10),
    segment("option-mode", "mode 'fast' is not known: use", mode="fast"),
    segment("option-steps", "steps -1 .*: use", method="persam_f", steps=-1),
    segment("option-switch", "guided_attention 'off' .*: give", guided_attention="off"),
    Bad("disk-cache-limit", lambda w: DiskCache(w.path("c"), max_bytes=0), "max_bytes 0 .*: give"),
    Bad("disk-cache-bool", lambda w: DiskCache(w.path("c"), True), "max_bytes True .*: give"),
    Bad("disk-cache-nul", lambda w: DiskCache("a\0b"), "cached in .*: choose"),
    Bad("memory-cache-limit", lambda w: MemoryCache(-1), "max_bytes -1 .*: give"),
)  # fmt: skip


def resume(title: str, says: str, error: type[Exception] = PersamError, **changes: Any) -> Bad:
    def call(w: World) -> Any:
        return fp.resume_run(w.photos, **{"name": "stopped", "model": w.sam, **changes})

    return Bad(title, call, says, error)


RESUMED = (
    resume("resume-unknown", "has no run 'stoped': choose .*did you mean 'stopped'",
           name="stoped"),
    resume("resume-none", "has no run None: choose", name=None),
    resume("resume-list", r"has no run \['stopped'\]: choose", name=["stopped"]),
    resume("resume-of-another-tool", "has no run 'foreign': choose", name="foreign"),
    resume("resume-batch", "batch_size 0 .*: give", batch_size=0),
    resume("resume-progress", "progress 'yes' .*: ", progress="yes"),
    resume("resume-cache", "cache 1.5 is not a cache: give", cache=1.5),
    resume("resume-backend", "backend 'slurm' .*: give", backend="slurm"),
    resume("resume-without-own-model", "model of your own .*: give", model=None),
    resume("resume-other-model", "model sam_lite has other weights .*: start", RunConflictError,
           model="sam_lite"),
    Bad("resume-none-dataset", lambda w: fp.resume_run(None, "stopped"), "NoneType is not .* give"),
    Bad("resume-other-dataset", lambda w: fp.resume_run(w.album, "stopped"),
        "'bad-calls-album' has no run 'stopped': choose"),
)  # fmt: skip


@table(*PHOTOS)
def test_photos(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*REFERENCES)
def test_references(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*NAMES)
def test_names_of_runs(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*SETTINGS)
def test_settings(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*RESUMED)
def test_resumed(bad: Bad, world: World) -> None:
    refused(bad, world)
