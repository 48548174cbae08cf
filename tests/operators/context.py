"""Operators as the App calls them: real registry, real execution context, real database."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from fiftyone.operators.executor import ExecutionContext, Executor, ValidationContext

PLUGIN = "@fiftyone-persam/persam"
ROOT = Path(__file__).resolve().parents[2]


def link_plugin() -> None:
    """Put this checkout among the plugins of the tests' own FiftyOne home."""
    link = Path(fo.config.plugins_dir) / "persam"
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)


def operator(name: str) -> Any:
    return foo.get_operator(f"{PLUGIN}/{name}")


def context(dataset: Any, name: str, params: dict[str, Any] | None = None, **request: Any) -> Any:
    """What the App sends with an operator: dataset, view, selection, parameters."""
    given = {"dataset_name": None, **request, "params": params or {}}
    if dataset is not None:
        given["dataset_name"] = dataset._root_dataset.name
        given["view"] = dataset.view()._serialize()
    return ExecutionContext(given, executor=Executor(), operator_uri=f"{PLUGIN}/{name}")


class Form:
    """An operator's form, filled in as the App does: defaults first, then what was typed."""

    def __init__(
        self, dataset: Any, name: str, params: dict[str, Any] | None = None, **request: Any
    ) -> None:
        self.operator = operator(name)
        typed = dict(params or {})
        for _ in range(3):  # defaults of one input can bring up further inputs
            self.ctx = context(dataset, name, typed, **request)
            self.inputs = self.operator.resolve_type(self.ctx, "inputs")
            defaults = {
                key: prop.default
                for key, prop in self.inputs.type.properties.items()
                if prop.default is not None
            }
            if all(key in typed for key in defaults):
                break
            typed = {**defaults, **typed}
        self.params = typed

    @property
    def errors(self) -> list[str]:
        """What keeps the form from being executed."""
        found = ValidationContext(self.ctx, self.inputs, self.operator).errors
        return [f"{error.path}: {error.reason}" for error in found]

    def __contains__(self, name: str) -> bool:
        return name in self.inputs.type.properties

    def __getitem__(self, name: str) -> Any:
        return self.inputs.type.properties[name]

    def texts(self) -> str:
        """Every label in the form, to look for what it says."""
        return "\n".join(
            str(getattr(prop.view, "label", "")) for prop in self.inputs.type.properties.values()
        )

    def execute(self) -> tuple[Any, list[Any]]:
        """Run it: (result, requests to the App)."""
        assert not self.errors, self.errors
        outcome = self.operator.execute(self.ctx)
        if inspect.isgenerator(outcome):
            outcome = _exhaust(outcome)
        return outcome, self.ctx.executor.to_json()["requests"]


class PanelTab:
    """An open review panel: its state goes back and forth with each event, as in the App."""

    def __init__(self, dataset: Any, **request: Any) -> None:
        self.dataset = dataset
        self.request = request
        self.state: dict[str, Any] = {}
        self.send("on_load")

    def send(self, event: str, **params: Any) -> list[dict[str, Any]]:
        """An event, as a click makes one: returns what was asked of the App."""
        given = {
            **params,
            "panel_id": "tab",
            "panel_state": self.state,
            "__method__": event,
        }
        ctx = context(self.dataset, "review_masks", given, **self.request)
        operator("review_masks").execute(ctx)
        self.state = ctx.panel_state
        requests = ctx.executor.to_json()["requests"]
        (self._output,) = [
            request["params"]["output"]
            for request in requests
            if request["operator_uri"] == "show_panel_output"
        ]
        return requests

    def click(self, label: str) -> list[dict[str, Any]]:
        """Click the button with these words, or the one that begins with them."""
        same = [b for b in self.buttons if b["label"] == label]
        (button,) = same or [b for b in self.buttons if b["label"].startswith(label)]
        assert not button.get("disabled"), label
        return self.send(button["operator"].rsplit("#", 1)[-1], **(button.get("params") or {}))

    @property
    def buttons(self) -> list[dict[str, Any]]:
        """The views of the buttons that are shown."""
        return [view for view in self._views(self._output) if view.get("name") == "Button"]

    @property
    def words(self) -> str:
        """All that is shown, as the App gets it."""
        return json.dumps(self._output)

    @property
    def labels(self) -> list[str]:
        """What is written on the buttons that are shown."""
        return [button["label"] for button in self.buttons]

    def _views(self, prop: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield prop.get("view") or {}
        for inner in (prop["type"].get("properties") or {}).values():
            yield from self._views(inner)


def _exhaust(generator: Any) -> Any:
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def uris(requests: list[dict[str, Any]]) -> list[str]:
    """The operators of the App that were called."""
    return [request["operator_uri"].rsplit("/", 1)[-1] for request in requests]
