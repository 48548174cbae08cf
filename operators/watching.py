"""Tell the App when a run ends that another process was doing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_persam.curation import fiftyone_api

from .base import PLUGIN, Context, show_fields
from .streaming import DONE, ERROR, PROGRESS_STORE, RUNNING, STOPPED

VARIANTS = {DONE: "success", STOPPED: "warning", ERROR: "error"}
IDLE = 60.0  # seconds between two looks where no notification came


class WatchRuns(foo.Operator):
    """Started by the App with each dataset it opens; ends when the App closes the connection."""

    @property
    def config(self) -> Any:
        """See ``foo.OperatorConfig``."""
        return foo.OperatorConfig(
            name="watch_runs",
            label="Watch runs",
            unlisted=True,
            on_dataset_open=True,
            execute_as_generator=True,
            risk_level=types.RiskLevel.LOW,
        )

    async def execute(self, ctx: Context) -> AsyncIterator[Any]:
        """Wait for runs to end; then a toast, a fresh grid, and the masks switched on."""
        from fiftyone.operators.store.notification_service import (
            default_notification_service as service,
        )

        if ctx.dataset is None:
            return
        opened = time.time()
        dataset_id = fiftyone_api.dataset_id(ctx.dataset)
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def notice(_message: Any) -> None:
            loop.call_soon_threadsafe(changed.set)

        subscription = service.subscribe(PROGRESS_STORE, notice, dataset_id=str(dataset_id))
        seen: dict[str, float] = {}
        try:
            while True:
                for run, entry in await asyncio.to_thread(_entries, dataset_id):
                    ended = entry["state"] != RUNNING and entry["time"] > opened
                    if ended and seen.get(run) != entry["time"] and not entry.get("shown"):
                        seen[run] = entry["time"]
                        yield ctx.ops.notify(
                            entry["label"], variant=VARIANTS.get(entry["state"], "info")
                        )
                        await fiftyone_api.show_colours(ctx.dataset)
                        yield ctx.trigger(f"{PLUGIN}/show_run", params={"run": run})
                changed.clear()
                try:
                    await asyncio.wait_for(changed.wait(), IDLE)
                except asyncio.TimeoutError:
                    continue
        finally:
            service.unsubscribe(subscription)


def _entries(dataset_id: Any) -> list[tuple[str, dict[str, Any]]]:
    store = foo.ExecutionStore.create(PROGRESS_STORE, dataset_id)
    keys = [key for key in store.list_keys() if key.startswith("run/")]
    found = [(key.removeprefix("run/"), store.get(key)) for key in keys]
    return [(run, entry) for run, entry in found if entry]


class ShowRun(foo.Operator):
    """Switch a run's masks on; asked for by :class:`WatchRuns`, which can't know what is on."""

    @property
    def config(self) -> Any:
        """See ``foo.OperatorConfig``."""
        return foo.OperatorConfig(
            name="show_run", label="Show a run", unlisted=True, risk_level=types.RiskLevel.LOW
        )

    def resolve_input(self, ctx: Context) -> Any:
        """The run's name."""
        inputs = types.Object()
        inputs.str("run", required=True)
        return types.Property(inputs)

    def execute(self, ctx: Context) -> None:
        """Reload and switch the masks on."""
        ctx.ops.reload_dataset()
        show_fields(ctx, ctx.params["run"])
