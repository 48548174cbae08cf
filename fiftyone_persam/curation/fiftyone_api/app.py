"""What the App shows beside the photos: groups of fields in the sidebar, and colours."""

from __future__ import annotations

from typing import Any


def rename_evaluation(dataset: Any, key: str, new_key: str) -> None:
    """Rename an evaluation and its group in the App's sidebar; its fields are renamed already."""
    # 1.22.1: `_rename_sidebar_group`. Without it the group keeps the old name.
    dataset._rename_sidebar_group(key, new_key)
    if dataset.has_evaluation(key):
        dataset.rename_evaluation(key, new_key)


def delete_empty_sidebar_group(dataset: Any, name: str) -> None:
    """Remove a group of fields from the App's sidebar if it has none left."""
    # 1.22.1: `_delete_empty_sidebar_group`. Without it the names of deleted evaluations stay there.
    dataset._delete_empty_sidebar_group(name)


async def show_colours(dataset: Any) -> None:
    """Have the App's open tabs draw in a dataset's colours as they are now; in its server only."""
    # 1.22.1: the server's own `dispatch_event` and `SetColorScheme`. Without them the colour of a
    # new run is seen when the page is loaded again.
    try:
        from fiftyone.core.session.events import SetColorScheme
        from fiftyone.core.state import build_color_scheme
        from fiftyone.server.events import dispatch_event
    except ImportError:
        return
    dataset._reload()
    await dispatch_event(None, SetColorScheme.from_odm(build_color_scheme(None, dataset)))
