"""The method and its options in a form, as the method itself says them."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, choose, refuse

OPTION = "option_"
"""Begins the names of the inputs that are options of the method."""


def method_inputs(ctx: Context, inputs: Any) -> None:
    """Which method: what it does in one sentence, and how long that takes on this machine."""
    from fiftyone_persam.personalize import list_methods
    from fiftyone_persam.personalize.tuning.timing import learning_time

    model = str(ctx.params.get("model") or "sam_lite")
    methods = {}
    for info in list_methods():
        time = learning_time(info.name, model)
        methods[info.name] = f"{info.title}: {info.help}" + (f" ({time})" if time else "")
    choose(inputs, "method", methods, "Method", default=next(iter(methods)), radio=True)


def check_kind(ctx: Context, inputs: Any, chosen: Any) -> None:
    """Refuse a label that the chosen method cannot start from, such as points."""
    from fiftyone_persam.curation.labels.references import resolve_references
    from fiftyone_persam.curation.segmentation.plan import check_kinds
    from fiftyone_persam.errors import problem_of
    from fiftyone_persam.personalize import METHODS, method_info
    from fiftyone_persam.personalize.reference import VISUAL

    method = chosen_method(ctx)
    if chosen is None or chosen.marked or method not in METHODS:
        return
    if set(VISUAL) <= set(method_info(method).references):
        return  # every label will do: it need not be read

    def check() -> None:
        pair = (chosen.sample, chosen.label_id) if chosen.label_id else chosen.sample
        check_kinds(
            method,
            resolve_references(ctx.dataset, pair, chosen.label_field, None, chosen.mask_value),
        )

    if problem := problem_of(check):
        refuse(inputs, problem, name="kind_problem")


def chosen_method(ctx: Context) -> str:
    """The method's name; the default one where none was chosen."""
    from fiftyone_persam.personalize import METHODS

    return str(ctx.params.get("method") or next(iter(METHODS)))


def option_inputs(ctx: Context, inputs: Any) -> None:
    """What the chosen method can be told; nothing of other methods."""
    for option in _options(ctx):
        name, label = OPTION + option.name, sentence(option.name.replace("_", " "))
        about = {"label": label, "description": sentence(option.help), "default": option.default}
        if option.choices:
            choose(
                inputs,
                name,
                list(option.choices),
                label,
                default=option.default,
                description=sentence(option.help),
                required=not option.optional,
            )
        elif option.kind is bool and option.optional:
            choose(
                inputs,
                name,
                {"on": "On", "off": "Off"},
                label,
                description=sentence(option.help),
                required=False,
            )
        elif option.kind is bool:
            inputs.bool(name, view=types.CheckboxView(), **about)
        elif option.kind is int:
            inputs.int(name, min=option.low, max=option.high, **about)
        elif option.kind is float:
            inputs.float(name, min=option.low, max=option.high, **about)
        elif option.kind is str:
            inputs.str(name, **about)


def chosen_options(ctx: Context) -> dict[str, Any]:
    """The options that were given to the chosen method; what is left of another one's is not."""
    given = {
        option.name: _value(option, ctx.params.get(OPTION + option.name))
        for option in _options(ctx)
    }
    if ctx.params.get("literal"):  # a call in Python means every word: `segment` refuses the rest
        given |= {
            name.removeprefix(OPTION): value
            for name, value in ctx.params.items()
            if name.startswith(OPTION)
        }
    return {name: value for name, value in given.items() if value is not None}


def _value(option: Any, given: Any) -> Any:
    """What was given; a switch that may be left to the mode is a choice of two words."""
    return {"on": True, "off": False}.get(given, given) if option.kind is bool else given


def sentence(text: str) -> str:
    """The text with a capital letter."""
    return text[:1].upper() + text[1:]


def _options(ctx: Context) -> tuple[Any, ...]:
    from fiftyone_persam.personalize import METHODS, method_info

    method = chosen_method(ctx)
    return method_info(method).options if method in METHODS else ()
