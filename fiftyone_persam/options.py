"""Options that are said once, in a signature, and read by checks, forms and the command line.

    def __init__(self, sam, *, steps: Annotated[int, Option("optimiser steps", low=0)] = 1000): ...

Name, type and default are the parameter's own; `Option` adds a sentence and a range.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from numbers import Integral, Real
from typing import Any

from .errors import PersamError, did_you_mean

_ON, _OFF = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Option:
    """One option of a method.

    Attributes:
        help: one sentence, without a full stop.
        low: least value of a number, or None.
        high: largest value of a number, or None.
        above: whether ``low`` itself is out of range.
        advice: what to do about a wrong value; made from type and range if empty. ``{default}`` in
            it stands for the default.
        name: of the parameter.
        kind: bool, int, float or str.
        default: the parameter's.
        choices: of a text.
        optional: whether None is a value, too.
        among: gives the names that a text can be, where they can be added to: those of a registry.
    """

    help: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False
    advice: str = ""
    name: str = ""
    kind: type = str
    default: Any = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    among: Callable[[], Iterable[str]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What a text can be; empty for any text."""
        return self.choices or (tuple(self.among()) if self.among else ())

    def check(self, value: object) -> None:
        """Raise PersamError unless this is a value of the option."""
        if value is None and self.optional:
            return
        if self.choices:
            if not isinstance(value, str) or value not in self.choices:
                raise PersamError(f"{self.name} {value!r} is not known: {self._advice()}")
        elif self.kind is bool:
            if not _is_switch(value):
                raise PersamError(f"{self.name} {value!r} is not a switch: {self._advice()}")
        elif self.kind is str:
            if not isinstance(value, str):
                raise PersamError(f"{self.name} {value!r} is not a text: {self._advice()}")
        elif self.kind in (int, float) and not self._in_range(value):
            raise PersamError(f"{self.name} {value!r} is out of range: {self._advice()}")

    def parse(self, text: str) -> Any:
        """The value that a text on the command line means.

        Raises:
            PersamError: it means none.
        """
        value: Any = text
        if self.optional and text.casefold() in ("", "none"):
            value = None
        elif self.kind is bool and text.casefold() in (*_ON, *_OFF):
            value = text.casefold() in _ON
        elif self.kind in (int, float):
            try:
                value = self.kind(text)
            except ValueError:
                value = text
        self.check(value)
        return value

    def describe(self) -> str:
        """The range and the default, in words, such as "0 to 1, default 0.1"."""
        return f"{self._range()}, default {self.default!r}"

    def _in_range(self, value: object) -> bool:
        if not isinstance(value, Real) or isinstance(value, bool):
            return False
        if self.kind is int and not isinstance(value, Integral):
            return False
        number = float(value)
        if math.isnan(number):
            return False
        low, high = self.low, self.high
        if low is not None and (number <= low if self.above else number < low):
            return False
        return high is None or number <= high

    def _range(self) -> str:
        if self.names:
            return _listed([repr(choice) for choice in self.names])
        if self.kind is bool:
            return "True or False"
        if self.kind is str:
            return "a text"
        noun = "a whole number" if self.kind is int else "a number"
        low, high = self.low, self.high
        if low is None:
            return noun if high is None else f"{noun}, at most {high:g}"
        if self.above:
            return f"{noun} above {low:g}" + ("" if high is None else f", at most {high:g}")
        return f"{noun}, at least {low:g}" if high is None else f"{noun} from {low:g} to {high:g}"

    def _advice(self) -> str:
        if self.advice:
            return self.advice.replace("{default}", str(self.default))
        return f"{'use' if self.choices else 'give'} {self._range()}"


@cache
def options_of(function: Callable[..., Any]) -> tuple[Option, ...]:
    """The options of a class or function: its parameters with a default, in their order.

    A class whose constructor hands on further keywords (``**options``) has those of the class that
    it extends as well, after its own.

    Raises:
        PersamError: an annotation cannot be resolved.
    """
    if inspect.isclass(function):
        return _options_of_class(function)
    return _options_of_function(function)[0]


def _options_of_class(made: type) -> tuple[Option, ...]:
    found: dict[str, Option] = {}
    for base in made.__mro__:
        if "__init__" not in vars(base):
            continue
        own, hands_on = _options_of_function(vars(base)["__init__"])
        for option in own:
            found.setdefault(option.name, option)
        if not hands_on:
            break
    return tuple(found.values())


def _options_of_function(target: Any) -> tuple[tuple[Option, ...], bool]:
    """The options of a function, and whether it takes any other keyword as well."""
    try:
        hints = typing.get_type_hints(target, include_extras=True)
    except NameError as error:
        name = target.__qualname__.removesuffix(".__init__")
        raise PersamError(
            f"the options of {name} cannot be read ({error}): import the types of its annotations "
            "outside TYPE_CHECKING"
        ) from None
    found, hands_on = [], False
    for parameter in inspect.signature(target).parameters.values():
        hands_on |= parameter.kind is parameter.VAR_KEYWORD
        plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if plain and parameter.default is not parameter.empty:
            hint = hints.get(parameter.name, type(parameter.default))
            found.append(_option(parameter.name, hint, parameter.default))
    return tuple(found), hands_on


def check_values(options: Iterable[Option], values: Mapping[str, Any]) -> None:
    """Raise PersamError at the first value that its option cannot have."""
    for option in options:
        if option.name in values:
            option.check(values[option.name])


def check_names(what: str, options: Iterable[Option], names: Iterable[str]) -> None:
    """Raise PersamError at the first name that is not an option of ``what``."""
    known = [option.name for option in options]
    for name in names:
        if name not in known:
            listed = f"its options are {', '.join(known)}" if known else "it has no options"
            raise PersamError(
                f"{name!r} is not an option of {what}: {listed}{did_you_mean(name, known)}"
            )


def _option(name: str, hint: Any, default: Any) -> Option:
    said = Option()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *more = typing.get_args(hint)
        said = next((one for one in more if isinstance(one, Option)), said)
    optional = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [one for one in typing.get_args(hint) if one is not type(None)]
        optional = len(kinds) < len(typing.get_args(hint))
        hint = kinds[0]
        if typing.get_origin(hint) is typing.Annotated:
            return replace(_option(name, hint, default), optional=optional)
    choices: tuple[str, ...] = ()
    if typing.get_origin(hint) is typing.Literal:
        choices, hint = typing.get_args(hint), str
    kind = hint if hint in (bool, int, float, str) else object
    return replace(said, name=name, kind=kind, default=default, choices=choices, optional=optional)


def as_plain(value: Any) -> Any:
    """Python's own number, text or truth value for one of NumPy's or torch's, also in an array.

    These look and count alike, but neither the database nor JSON takes them.
    """
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def as_number(name: str, value: Any, low: float = 0, high: float = math.inf) -> float:
    """A number of an argument, as Python has it.

    Args:
        name: of the argument, for the message.
        value: a number of Python's or NumPy's.
        low: the least that it can be.
        high: the most.

    Raises:
        PersamError: it is something else, or out of range.
    """
    plain = as_plain(value)
    is_number = isinstance(plain, Real) and not isinstance(plain, bool)
    number = float(plain) if is_number else math.nan
    if not low <= number <= high:
        limit = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
        raise PersamError(f"{name} {value!r} cannot be used: give a number {limit}")
    return number


def _is_switch(value: object) -> bool:
    if isinstance(value, bool):
        return True
    import numpy as np  # here, so that reading options needs none

    return isinstance(value, np.bool_)


def _listed(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} or {words[-1]}"
