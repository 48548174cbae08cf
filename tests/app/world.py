"""The datasets that the gallery's screens are about."""

from __future__ import annotations

import itertools
from pathlib import Path

import fiftyone as fo

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_queue

OBJECTS = ("cat", "cup")


class World:
    """Few photos or many, with runs and without.

    Attributes:
        album: photos of two objects with two runs, one evaluated twice, one photo that failed.
        bare: the same photos without labels and runs.
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

    def delete(self) -> None:
        self.album.delete()
        self.bare.delete()
