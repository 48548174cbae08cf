"""Rows of buttons and pairs of histograms, which have to fit into half a small screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fiftyone.operators.types as types

# What FiftyOne lays out in one line it squeezes: here it goes on in the next one.
_FLOWING = {
    "display": "flex",
    "flexWrap": "wrap",
    "alignItems": "center",
    "& > div": {"width": "auto"},
    "& button": {"whiteSpace": "nowrap", "minWidth": 0},
}
HALVES = {"gridTemplateColumns": "repeat(2, minmax(0, 1fr))"}
"""Two columns of one width, however wide what is in them would like to be."""
# Centred below its mark, its words would begin left of the panel.
_FIRST_MARK = {"& .MuiSlider-markLabel[data-index='0']": {"transform": "translateX(-4px)"}}
_FEW = 5  # photos in a bar: up to so many, each has a tick of its own


def flowing_row(panel: Any, name: str) -> Any:
    """A row that goes on in the next line where there is no room."""
    return panel.h_stack(name, gap=0.5, componentsProps={"grid": {"sx": _FLOWING}})


def histograms(panel: Any, name: str, plots: Mapping[str, tuple[str, Any]], state: Any) -> None:
    """A row of histograms whose bars can be clicked.

    Args:
        panel: what takes them
        name: of the row
        plots: what each is about -> its title, and what a click does
        state: the panel's, which has what `histogram_state` gives
    """
    line = panel.grid(
        name, gap=1, orientation="horizontal", componentsProps={"grid": {"sx": HALVES}}
    )
    for what, (title, handler) in plots.items():
        few = (state.get(f"{what}_top") or 0) <= _FEW
        line.plot(
            f"{what}_plot",
            label=f"{title} (click a bar)",
            layout={
                "height": 170,
                "margin": {"l": 36, "r": 12, "t": 8, "b": 32},
                "bargap": 0.05,
                "xaxis": {"title": None, "nticks": 3, "tickangle": 0, "ticklabelstandoff": 4},
                "yaxis": {"dtick": 1} if few else {"nticks": 4},
            },
            config={"displayModeBar": False},
            on_click=handler,
        )


def histogram_state(
    name: str, what: str, histogram: Any, colour: str, title: str | None = None
) -> dict[str, Any]:
    """What the panel's state has of a histogram.

    Args:
        name: of the row that it is in
        what: it is about
        histogram: of `curation.evaluation.histograms`
        colour: of the bars
        title: as people call what it is about
    """
    edges, counts = histogram.edges, histogram.counts
    bars: list[dict[str, Any]] = []
    if len(counts):
        bars = [
            {
                "type": "bar",
                "x": [float(v) for v in (edges[:-1] + edges[1:]) / 2],
                "y": [int(c) for c in counts],
                "width": float(edges[1] - edges[0]) * 0.95,
                "marker": {"color": colour},
                "hovertemplate": f"{title or what} %{{x:.3f}}: %{{y}} photos<extra></extra>",
            }
        ]
    return {
        f"{what}_edges": [float(e) for e in edges],
        f"{what}_top": int(max(counts, default=0)),
        f"{name}.{what}_plot": bars,
    }


def threshold_slider(low: float, high: float) -> Any:
    """A slider with its scale below it, and what its lower end means."""
    marks = [{"value": value, "label": f"{value:g}"} for value in ((low + high) / 2, high)]
    marks.insert(0, {"value": low, "label": f"{low:g}: all kept"})
    return types.SliderView(
        min=low,
        max=high,
        value_precision=2,
        label_position="top",
        value_label_display="auto",
        componentsProps={"slider": {"marks": marks, "sx": _FIRST_MARK}},
    )
