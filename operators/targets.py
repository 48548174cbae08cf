"""Which photos an operator is for: what the App's "target" says, whatever the grid shows."""

from __future__ import annotations

from typing import Any

from fiftyone.operators.constants import ViewTarget

from fiftyone_persam.curation.fiftyone_api import is_dynamic_groups, is_patches

from .base import Context


def photos_to_segment(ctx: Context) -> Any:
    """The photos that are to get masks: of a grouped dataset, those of the slice that is shown."""
    from fiftyone_persam.curation.forms.photos import photos_behind

    target = ctx.target_view()
    if is_dynamic_groups(target):
        if _selected(ctx):
            # Every photo of a group can be selected, not only the one in the grid.
            return ctx.flatten_group_slices(photos_behind(ctx.view)).select(ctx.selected)
        return ctx.flatten_group_slices(photos_behind(target))
    return photos_behind(target) if is_patches(target) else ctx.target_view(require_flat=True)


def photos_to_read(ctx: Context) -> Any:
    """The photos whose masks are looked at: of a grouped dataset, those of all slices."""
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.photos import photos_behind

    target = ctx.target_view()
    if _selected(ctx) and (ctx.dataset.media_type == "group" or is_dynamic_groups(ctx.view)):
        return photos_of(ctx.dataset).select(list(ctx.selected))
    return photos_behind(target) if is_patches(target) else target


def _selected(ctx: Context) -> bool:
    target = ctx.request_params.get("view_target")  # taken out of the parameters by FiftyOne
    return target == ViewTarget.SELECTED_SAMPLES  # type: ignore[no-any-return]
