"""Bad calls of operators, as Python makes them: ``foo.get_operator(uri)(dataset, ...)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fiftyone.operators.executor import ExecutionError

from fiftyone_persam.errors import PhotoError, RunConflictError
from tests.operators.context import link_plugin, operator

from .cases import Bad, refused, table
from .world import UNKNOWN_ID, World


@pytest.fixture(scope="module", autouse=True)
def plugin() -> None:
    link_plugin()


def call(
    title: str,
    name: str,
    says: str,
    on: Callable[[World], Any] | None = None,
    error: type[Exception] = ExecutionError,
    **given: Any,
) -> Bad:
    def made(w: World) -> Any:
        params = {k: v(w) if callable(v) else v for k, v in given.items()}
        return operator(name)(on(w) if on else w.photos, **params)

    return Bad(title, made, says, error)


def segment(title: str, says: str, **changes: Any) -> Bad:
    given = {"reference": lambda w: w.id(), "out_field": "new", "method": "persam", **changes}
    return call(title, "segment_from_reference", says, **given)


RUN = {
    "accept_masks": {},
    "reject_masks": {},
    "undo_review": {},
    "edit_masks": {},
    "set_presence_threshold": {"threshold": 0.5},
    "delete_run": {},
    "resume_run": {},
    "show_failures": {},
    "rename_run": {"new_name": "better"},
    "export_masks": {"export_dir": lambda w: w.path("out")},
    "promote_masks": {"label_field": "final"},
}

CALLS = (
    *(
        call(
            f"{name}-unknown-run",
            name,
            "run 'mime' cannot be used: choose one of .*mine",
            run="mime",
            **more,
        )
        for name, more in RUN.items()
    ),
    *(
        call(
            f"{name}-without-runs",
            name,
            f"{name}: This dataset has no run yet. Segment",
            run="mine",
            on=lambda w: w.empty,
            **more,
        )
        for name, more in RUN.items()
    ),
    segment("segment-reference", "no photo 'first': select", reference="first"),
    segment("segment-unknown-id", f"no photo '{UNKNOWN_ID}': select", reference=UNKNOWN_ID),
    segment(
        "segment-label-field",
        "label_field 'truth' cannot be used: choose one of",
        label_field="truth",
    ),
    segment("segment-empty-mask", "'empty_mask' is empty", label_field="empty_mask"),
    segment("segment-several-labels", "has 2 labels", label_field="boxes"),
    segment("segment-out-field", "'a.b' cannot name a field", out_field="a.b"),
    segment("segment-field-taken", "has a field 'number' .*: choose", out_field="number"),
    segment(
        "segment-run-taken",
        "has a run 'mine' already: go on",
        error=RunConflictError,
        out_field="mine",
    ),
    segment(
        "segment-method", "method 'sam' cannot be used: choose one of .*persam_f", method="sam"
    ),
    segment(
        "segment-model",
        "model 'sam_light' cannot be used: choose one of sam_lite",
        model="sam_light",
    ),
    segment(
        "segment-label-type", "label_type 'boxes' cannot be used: choose one of", label_type="boxes"
    ),
    call("evaluate-unknown", "evaluate", "pred_field 'mime' .*: choose one of", pred_field="mime"),
    call(
        "evaluate-truth",
        "evaluate",
        "gt_field 'truth' .*: choose one of",
        pred_field="mine",
        gt_field="truth",
    ),
    call(
        "evaluate-itself",
        "evaluate",
        "gt_field 'mine' .*: choose one of",
        pred_field="mine",
        gt_field="mine",
    ),
    call(
        "evaluate-key",
        "evaluate",
        "eval_key 'a b' cannot name a field: use",
        pred_field="mine",
        eval_key="a b",
    ),
    call(
        "evaluate-group",
        "evaluate",
        "group_by 'color' .*: choose .*colour",
        pred_field="mine",
        group_by="color",
    ),
    call(
        "compare-unknown",
        "compare_runs",
        "run_b 'mime' .*: choose one of",
        run_a="mine",
        run_b="mime",
    ),
    call(
        "compare-itself",
        "compare_runs",
        "run_b 'mine' .*: choose one of",
        run_a="mine",
        run_b="mine",
    ),
    call(
        "rename-bad",
        "rename_run",
        "new_name 'a b' cannot name a field: use",
        run="mine",
        new_name="a b",
    ),
    call(
        "rename-taken",
        "rename_run",
        "belongs to run 'other': choose",
        run="mine",
        new_name="other",
    ),
    call(
        "export-full",
        "export_masks",
        "full is not empty",
        run="mine",
        export_dir=lambda w: w.path("full"),
    ),
    call(
        "export-format",
        "export_masks",
        "format 'yolo' .*: choose one of perseg",
        run="mine",
        format="yolo",
        export_dir=lambda w: w.path("out"),
    ),
    call(
        "promote-run",
        "promote_masks",
        "'other' belongs to a run: choose",
        run="mine",
        label_field="other",
    ),
    call(
        "promote-text",
        "promote_masks",
        "field 'note' holds StringField.*: choose",
        run="mine",
        label_field="note",
    ),
    call(
        "threshold-high",
        "set_presence_threshold",
        "threshold 7 .*: Value must be less than 1",
        run="mine",
        threshold=7,
    ),
    Bad(
        "import-missing",
        lambda w: operator("import_perseg")(w.path("nowhere"), "fresh"),
        "nowhere has no folder Images",
        ExecutionError,
    ),
    Bad(
        "import-broken",
        lambda w: operator("import_perseg")(w.path("broken"), "fresh"),
        "cannot read photo .*01.jpg: ",
        PhotoError,
    ),
    Bad(
        "import-name-taken",
        lambda w: operator("import_perseg")(w.path("sound"), "bad-calls"),
        "'bad-calls' .*: A dataset of this name exists: choose",
        ExecutionError,
    ),
)


@table(*CALLS)
def test_calls(bad: Bad, world: World) -> None:
    refused(bad, world)
