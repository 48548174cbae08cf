"""What all operators share: a form that never breaks, live progress, and the SDK form."""

from __future__ import annotations

import importlib.util
import re
import uuid
from collections.abc import Callable, Generator
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import fiftyone.operators.types as types
from fiftyone.operators.executor import ExecutionContext, ExecutionError

from fiftyone_persam.curation.checks import as_plain
from fiftyone_persam.curation.fiftyone_api import root_dataset, serialized_view
from fiftyone_persam.errors import PersamError

from .streaming import DETACHED, Progress, ProgressStore, stream

PLUGIN = "@fiftyone-persam/persam"
ICON = "center_focus_strong"
LONG = 36  # letters of a choice that gets a line of its own

# Import name -> what to install. Looked up, not imported: a form must open in a blink.
NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "segment_anything": "segment-anything",
    "timm": "timm",
    "safetensors": "safetensors",
    "pycocotools": "pycocotools",
}

Context = Any  # foo.ExecutionContext: fiftyone ships no types


def missing_packages() -> list[str]:
    """Names, as pip knows them, of the packages that the library needs and cannot find."""
    return [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]


class PersamOperator(foo.Operator):
    """An operator that is a form around one call of the library.

    A subclass gives the class attributes, :meth:`form` and :meth:`run`; ``__call__`` is the SDK's
    form with the library call's own argument names.
    """

    operator: str
    label: str
    description: str
    icon: str = ICON
    dynamic: bool = True
    unlisted: bool = False
    delegable: bool = False
    generator: bool = False
    risk: Any = types.RiskLevel.MEDIUM
    view_target: bool = False
    submit: str | None = None

    @property
    def config(self) -> Any:
        """See ``foo.OperatorConfig``."""
        return foo.OperatorConfig(
            name=self.operator,
            label=self.label,
            description=self.description,
            icon=self.icon,
            dynamic=self.dynamic,
            unlisted=self.unlisted,
            execute_as_generator=self.generator,
            allow_immediate_execution=True,
            allow_delegated_execution=self.delegable,
            risk_level=self.risk,
            view_target=self.view_target,
        )

    def form(self, ctx: Context, inputs: Any) -> None:
        """Add the inputs; raise :class:`PersamError` for what makes the operator impossible."""

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any] | None:
        """Do the work; called in a worker thread when ``generator``."""
        raise NotImplementedError

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any] | None:
        """What the App does when the work is done: calls on ``ctx.ops``. Not in delegated runs."""
        return None

    def in_panel(self, ctx: Context) -> bool:
        """Whether the review panel shows the progress, in place of a dialog over the page.

        Then the work goes on in the App's server, which only the App can do without waiting for.
        """
        return False

    def resolve_input(self, ctx: Context) -> Any:
        """The form; with an error in its place where the operator cannot be executed."""
        inputs = types.Object()
        if missing := missing_packages():
            refuse(
                inputs,
                f"This plugin needs packages that are not installed: {', '.join(missing)}",
                f"Run `pip install {' '.join(missing)}` in FiftyOne's environment and restart it.",
            )
        elif ctx.dataset is None and self.operator not in ("import_perseg", "doctor"):
            refuse(inputs, "Open a dataset first.")
        else:
            try:
                self.form(ctx, inputs)
            except PersamError as error:
                refuse(inputs, str(error))
        view = types.PromptView(label=self.label, submit_button_label=self.submit or "Execute")
        return types.Property(inputs, view=view)

    def execute(self, ctx: Context) -> Any:
        """Run; as a generator with live progress in the App, plainly in a delegated worker."""
        if not self.generator:
            try:
                result = self.run(ctx, Progress())
            except PersamError as error:
                _note_failure(ctx, error)
                raise
            self.after(ctx, result)
            return result
        if ctx.delegated:
            return self.run(ctx, Progress(on_report=lambda p: _report_delegated(ctx, p)))
        return self._stream(ctx)

    def _stream(self, ctx: Context) -> Generator[Any, None, Any]:
        name = ctx.params.get("run") or ctx.params.get("out_field")
        try:
            result = yield from stream(
                ctx,
                lambda progress: self.run(ctx, progress),
                elsewhere=(lambda: open_review(ctx)) if self.in_panel(ctx) else None,
            )
            if result is DETACHED:  # WatchRuns tells how it ends
                if "reference" in ctx.params:  # it was selected to be chosen, and is now
                    yield ctx.ops.clear_selected_samples()
                return None
        except PersamError as error:
            _mark_shown(ctx, name)  # the App shows the error itself
            _note_failure(ctx, error)
            if name and "token" in ctx.request_params:
                ProgressStore(ctx.dataset).remove(name)  # a call in Python leaves nothing behind
            raise
        if token := ctx.request_params.get("token"):
            _RESULTS[token] = result
        yield from self.after(ctx, result) or ()
        _mark_shown(ctx, name)
        return result

    def call(self, collection: Any, delegate: bool = False, **params: Any) -> Any:
        """Execute from Python: what the App's form does with these values.

        Returns:
            a ``foo.ExecutionResult``; its ``result`` is the dict that :meth:`run` returned

        Raises:
            ExecutionError: what the form refuses, in one line
            PersamError: what the library's own call would raise, in place of FiftyOne's traceback
        """
        ctx: dict[str, Any] = {"token": uuid.uuid4().hex}
        if isinstance(collection, fo.DatasetView):
            ctx["view"] = collection
        elif collection is not None:
            ctx["dataset"] = collection
        given = {key: as_plain(value) for key, value in params.items() if value is not None}
        try:
            execution = foo.execute_operator(
                self.uri, ctx, params=given, request_delegation=delegate
            )
        except ExecutionError as error:
            if (failure := _FAILURES.pop(ctx["token"], None)) is not None:
                raise failure from None
            raise ExecutionError(self._in_one_line(error, collection, given)) from None
        # FiftyOne runs a generator to its end and drops what it returned.
        if (result := _RESULTS.pop(ctx["token"], None)) is not None:
            execution.result = result
        return execution

    def _in_one_line(self, error: Exception, collection: Any, given: dict[str, Any]) -> str:
        """What the form refuses, without FiftyOne's own words for it."""
        found = re.fullmatch(r"Validation error\. Path: (\w+)\. Reason: (.*)", str(error))
        if found is None:
            return " ".join(str(error).split())
        path, reason = found.groups()
        if path not in given:
            return f"{self.operator}: {reason}"
        if reason == "Invalid enum value":
            request = {"dataset_name": root_dataset(collection).name, "params": given}
            request["view"] = serialized_view(collection)
            ctx = ExecutionContext(request, operator_uri=self.uri)
            values = self.resolve_input(ctx).type.properties[path].type.values
            reason = f"choose one of {', '.join(filter(None, map(str, values[:10])))}"
        return f"{self.operator}: {path} {given[path]!r} cannot be used: {reason}"


# Errors on their way to the SDK call that waits for them, by its token.
_FAILURES: dict[str, PersamError] = {}

# Results of generators on their way to the SDK call that waits for them, by its token.
_RESULTS: dict[str, dict[str, Any] | None] = {}


def _note_failure(ctx: Context, error: PersamError) -> None:
    if token := ctx.request_params.get("token"):
        _FAILURES[token] = error


def _mark_shown(ctx: Context, run: str | None) -> None:
    if run and ctx.dataset is not None:
        ProgressStore(ctx.dataset).mark_shown(run)


def _report_delegated(ctx: Context, progress: Progress) -> None:
    ctx.set_progress(progress=progress.fraction, label=str(progress))


def refuse(inputs: Any, message: str, advice: str = "", name: str = "problem") -> None:
    """Show an error in the form and keep it from being executed."""
    prop = inputs.view(name, types.Error(label=message, description=advice))
    prop.invalid = True
    prop.error_message = f"{message} {advice}".strip()


def ask(inputs: Any, message: str, advice: str = "", name: str = "asked") -> None:
    """Say what the form waits for, and keep it from being executed until then."""
    prop = inputs.view(name, types.Notice(label=message, description=advice))
    prop.invalid = True
    prop.error_message = f"{message} {advice}".strip()


def notice(inputs: Any, name: str, text: str, warning: bool = False) -> None:
    """Show a line of text in the form."""
    inputs.view(name, (types.Warning if warning else types.Notice)(label=text))


def narrow_table(long: int = 0) -> Any:
    """A table that fits beside the grid and into a form: by default one is 650 pixels wide.

    Args:
        long: which column, from 1, has paths that may be broken anywhere; 0 for none
    """
    # Paths are broken anywhere, else they push the next column out of sight.
    table = {
        "minWidth": 0,
        "& .MuiTableCell-root": {"paddingLeft": "10px", "paddingRight": "10px"},
        f"& td.MuiTableCell-root:nth-of-type({long})": {"overflowWrap": "anywhere"},
    }
    return types.TableView(componentsProps={"table": {"sx": table}})


def counted(count: int, what: str = "photo") -> str:
    """So many photos, or other things, in words that fit the number."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def choose(
    inputs: Any,
    name: str,
    choices: dict[str, str] | list[str],
    label: str,
    default: str | None = None,
    description: str | None = None,
    required: bool = True,
    radio: bool = False,
    details: Callable[[str], str | None] = lambda value: None,
) -> None:
    """A drop-down (or radio buttons) of values with their labels."""
    labelled = choices if isinstance(choices, dict) else {value: value for value in choices}
    # Long texts beside each other would begin anywhere in a line.
    aligned = "vertical" if any(len(text) > LONG for text in labelled.values()) else "horizontal"
    view = types.RadioGroup(orientation=aligned) if radio else types.DropdownView()
    for value, text in labelled.items():
        view.add_choice(value, label=text, description=details(value))
    inputs.enum(
        name,
        view.values(),
        label=label,
        description=description,
        default=default,
        required=required,
        view=view,
    )


def mask_value_of(given: Any) -> int | str | None:
    """Which value of a mask a form, or a call in Python, means: a number, a colour or a class."""
    if isinstance(given, str):
        return int(given) if given.isdigit() else given or None
    return None if given is None else int(given)


def mask_value_text(collection: Any, field: str, given: Any) -> str | None:
    """What a call in Python gives as the value of a field's masks, as the form's choices have it.

    Raises:
        PersamError: a text that is not a class of the field, a number or a colour.
    """
    from fiftyone_persam.curation.labels.pixels import plain_value

    if isinstance(given, str):  # a class, mostly
        given = plain_value(root_dataset(collection), field, given)
    return None if given is None else str(given)


def from_app(ctx: Context) -> bool:
    """Whether a click in the App has started this, not a call in Python."""
    return bool(ctx.request_params.get("spaces"))


def open_review(ctx: Context) -> Any:
    """Open the review panel beside the grid; nothing happens where it is open."""
    return ctx.ops.open_panel("review_masks", layout="horizontal")


def show_fields(ctx: Context, *fields: str) -> Any:
    """Switch fields on in the App, beside what is on already (masks are off by default)."""
    active = list(ctx.active_fields or [])
    return ctx.ops.set_active_fields([*active, *(f for f in fields if f not in active)])
