"""A run whose every number is known, for the tests of what comes after segmenting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
from PIL import Image

from fiftyone_persam.curation.database import photos_of as every_photo
from fiftyone_persam.curation.runs.record import Parameters, ReferenceRecord, RunRecord, RunState

SIZE = (40, 60)  # height, width
RUN = "mine"

# name -> (score, presence, error); the threshold is 0.4
PHOTOS: dict[str, tuple[float | None, float | None, str | None]] = {
    "sure": (0.95, 0.90, None),
    "good": (0.90, 0.80, None),
    "low_score": (0.30, 0.85, None),
    "low_presence": (0.85, 0.45, None),
    "absent": (0.70, 0.10, None),
    "failed": (None, None, "broken.jpg: cannot be read as a photo"),
    "untouched": (None, None, None),
}
THRESHOLD = 0.4


def disc(x: int, y: int, radius: int = 10) -> np.ndarray:
    """(40, 60) bool mask of a disc."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def reviewed_run(
    make: Callable[..., fo.Dataset], folder: Path, name: str = RUN, grouped: bool = False
) -> fo.Dataset:
    """A dataset of seven photos; run ``name`` has masks (files) on the first five.

    ``grouped``: photos of even number are the slice "left" of a group, the next ones "right".
    """
    samples, group = [], fo.Group()
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for index, photo in enumerate(PHOTOS):
        path = folder / "photos" / f"{photo}.png"
        Image.fromarray(np.full((*SIZE, 3), 30 * index, np.uint8)).save(path)
        sample = fo.Sample(str(path), photo=photo)
        truth = disc(20 + index, 20)
        sample["ground_truth"] = fo.Segmentation(mask=np.where(truth, 255, 0).astype(np.uint8))
        if grouped:
            group = group if index % 2 else fo.Group()
            sample["group"] = group.element("right" if index % 2 else "left")
        samples.append(sample)
    dataset = make(samples)
    every_photo(dataset).compute_metadata()
    add_run(dataset, folder, name)
    return dataset


def add_run(
    dataset: fo.Dataset,
    folder: Path,
    name: str = RUN,
    shift: int = 2,
    label_type: str = "segmentation",
) -> None:
    """Write what a run writes: masks as files, scores, presences, errors, the run itself."""
    masks = folder / name
    masks.mkdir(parents=True, exist_ok=True)
    for field, kind in (("score", fo.FloatField), ("presence", fo.FloatField)):
        dataset.add_sample_field(f"{name}_{field}", kind)
    dataset.add_sample_field(f"{name}_error", fo.StringField)
    kinds = {name: fo.Detections if label_type == "detections" else fo.Segmentation}
    if label_type == "both":
        kinds[f"{name}_instances"] = fo.Detections
    for field, kind in kinds.items():
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=kind)
    for index, sample in enumerate(every_photo(dataset)):
        score, presence, error = PHOTOS[sample.photo]
        if score is not None:
            mask = disc(20 + index + shift, 20)
            path = masks / f"{sample.id}.png"
            Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path)
            for field, kind in kinds.items():
                sample[field] = (
                    fo.Segmentation(mask_path=str(path))
                    if kind is fo.Segmentation
                    else fo.Detections(detections=[fo.Detection.from_mask(mask, label="disc")])
                )
        sample[f"{name}_score"], sample[f"{name}_presence"] = score, presence
        sample[f"{name}_error"] = error
        sample.save()
    reference = ReferenceRecord(dataset.first().id, "ground_truth", "sure.png")
    record = RunRecord(
        method="persam_f",
        model="sam_lite",
        references=(reference,),
        parameters=Parameters(label_type=label_type, presence_threshold=THRESHOLD),
        masks_dir=str(masks),
        run_id=name,
        state=RunState.DONE,
    )
    config = record.to_config(dataset.init_run())
    dataset.register_run(name, config)
    results = dataset.init_run_results(name)
    results.ids = every_photo(dataset).values("id")
    results.timings = {"seconds": 3.0, "photos": 6, "photos_per_second": 2.0}
    dataset.save_run_results(name, results)


def ids_of(dataset: fo.Dataset, *photos: str) -> list[str]:
    """Sample ids by the photos' names."""
    found = dict(zip(*every_photo(dataset).values(["photo", "id"]), strict=True))
    return [found[p] for p in photos]


def photos_of(view: fo.DatasetView) -> list[str]:
    """The photos' names, in the view's order."""
    return view.values("photo")
