"""The datasets that the gallery's screens are about."""

from __future__ import annotations

import itertools
from pathlib import Path

import fiftyone as fo

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_queue
from fiftyone_persam.datasets import DavisDataset

from ..curation.scenes import scenes
from ..datasets.davis import write_davis

OBJECTS = ("cat", "cup")


class World:
    """Few photos or many, with runs and without.

    Attributes:
        album: photos of two objects with two runs, one evaluated twice, one photo that failed.
        bare: the same photos without labels and runs.
        things: five photos of a cat and a cup, alone, together and not at all, with a run of both
            and one of the cat of which the cup's mask is rejected.
        frames: two short films as photos, with masks that are a frame late, evaluated by J&F.
    """

    def __init__(self, folder: Path, source: Path, count: int) -> None:
        files = [
            (name, path, source / "Annotations" / name / f"{path.stem}.png")
            for name in OBJECTS
            for path in sorted((source / "Images" / name).iterdir())[: count // 2]
        ]
        files = list(itertools.islice(itertools.cycle(files), count - 1))
        self.count = count
        self.album = fo.Dataset(f"my-album-{count}", persistent=True)
        samples = [
            fo.Sample(str(path), object=name, ground_truth=fo.Segmentation(mask_path=str(mask)))
            for name, path, mask in files
        ]
        samples[0]["role"] = "reference"
        next(s for s in samples if s["object"] == OBJECTS[1])["role"] = "reference"
        broken = folder / f"IMG_0{count}.jpg"
        broken.write_bytes(files[0][1].read_bytes()[:3000])
        samples.append(fo.Sample(str(broken), object=OBJECTS[0]))
        self.album.add_samples(samples)
        self.album.default_mask_targets = {255: "object"}
        references = self.album.match(fo.ViewField("role") == "reference")
        for method in ("persam_f", "persam"):
            fp.segment(
                self.album,
                reference=references,
                group_by="object",
                method=method,
                out_field=method,
                masks_dir=str(folder / f"{method}-{count}"),
                cache=True,
            )
            fp.evaluate(
                self.album.exists("ground_truth"),
                method,
                eval_key=f"{method}_eval",
                group_by="object",
            )
        done = review_queue(self.album, "persam").values("id")
        set_review(self.album, "persam", "accepted", done[-(count // 4) :])
        self.bare = fo.Dataset(f"holiday-{count}", persistent=True)
        self.bare.add_samples([fo.Sample(str(path), place="beach") for _, path, _ in files])
        self.things = _things(folder, source, count)
        self.frames = _frames(folder, count)

    def delete(self) -> None:
        for dataset in (self.album, self.bare, self.things, self.frames):
            dataset.delete()


def _things(folder: Path, source: Path, count: int) -> fo.Dataset:
    made = fo.Dataset(f"things-{count}", persistent=True)
    (place := folder / f"things-{count}").mkdir()
    made.add_samples(scenes(source, place))
    cat, cup = made.values("id")[:2]
    settings = {"label_field": "labels", "method": "persam"}
    fp.segment(made, {"cat": cat, "cup": cup}, out_field="both", **settings)
    fp.segment(made, cat, out_field="cat", presence_threshold=0, **settings)
    set_review(made, "cat", "rejected", [cup])
    return made


def _frames(folder: Path, count: int) -> fo.Dataset:
    root = write_davis(folder / f"DAVIS-{count}", ("blackswan", "dogs"), frames=5)
    made = fo.Dataset.from_dir(
        dataset_dir=str(root), dataset_type=DavisDataset, name=f"frames-{count}"
    )
    made.persistent = True
    late = dict(zip(made.values("id"), [None, *made.values("ground_truth")], strict=False))
    for sample in made.iter_samples(autosave=True):
        sample["pred"] = late[sample.id] if sample.frame_number > 1 else sample.ground_truth
    fp.evaluate(
        *(made, "pred"),
        eval_key="followed",
        method="davis",
        sequence_field="sequence",
        order_field="frame_number",
    )
    return made
