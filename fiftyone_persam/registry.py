"""Names for what can be added: methods, models, back ends, priors, exporters, importers, proposers.

An entry is the object itself or, so that importing stays cheap, its address "module:attribute",
which is imported when it is asked for. Another package adds its own in one of two ways: it calls
`Registry.register`, or it declares an entry point in the registry's group, which is found without
importing that package first.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from .errors import PersamError, did_you_mean

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Registry(Mapping[str, T]):
    """Entries by name, in the order in which they were added. Safe to use from several threads.

    Args:
        kind: what an entry is called in messages, such as "method".
        entries: what the package itself brings: objects, or addresses "module:attribute".
        group: entry points of other packages; ``fiftyone_persam.<kind>s`` if None, with "_" for
            spaces.
        required: attributes without which an object cannot be an entry.
        otherwise: what a caller may give in place of a name, for the end of a message.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T | str] | None = None,
        *,
        group: str | None = None,
        required: Sequence[str] = (),
        otherwise: str = "",
    ) -> None:
        self.kind = kind
        self.group = group or f"fiftyone_persam.{kind.replace(' ', '_')}s"
        self.required = tuple(required)
        self.otherwise = otherwise
        self._lock = threading.RLock()
        self._entries: dict[str, T | str] = dict(entries or {})
        self._discovered = False

    def register(self, entry: T | str, name: str | None = None) -> T | str:
        """Add an entry; also a decorator of classes.

        Args:
            entry: the object, or its address "module:attribute".
            name: what it is called; the object's own ``name`` if None.

        Returns:
            The entry.

        Raises:
            PersamError: the name is taken or is not a name, or the object lacks something.
        """
        given = getattr(entry, "name", None) if name is None else name
        if not isinstance(given, str) or not _NAME.fullmatch(given):
            raise PersamError(
                f"{given!r} cannot name a {self.kind}: use letters, digits, '_', '-' and '.'"
            )
        with self._lock:
            if given in self:
                raise PersamError(
                    f"there is a {self.kind} {given!r} already: choose another name, or unregister "
                    "that one first"
                )
            if not isinstance(entry, str):
                self._check(given, entry)
            self._entries[given] = entry
        return entry

    def unregister(self, name: str) -> None:
        """Take an entry out again.

        Raises:
            PersamError: there is none of this name.
        """
        with self._lock:
            self.check(name)
            del self._entries[name]

    def check(self, name: object) -> str:
        """The name, if there is an entry of this name.

        Raises:
            PersamError: there is none; the message lists all and guesses what was meant.
        """
        if not isinstance(name, str) or name not in self:
            shown = repr(name) if isinstance(name, str) or name is None else type(name).__name__
            otherwise = f", or {self.otherwise}" if self.otherwise else ""
            raise PersamError(
                f"{self.kind} {shown} is not known: choose one of {', '.join(self)}{otherwise}"
                f"{did_you_mean(name, self)}"
            )
        return name

    def __getitem__(self, name: str) -> T:
        """The entry, imported if it is not yet; PersamError if there is none or it is broken."""
        with self._lock:
            entry = self._entries[self.check(name)]
            if isinstance(entry, str):
                entry = self._load(name, entry)
                self._check(name, entry)
                self._entries[name] = entry
            return entry

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or the default if there is none of this name."""
        if name not in self:
            return default
        return self[name]

    def __contains__(self, name: object) -> bool:
        with self._lock:
            self._discover()
            return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            self._discover()
            return iter(list(self._entries))

    def __len__(self) -> int:
        with self._lock:
            self._discover()
            return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self)})"

    def _discover(self) -> None:
        """Entry points of other packages, once; nothing of them is imported."""
        if self._discovered:
            return
        self._discovered = True
        for point in importlib.metadata.entry_points(group=self.group):
            if point.name in self._entries:
                logger.warning(
                    "The %s %r of %s is left out because there is one of this name already",
                    *(self.kind, point.name, point.value),
                )
                continue
            self._entries[point.name] = point.value

    def _load(self, name: str, address: str) -> T:
        module, _, attribute = address.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except Exception as error:  # whatever the module of another package raises
            raise PersamError(
                f"{self.kind} {name!r} cannot be imported from {address!r} ({error}): mend or "
                "uninstall the package that brings it"
            ) from error
        return cast(T, found)

    def _check(self, name: str, entry: object) -> None:
        missing = [one for one in self.required if not hasattr(entry, one)]
        if missing:
            raise PersamError(
                f"{self.kind} {name!r} lacks {', '.join(missing)}: give it what every {self.kind} "
                "has"
            )
