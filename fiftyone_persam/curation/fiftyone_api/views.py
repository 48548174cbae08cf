"""What a view shows, and which dataset is behind a view, a sample or a patch."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
from bson import ObjectId


def dataset_id(dataset: Any) -> ObjectId:
    """A dataset's id, which stays when it is renamed."""
    # 1.22.1: `_doc`. Without it a renamed dataset is another one: its references, review and lease
    # are not found.
    found: ObjectId = dataset._doc.id
    return found


def root_dataset(samples: Any) -> Any:
    """The dataset behind a view, of a view of patches too; a dataset itself."""
    # 1.22.1: `_root_dataset`. Without it nothing that takes a view knows where to write.
    return samples._root_dataset


def own_dataset(samples: Any) -> Any:
    """The dataset that holds the samples: for patches and frames one that FiftyOne has made."""
    # 1.22.1: `_dataset`. Without it a view of a deleted dataset fails in the middle of the work.
    return samples if isinstance(samples, fo.Dataset) else samples._dataset


def dataset_of_sample(sample: Any) -> Any:
    """The dataset that a sample is of; of a patch, the dataset that FiftyOne has made for it."""
    return root_dataset(sample.dataset)


def photo_of_patch(patch: Any) -> Any:
    """The sample that a patch was cut out of."""
    # 1.22.1: `_view`. Without it a patch that was chosen in the App cannot be a reference.
    return root_dataset(patch._view)[patch.sample_id]


def is_patches(samples: Any) -> bool:
    """Whether this is a view of patches."""
    # 1.22.1: `_is_patches`. Without it patches are taken for photos.
    return bool(samples._is_patches)


def is_frames(samples: Any) -> bool:
    """Whether this is a view of a video's frames."""
    # 1.22.1: `_is_frames`. Without it frames are taken for photos.
    return bool(samples._is_frames)


def is_clips(samples: Any) -> bool:
    """Whether this is a view of parts of videos."""
    # 1.22.1: `_is_clips`. Without it a message cannot say how photos are made of them.
    return bool(samples._is_clips)


def stages_of(view: Any) -> list[Any]:
    """What a view does, step by step."""
    # 1.22.1: `_stages`. Without it a view that leaves fields out hides results and ground truth.
    return list(view._stages)


def is_dynamic_groups(samples: Any) -> bool:
    """Whether photos are grouped by a field, which makes no slices."""
    # 1.22.1: `_is_dynamic_groups`. Without it such a view is taken for one of slices and refused.
    return bool(samples._is_dynamic_groups)


def serialized_view(samples: Any) -> Any:
    """A view as operators get it from the App."""
    # 1.22.1: `_serialize`. Without it an operator that is called from Python works on all photos.
    return samples.view()._serialize()


def media_files(view: Any) -> dict[str, list[str]]:
    """Sample id -> the files that its labels and fields name, which an export copies."""
    # 1.22.1: `_get_media_fields`. Without it an export may wait at a pipe, or end half-way.
    fields = view._get_media_fields(blacklist=("filepath", "media_reference"))
    found: dict[str, list[str]] = {}
    for name, key in fields.items():
        rows = zip(*view.values(["id", name if key is None else f"{name}.{key}"]), strict=True)
        for sample_id, value in rows:
            paths = value if isinstance(value, list) else [value]
            found.setdefault(sample_id, []).extend(path for path in paths if path)
    return found
