"""What this package needs of FiftyOne's private API, and what a release of it lacks."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
from fiftyone.core.evaluation import EvaluationResults

# Whose attribute -> which, and what it is for. `missing` looks for them.
USED: dict[str, dict[str, str]] = {
    "dataset": {
        "_doc": "datasets are told apart, runs read and their results replaced",
        "_root_dataset": "the dataset behind a view is found",
        "_dataset": "a deleted dataset is recognised",
        "_is_patches": "patches are told from photos",
        "_is_frames": "frames are told from photos",
        "_is_dynamic_groups": "photos that are only grouped for looking at them are recognised",
        "_reload": "what other processes did to a dataset is seen",
        "_merge_sample_field_schema": "all fields of a run are declared at once",
        "_bulk_write": "all fields of many photos are written at once",
        "_sample_collection": "decisions are awaited on the database's disk, runs have an index",
        "_pipeline": "photos of a run are counted in the database",
        "_sample_collection_name": "decisions are awaited on the database's disk",
        "_rename_sidebar_group": "an evaluation takes the place of an earlier one",
        "_evaluation_cache": "evaluations are renamed",
        "_delete_empty_sidebar_group": "a deleted evaluation leaves the App's sidebar",
        "_frame_collection": "results of videos are read, frame by frame",
        "_merge_frame_field_schema": "all fields of a run over videos are declared at once",
    },
    "view": {
        "_root_dataset": "the dataset behind a view is found",
        "_dataset": "the dataset that FiftyOne has made for a view is found",
        "_is_patches": "patches are told from photos",
        "_is_frames": "frames are told from photos",
        "_is_clips": "clips are told from photos",
        "_stages": "photos of a view that leaves fields out are found with all their fields",
        "_is_dynamic_groups": "photos that are only grouped for looking at them are recognised",
        "_pipeline": "photos of a run are counted in the database",
        "_get_media_fields": "files that an export would copy are looked at first",
        "_serialize": "an operator that is called from Python gets the caller's view",
    },
    "sample view": {"_view": "the photo behind a patch is found"},
    "Sample": {"_reload_docs": "samples in memory see the decisions about them"},
    "EvaluationResults": {"_from_dict": "an evaluation's numbers per object are loaded"},
}


def missing(dataset: Any) -> list[str]:
    """What this release of FiftyOne lacks of what this package uses, a line each.

    Args:
        dataset: any dataset with at least one sample; it is not changed.
    """
    view = dataset.view()
    owners = {
        "dataset": dataset,
        "view": view,
        "sample view": view.first(),
        "Sample": fo.Sample,
        "EvaluationResults": EvaluationResults,
    }
    return [
        f"FiftyOne {fo.__version__} has no {name} on a {owner}, by which {purpose}: "
        f"find what has taken its place, and change {__package__}"
        for owner, names in USED.items()
        for name, purpose in names.items()
        if not hasattr(owners[owner], name)
    ]
