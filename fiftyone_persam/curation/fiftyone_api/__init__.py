"""FiftyOne's private API, as far as this package needs it: nothing outside this folder touches it.

Each use is one function. Its comment names the version of FiftyOne in which it was last seen, and
what breaks without it. `missing` tells which of them a release of FiftyOne lacks.
"""

from __future__ import annotations

from .app import (
    delete_empty_sidebar_group,
    rename_evaluation,
    show_colours,
)
from .compatibility import (
    USED,
    missing,
)
from .documents import (
    database_process,
    dataset_name,
    fields_list,
    load_by_id,
    loaded_fields,
    merge_frame_schema,
    merge_schema,
    new_field,
    reload_document,
    store_collection,
    stored_document,
)
from .runs import (
    delete_results,
    drop_unlisted_runs,
    forget_cached_evaluation,
    has_results,
    mend_runs,
    put_results,
    results_id,
    run_documents,
    stored_runs,
    use_results,
)
from .values import (
    aggregate,
    aggregate_raw,
    bulk_write,
    bulk_write_frames,
    drop_values,
    frame_collection,
    has_sample,
    rename_values,
    sample_collection,
)
from .views import (
    dataset_id,
    dataset_of_sample,
    is_clips,
    is_dynamic_groups,
    is_frames,
    is_patches,
    media_files,
    own_dataset,
    photo_of_patch,
    root_dataset,
    serialized_view,
    stages_of,
)

__all__ = [
    "USED",
    "aggregate",
    "aggregate_raw",
    "bulk_write",
    "bulk_write_frames",
    "database_process",
    "dataset_id",
    "dataset_name",
    "dataset_of_sample",
    "delete_empty_sidebar_group",
    "delete_results",
    "drop_unlisted_runs",
    "drop_values",
    "fields_list",
    "forget_cached_evaluation",
    "frame_collection",
    "has_results",
    "has_sample",
    "is_clips",
    "is_dynamic_groups",
    "is_frames",
    "is_patches",
    "load_by_id",
    "loaded_fields",
    "media_files",
    "mend_runs",
    "merge_frame_schema",
    "merge_schema",
    "missing",
    "new_field",
    "own_dataset",
    "photo_of_patch",
    "put_results",
    "reload_document",
    "rename_evaluation",
    "rename_values",
    "results_id",
    "root_dataset",
    "run_documents",
    "sample_collection",
    "serialized_view",
    "show_colours",
    "stages_of",
    "store_collection",
    "stored_document",
    "stored_runs",
    "use_results",
]
