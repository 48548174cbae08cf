"""Bad calls of what comes after segmenting: runs, evaluation, review, hand-over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone_persam as fp
from fiftyone_persam.curation import (
    compare_runs,
    export_masks,
    promote,
    review_counts,
    review_queue,
    review_view,
    set_presence_threshold,
    set_review,
    undo_review,
)
from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.curation.segmentation.again import segment_again
from fiftyone_persam.errors import BadReferenceError, PersamError, RunConflictError

from .cases import Bad, refused, table
from .world import UNKNOWN_ID, World

NAN, INF = float("nan"), float("inf")


def unknown(name: str, call: Callable[[World, Any], Any]) -> tuple[Bad, ...]:
    """Wrong names of runs, for every function that takes one."""
    rows = (
        ("near", "mime", "has no run 'mime': .*did you mean 'mine'"),
        ("none", None, "has no run None: choose"),
        ("foreign", "foreign", "has no run 'foreign': choose"),
        ("path", "../mine", "has no run '../mine': choose"),
    )
    return tuple(
        Bad(f"{name}-run-{title}", lambda w, run=run: call(w, run), says)
        for title, run, says in rows
    )


def rename(title: str, new_name: Any, says: str, error: type[Exception] = PersamError) -> Bad:
    return Bad(title, lambda w: fp.rename_run(w.photos, "mine", new_name), says, error)


RUNS = (
    *unknown("load", lambda w, run: fp.load_run(w.photos, run)),
    *unknown("delete", lambda w, run: fp.delete_run(w.photos, run)),
    *unknown("rename", lambda w, run: fp.rename_run(w.photos, run, "better")),
    Bad("list-none", lambda w: fp.list_runs(None), "NoneType is not a FiftyOne dataset.*: give"),
    Bad("list-deleted", lambda w: fp.list_runs(w.deleted), "is deleted: load"),
    Bad("delete-of-no-dataset", lambda w: fp.delete_run("bad-calls", "mine"), "str is not .* give"),
    Bad("delete-of-other-dataset", lambda w: fp.delete_run(w.album, "mine"),
        "'bad-calls-album' has no run 'mine': choose"),
    rename("rename-to-nothing", "", "'' cannot name a field: use"),
    rename("rename-to-none", None, "None cannot name a field: use"),
    rename("rename-to-path", "../up", "'../up' cannot name a field: use"),
    rename("rename-to-dollar", "$mine", "cannot name a field: use"),
    rename("rename-to-private", "_mine", "cannot name a field: use"),
    rename("rename-to-long", "x" * 150, "cannot name a field: use"),
    rename("rename-to-method", "save", "'save' means something else .*: choose"),
    rename("rename-to-field", "number", "has a field 'number' .*: choose"),
    rename("rename-to-run", "other", "belongs to run 'other': choose", RunConflictError),
    rename("rename-to-own-field", "mine_score", "belongs to run 'mine': ", RunConflictError),
    rename("rename-to-itself", "mine", "belongs to run 'mine': choose", RunConflictError),
    rename("rename-to-half-taken", "der", "has a field 'der_score' .*: choose"),
)  # fmt: skip


def evaluate(
    title: str, says: str, error: type[Exception] = PersamError, samples: Any = None, **changes: Any
) -> Bad:
    def call(w: World) -> Any:
        given = {"pred_field": "mine", "eval_key": "new", **changes}
        return fp.evaluate(samples(w) if samples else w.photos, **given)

    return Bad(title, call, says, error)


EVALUATIONS = (
    evaluate("pred-unknown", "no field 'mime': pred_field .*did you mean 'mine'",
             pred_field="mime"),
    evaluate("pred-none", "no field None: pred_field", pred_field=None),
    evaluate("pred-text", "pred_field 'note' holds no masks: it must", pred_field="note"),
    evaluate("pred-keypoints", "pred_field 'dots' holds no masks: ", pred_field="dots"),
    evaluate("gt-unknown", "no field 'truth': gt_field", gt_field="truth"),
    evaluate("gt-number", "gt_field 'number' holds no masks: ", gt_field="number"),
    evaluate("gt-is-pred", "'mine' cannot be compared with itself: choose", gt_field="mine"),
    evaluate("gt-of-other-size", "other_size of .* 20 x 48 pixels but its photo is 64 x 48.*: make",
             gt_field="other_size", include_references=True),
    evaluate("gt-file-missing", "lost_mask of .* cannot be read .*: check its file",
             gt_field="lost_mask", include_references=True),
    evaluate("gt-only-on-reference",
             "with ground truth in 'empty_mask' is a reference.*: label another",
             gt_field="empty_mask"),
    evaluate("gt-colour", "is not a colour mask: mask_value", mask_value="#ff0000"),
    evaluate("gt-value-bool", "mask_value True .*: give", mask_value=True),
    evaluate("gt-value-word", "mask_value 'red' .*: give", mask_value="red"),
    evaluate("eval-group-unknown", "no field 'color': .*did you mean 'colour'", group_by="color"),
    evaluate("eval-group-label", "group_by 'mine' .*: take", group_by="mine"),
    evaluate("eval-group-none", "no value in 'partly': ", group_by="partly"),
    evaluate("ratio-zero", "dilation_ratio .* got 0: ", dilation_ratio=0),
    evaluate("ratio-nan", "dilation_ratio .* got nan: ", dilation_ratio=NAN),
    evaluate("ratio-text", "dilation_ratio .* got '2%': ", dilation_ratio="2%"),
    *(
        evaluate(f"eval-key-{title}", "eval_key .* cannot name a field: use", eval_key=key)
        for title, key in (
            ("empty", ""), ("number", 3), ("dot", "a.b"), ("dollar", "$a"), ("space", "a b"),
            ("slash", "a/b"), ("private", "_a"), ("digit", "1a"), ("umlaut", "prüfung"),
            ("long", "x" * 200),
        )
    ),
    evaluate("eval-key-taken", "an evaluation 'known' already: choose", eval_key="known",
             overwrite=False),
    evaluate("eval-field-taken", "field 'taken_iou' is there already .*: choose",
             eval_key="taken"),
    evaluate("eval-include-text", "include_references 'no' .*: give", include_references="no"),
    evaluate("eval-overwrite-text", "overwrite 'no' .*: give", overwrite="no", eval_key="known"),
    evaluate("eval-progress", "progress 3 .*: give", progress=3),
    evaluate("eval-empty-view", "no photo .*: ", samples=lambda w: w.photos.match_tags("nobody")),
    Bad("eval-none", lambda w: fp.evaluate(None, "mine"), "NoneType is not a FiftyOne .*: give"),
    Bad("eval-groups", lambda w: fp.evaluate(w.groups, "mine"), "no field 'mine': "),
    evaluate("eval-patches", "patches .*: give", samples=lambda w: w.patches),
    evaluate("eval-videos", "no field 'mine': ", samples=lambda w: w.videos),
)  # fmt: skip


def compare(title: str, says: str, run_a: Any = "mine", run_b: Any = "other", **more: Any) -> Bad:
    return Bad(title, lambda w: compare_runs(w.photos, run_a, run_b, **more), says)


COMPARISONS = (
    *unknown("compare", lambda w, run: compare_runs(w.photos, "other", run)),
    compare("compare-itself", "'mine' cannot be compared with itself: choose", run_b="mine"),
    compare("compare-truth-unknown", "no field 'truth': gt_field", gt_field="truth"),
    compare("compare-truth-number", "gt_field 'number' holds no masks: ", gt_field="number"),
    compare("compare-out-text", "'note' .*: choose", out_field="note"),
    compare("compare-out-label", "'ground_truth' .*: choose", out_field="ground_truth"),
    Bad("compare-out-of-run",
        lambda w: compare_runs(w.photos, "mine", "other", out_field="mine_score"),
        "'mine_score' belongs to run 'mine': choose", RunConflictError),
    compare("compare-out-bad", "'a b' cannot name a field: use", out_field="a b"),
    compare("compare-out-dot", "'a.b' cannot name a field: use", out_field="a.b"),
    compare("compare-out-empty", "'' cannot name a field: use", out_field=""),
    Bad("compare-none", lambda w: compare_runs(None, "a", "b"), "NoneType is not .*: give"),
    Bad("gain-without-truth",
        lambda w: compare_runs(w.photos, "mine", "other").by_gain(w.photos),
        "no ground truth was compared: call"),
)  # fmt: skip


def export(title: str, says: str, folder: str | None = "out", **changes: Any) -> Bad:
    def call(w: World) -> Any:
        target = w.path(folder) if folder else folder
        return export_masks(w.photos, **{"run": "mine", "export_dir": target, **changes})

    return Bad(title, call, says)


EXPORTS = (
    *unknown("export", lambda w, run: export_masks(w.photos, run, w.path("out"))),
    export("export-format", "unknown export format 'yolo': choose", format="yolo"),
    export("export-format-none", "unknown export format None: choose", format=None),
    export("export-format-list", r"unknown export format \['coco'\]: choose", format=["coco"]),
    export("export-state", "unknown review state 'good': choose", states=("good",)),
    export("export-state-text", "states 'accepted' .*: give", states="accepted"),
    export("export-no-state", "states .*: give", states=()),
    export("export-nothing", "run 'mine' has no mask that is rejected: review",
           states=("rejected",)),
    export("export-group", "no field 'color': .*did you mean 'colour'", group_by="color"),
    export("export-group-label", "group_by 'mine' .*: take", group_by="mine"),
    export("export-to-none", "export_dir None is not a folder: give", folder=None),
    export("export-to-empty", "export_dir '' is not a folder: give", folder=""),
    export("export-to-nul", "export_dir .* is not a folder: give", folder="a\0b"),
    export("export-to-file", "text.png is a file: give", folder="text.png"),
    export("export-below-file", "text.png/out.*: ", folder="text.png/out"),
    export("export-to-full", "full is not empty: choose", folder="full"),
    export("export-over-full", "full holds more than an earlier export: choose", folder="full",
           overwrite=True),
    export("export-overwrite-text", "overwrite 'yes' .*: give", folder="full", overwrite="yes"),
    Bad("export-none", lambda w: export_masks(None, "mine", w.path("out")), "NoneType is no.*: "),
)  # fmt: skip

REVIEWS = (
    *unknown("counts", lambda w, run: review_counts(w.photos, run)),
    *unknown("review", lambda w, run: set_review(w.photos, run, "accepted")),
    *unknown("undo", lambda w, run: undo_review(w.photos, run)),
    *unknown("threshold", lambda w, run: set_presence_threshold(w.photos, run, 0.5)),
    *unknown("edit", lambda w, run: make_editable(w.photos, run)),
    Bad("decision-unknown", lambda w: set_review(w.photos, "mine", "good"),
        "unknown decision 'good': choose"),
    Bad("decision-bool", lambda w: set_review(w.photos, "mine", True),
        "unknown decision True: choose"),
    Bad("decision-list", lambda w: set_review(w.photos, "mine", ["accepted"]),
        r"unknown decision \['accepted'\]: choose"),
    Bad("review-unknown-photo", lambda w: set_review(w.photos, "mine", None, [UNKNOWN_ID]),
        f"photo '{UNKNOWN_ID}' has no result of run 'mine': segment"),
    Bad("review-half-unknown",
        lambda w: set_review(w.photos, "mine", "rejected", [w.id(), UNKNOWN_ID]),
        "has no result of run 'mine': segment"),
    Bad("review-one-id", lambda w: set_review(w.photos, "mine", "rejected", w.id()),
        "ids '.*' is not a list .*: give"),
    Bad("review-number", lambda w: set_review(w.photos, "mine", "rejected", 3),
        "ids 3 is not a list .*: give"),
    Bad("review-samples", lambda w: set_review(w.photos, "mine", "rejected", list(w.photos)),
        "ids .*: give"),
    Bad("review-none-dataset", lambda w: set_review(None, "mine", None), "NoneType is no.*: give"),
    Bad("view-state", lambda w: review_view(w.photos, "mine", "good"),
        "unknown review state 'good': choose"),
    Bad("queue-state", lambda w: review_queue(w.photos, "mine", ("good",)),
        "unknown review state 'good': choose"),
    Bad("queue-text", lambda w: review_queue(w.photos, "mine", "todo"), "states 'todo' .*: give"),
    *(
        Bad(f"threshold-{title}", lambda w, v=value: set_presence_threshold(w.photos, "mine", v),
            "presence threshold .*: give")
        for title, value in (
            ("nan", NAN), ("inf", INF), ("text", "0.5"), ("bool", True), ("number-none", None),
            ("high", 5), ("negative", -3),
        )
    ),
    Bad("edit-unknown-photo", lambda w: make_editable(w.photos, "mine", [UNKNOWN_ID]),
        f"photo '{UNKNOWN_ID}' has no result of run 'mine': "),
    Bad("edit-one-id", lambda w: make_editable(w.photos, "mine", w.id()),
        "ids '.*' is not a list .*: give"),
    Bad("edit-label", lambda w: make_editable(w.photos, "mine", label=3), "label 3 .*: give"),
)  # fmt: skip


def hand_over(title: str, says: str, error: type[Exception] = PersamError, **changes: Any) -> Bad:
    def call(w: World) -> Any:
        given = {k: v(w) if callable(v) else v for k, v in changes.items()}
        return promote(w.photos, **{"run": "mine", "label_field": "final", **given})

    return Bad(title, call, says, error)


def again(title: str, says: str, error: type[Exception] = PersamError, **changes: Any) -> Bad:
    def call(w: World) -> Any:
        given = {k: v(w) if callable(v) else v for k, v in changes.items()}
        return segment_again(w.photos, **{"run": "lite", "reference": w.photos.first(), **given})

    return Bad(title, call, says, error)


HAND_OVER = (
    *unknown("promote", lambda w, run: promote(w.photos, run, "final")),
    *(
        hand_over(f"promote-to-{title}", "label_field .* cannot name a field: use",
                  label_field=field)
        for title, field in (
            ("empty", ""), ("none", None), ("dot", "a.b"), ("private", "_a"), ("space", "a b"),
            ("slash", "../a"), ("dollar", "$a"), ("long", "x" * 150),
        )
    ),
    hand_over("promote-to-method", "'save' means something else .*: choose", label_field="save"),
    hand_over("promote-to-text", "field 'note' holds StringField, not masks: choose",
              label_field="note"),
    hand_over("promote-to-keypoint", "field 'dots' holds Keypoint, not masks: choose",
              label_field="dots"),
    hand_over("promote-to-builtin", "field 'tags' holds .*: choose", label_field="tags"),
    hand_over("promote-to-run", "'other' belongs to the run .*: choose", RunConflictError,
              label_field="other"),
    hand_over("promote-to-instances", "'both_instances' belongs to .*: choose", RunConflictError,
              label_field="both_instances"),
    hand_over("promote-to-withheld", "'mine_withheld' belongs to .*: choose", RunConflictError,
              label_field="mine_withheld"),
    hand_over("promote-kind", "unknown kind 'boxes': choose", kind="boxes"),
    hand_over("promote-kind-list", r"unknown kind \['detections'\]: choose", kind=["detections"]),
    hand_over("promote-other-kind", "'ground_truth' holds Segmentation, not detections: choose",
              label_field="ground_truth", kind="detections"),
    hand_over("promote-state", "unknown review state 'good': choose", states=("good",)),
    hand_over("promote-state-text", "states 'accepted' .*: give", states="accepted"),
    hand_over("promote-label", "label 3 .*: give", label=3, kind="detections"),
    hand_over("promote-overwrite", "overwrite 'no' .*: give", overwrite="no",
              label_field="ground_truth"),
    hand_over("promote-masks-file", "masks cannot be written into .*text.png.*: ",
              masks_dir=lambda w: w.path("text.png")),
    hand_over("promote-masks-number", "masks_dir 3 is not a folder: give", masks_dir=3),
    hand_over("promote-masks-of-run", "belongs to run 'mine' .*: choose", RunConflictError,
              masks_dir=lambda w: fp.load_run(w.photos, "mine").masks_dir),
    *unknown("again", lambda w, run: segment_again(w.photos, run, w.photos.first())),
    again("again-all-accepted", "every photo of run 'sure' is accepted: ", run="sure"),
    again("again-reference", "no sample with id 'first': ", BadReferenceError, reference="first"),
    again("again-empty-mask", "in 'empty_mask' is empty: choose", BadReferenceError,
          label_field="empty_mask"),
    again("again-own-model", "run 'other' was made with a model of your own .*: call",
          run="other"),
    again("again-keep", "keep_references 'no' .*: give", keep_references="no"),
    again("again-progress", "progress 3 .*: give", progress=3),
    Bad("again-grouped", lambda w: segment_again(w.album, "grouped", w.album.first()),
        "run 'grouped' has one reference per object: segment"),
    Bad("again-none", lambda w: segment_again(None, "mine", UNKNOWN_ID), "NoneType is no.*: give"),
)  # fmt: skip


@table(*RUNS)
def test_runs(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*EVALUATIONS)
def test_evaluations(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*COMPARISONS)
def test_comparisons(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*EXPORTS)
def test_exports(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*REVIEWS)
def test_reviews(bad: Bad, world: World) -> None:
    refused(bad, world)


@table(*HAND_OVER)
def test_hand_over(bad: Bad, world: World) -> None:
    refused(bad, world)
