"""The method and its options in a form, as the method itself says them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone.operators.types as types

from .base import Context, choose, refuse
from .phrase import can_say
from .scope import GROUPED, SAID

_SPELT_OUT = {"lr": "learning rate", "max_instances": "instances in one photo"}
FIRST, MANY = 2, 4  # methods that a form shows first, and how many are too many at once
OPTION = "option_"
"""Begins the names of the inputs that are options of the method."""


def method_inputs(ctx: Context, inputs: Any) -> None:
    """Which method: what it does in one sentence, and how long that takes on this machine."""
    from fiftyone_persam.personalize import list_methods
    from fiftyone_persam.personalize.tuning.timing import learning_time

    words = {info.name for info in list_methods() if info.needs_text}
    model = str(ctx.params.get("model") or "sam_lite")
    methods = {info.name: f"{info.title}: {info.help}" for info in list_methods()}
    if not ctx.params.get("literal"):
        if ctx.params.get("scope") == SAID:
            methods = {name: text for name, text in methods.items() if name in words}
        elif ctx.params.get("scope") == GROUPED or not can_say():
            methods = {name: text for name, text in methods.items() if name not in words}
    default, beside = next(iter(methods)), None
    if len(methods) > MANY and not (ctx.params.get("more") or ctx.params.get("literal")):
        # The first ones are what nearly everybody wants; one that was chosen stays.
        shown = {*list(methods)[:FIRST], ctx.params.get("method")}
        beside = f"{len(methods) - FIRST} others are there with 'More options'"
        methods = {name: text for name, text in methods.items() if name in shown}
    times = {name: learning_time(name, model) for name in methods}
    methods = {n: text + (f" ({times[n]})" if times[n] else "") for n, text in methods.items()}
    choose(
        inputs,
        "method",
        methods,
        "Method",
        default=default,
        description=beside,
        radio=len(methods) > 1,
    )


def check_kind(ctx: Context, inputs: Any, chosen: Any) -> None:
    """Refuse a label that the chosen method cannot start from, such as points."""
    from fiftyone_persam.curation.labels.resolving import resolve_references
    from fiftyone_persam.curation.segmentation.arguments import check_kinds
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

    given = ctx.params.get("method")
    if ctx.params.get("scope") == SAID and not ctx.params.get("literal"):
        words = [name for name in METHODS if _needs_text(name)]
        return str(given if given in words else words[0])
    return str(given or next(iter(METHODS)))


def takes_words(ctx: Context) -> bool:
    """Whether the chosen method needs a phrase."""
    return _needs_text(chosen_method(ctx))


def _needs_text(method: str) -> bool:
    from fiftyone_persam.personalize import METHODS, method_info

    return method in METHODS and method_info(method).needs_text


def option_inputs(ctx: Context, inputs: Any, names: Iterable[str]) -> None:
    """What the chosen method can be told; nothing of other methods.

    Args:
        ctx: the operator's
        inputs: the form
        names: of the options, of those that the method has
    """
    known = {option.name: option for option in _options(ctx)}
    for name in names:
        if name in known:
            _option_input(inputs, known[name])


def option_names(ctx: Context) -> list[str]:
    """The names of the chosen method's options, in its own order."""
    return [option.name for option in _options(ctx)]


def _option_input(inputs: Any, option: Any) -> None:
    name = OPTION + option.name
    label = sentence(_SPELT_OUT.get(option.name, option.name.replace("_", " ")))
    text = sentence(option.help)
    if option.optional and option.default is None and "left out" not in text:
        text += "; the method's own way if left out"
    about = {"label": label, "description": text, "default": option.default}
    if option.names:
        choose(
            inputs,
            name,
            list(option.names),
            label,
            default=option.default,
            description=text,
            required=not option.optional,
        )
    elif option.kind is bool and option.optional:
        choose(
            inputs,
            name,
            {"on": "On", "off": "Off"},
            label,
            description=text,
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
