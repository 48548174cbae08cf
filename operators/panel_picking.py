"""The page of the review panel on which an object is pointed at, in a photo that needs no label."""

from __future__ import annotations

import zlib
from typing import Any

import fiftyone.operators.types as types

from .base import PLUGIN, Context
from .marking import PICK, POINT, SCALE, SCALES, WAY
from .panel_layout import flowing_row

PICKING = "picking"
CELLS = 160  # along the photo's longer side: how finely a click is read
SIDE = 460


class PickingPage:
    """The events of the page; the panel that has it gives ``_read``, ``refresh``, ``_try``."""

    _read: Any
    _try: Any
    _expect_run: Any
    refresh: Any

    def pick_object(self, ctx: Context) -> None:
        """Point at an object in the opened photo, the selected one, or else the first."""
        ids = [ctx.current_sample, *(ctx.selected or [])]
        ids = [i for i in ids if i] or ctx.view.limit(1).values("id")
        if not ids:
            ctx.ops.notify("There is no photo here: clear the filters.", variant="warning")
            return
        self._look_at(ctx, ids[0])

    def pick_next(self, ctx: Context) -> None:
        """Another photo: the next one of the view."""
        ids = ctx.view.limit(200).values("id")
        before = ctx.panel.state.pick_photo
        place = ids.index(before) + 1 if before in ids else 0
        if ids:
            self._look_at(ctx, ids[place % len(ids)])

    def pick_more(self, ctx: Context) -> None:
        """The next proposals; after the last ones, the first again."""
        ctx.panel.state.pick_page = (ctx.panel.state.pick_page or 0) + 1
        self._try(ctx, lambda: self._offer(ctx))

    def pick_click(self, ctx: Context) -> None:
        """The photo was clicked: what is there, as a part and as a whole."""
        x, y = ctx.params.get("x"), ctx.params.get("y")
        if x is None or y is None:
            return

        def look() -> None:
            from fiftyone_persam.curation.forms import picking

            path = ctx.dataset[ctx.panel.state.pick_photo].filepath
            found = picking.scales_at(path, point=(float(x), float(y)))
            uris = [picking.cut_out(path, one, side=140) for one in found]
            ctx.panel.state.pick_at = {"x": 100 * float(x), "y": 100 * float(y)}
            ctx.panel.state.pick_scales = _named(ctx, "pick_scales_row", uris)
            ctx.panel.set_state("pick_figure.plot", _figure(ctx, (float(x), float(y))))
            if not found:
                ctx.ops.notify("There is nothing to segment at this point.", variant="warning")

        self._try(ctx, look)

    def pick_scale(self, ctx: Context) -> None:
        """A part or the whole at the click was taken."""
        at = ctx.panel.state.pick_at
        self._begin(ctx, {WAY: "point", POINT: at, SCALE: str(ctx.params["scale"])})

    def pick_proposal(self, ctx: Context) -> None:
        """A numbered proposal was taken."""
        self._begin(ctx, {WAY: "propose", PICK: str(ctx.params["pick"])})

    def pick_back(self, ctx: Context) -> None:
        """Leave the page."""
        ctx.panel.state.page = None
        self._read(ctx)

    def _begin(self, ctx: Context, given: dict[str, Any]) -> None:
        """Open the form with what was picked in it."""
        params = {"reference": ctx.panel.state.pick_photo, "mark_here": True, **given}
        self._expect_run(ctx)
        ctx.panel.state.page = None
        ctx.prompt(f"{PLUGIN}/segment_from_reference", params=params, on_success=self.refresh)

    def _look_at(self, ctx: Context, sample_id: str) -> None:
        ctx.panel.state.pick_photo = sample_id
        ctx.panel.state.pick_page = 0
        ctx.panel.state.pick_at = None
        ctx.panel.state.pick_scales = []
        if self._try(ctx, lambda: self._offer(ctx)):
            ctx.panel.state.page = PICKING

    def _offer(self, ctx: Context) -> None:
        from fiftyone_persam.curation.forms import picking

        path = ctx.dataset[ctx.panel.state.pick_photo].filepath
        proposals = picking.offered(path)
        pages = max(1, -(-len(proposals) // picking.PAGE))
        page = (ctx.panel.state.pick_page or 0) % pages
        first = page * picking.PAGE + 1
        shown = proposals[first - 1 : first - 1 + picking.PAGE]
        ctx.panel.state.pick_page = page
        ctx.panel.state.pick_pages = pages
        ctx.panel.state.pick_first = first
        ctx.panel.state.pick_picture = picking.numbered(path, shown, first, SIDE)
        ctx.panel.state.pick_size = picking.picture_size(path, SIDE)
        uris = [picking.cut_out(path, one, first + k) for k, one in enumerate(shown)]
        ctx.panel.state.pick_offered = _named(ctx, "pick_offered_row", uris)
        ctx.panel.set_state("pick_figure.plot", _figure(ctx))


def picking_page(panel: Any, owner: Any, state: Any) -> None:
    """The photo to click, what was found in it, and what is at the click."""
    panel.md("**Click your object**, in the photo or among the numbered pictures.", name="pick_how")
    width, height = state.pick_size
    figure = panel.grid("pick_figure", gap=0, columns=1)
    figure.plot(
        "plot",
        layout={
            "height": height + 16,
            "width": width + 16,
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "xaxis": {"visible": False, "range": [0, 1], "fixedrange": True, "automargin": False},
            "yaxis": {"visible": False, "range": [1, 0], "fixedrange": True, "automargin": False},
            "images": [
                {
                    "source": state.pick_picture,
                    "xref": "x",
                    "yref": "y",
                    "x": 0,
                    "y": 0,
                    "sizex": 1,
                    "sizey": 1,
                    "sizing": "stretch",
                    "layer": "below",
                }
            ],
        },
        config={"displayModeBar": False, "scrollZoom": False},
        on_click=owner.pick_click,
    )
    names = list(state.pick_scales or [])
    if names:
        panel.md("What is there: click one.", name="pick_which")
        row = flowing_row(panel, "pick_scales_row")
        texts = SCALES if len(names) == len(SCALES) else SCALES[-len(names) :]
        for index, (name, text) in enumerate(zip(names, texts, strict=True)):
            _image(row, name, text, owner.pick_scale, {"scale": index})
    row = flowing_row(panel, "pick_offered_row")
    for index, name in enumerate(state.pick_offered or []):
        number = (state.pick_first or 1) + index
        _image(row, name, f"Pick {number}", owner.pick_proposal, {"pick": number})
    row = flowing_row(panel, "pick_steps")
    if (state.pick_pages or 1) > 1:
        row.btn("pick_more", label="More", icon="more_horiz", on_click=owner.pick_more)
    row.btn("pick_next", label="Another photo", icon="skip_next", on_click=owner.pick_next)
    row.btn("pick_back", label="Back", icon="arrow_back", on_click=owner.pick_back)


def _image(row: Any, name: str, text: str, handler: Any, params: dict[str, Any]) -> None:
    view = types.ImageView(alt=text, height="96px", operator=handler, params=params)
    row.str(name, label=text, view=view)


def _named(ctx: Context, row: str, uris: list[str]) -> list[str]:
    """Put pictures into the panel's state, each under a name of its own."""
    names = []
    for uri in uris:
        name = f"picture_{zlib.crc32(uri.encode()):08x}"
        ctx.panel.set_state(f"{row}.{name}", uri)
        names.append(name)
    return names


def _figure(ctx: Context, point: tuple[float, float] | None = None) -> list[dict[str, Any]]:
    """Plotly's traces: cells that nobody sees and that take the click, and the point."""
    width, height = ctx.panel.state.pick_size
    longer = max(width, height)
    columns, rows = (max(2, round(CELLS * side / longer)) for side in (width, height))
    traces: list[dict[str, Any]] = [
        {
            "type": "heatmap",
            "x": [(k + 0.5) / columns for k in range(columns)],
            "y": [(k + 0.5) / rows for k in range(rows)],
            "z": [[0] * columns] * rows,
            "opacity": 0.01,
            "showscale": False,
            "hoverinfo": "none",
        }
    ]
    if point is not None:
        traces.append(
            {
                "type": "scatter",
                "x": [point[0]],
                "y": [point[1]],
                "mode": "markers",
                "marker": {"size": 14, "color": "#ff6d04", "line": {"color": "white", "width": 2}},
                "hoverinfo": "none",
            }
        )
    return traces
