"""One small FiftyOne home with everything that a bad call could hurt, and a picture of it all."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import bson
import fiftyone as fo
import fiftyone.core.odm as foo
import numpy as np
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation import set_review
from tests.curation.discs import disc, make_photos, tiny_sam

UNKNOWN_ID = "0" * 24


class StopError(Exception):
    """Interrupts a run."""


class World:
    """Datasets of every kind, runs in every state, and files.

    Attributes:
        photos: four photos of a red disc: labels of every kind, good and bad; the runs ``mine``
            and ``other`` (reviewed), ``both`` (instances), ``stopped`` (interrupted), ``lite`` and
            ``sure`` (rejected and accepted, with the bundled model), a run ``foreign`` of another
            tool, the evaluation ``known``.
        album: two colours with two photos each, and the run ``grouped``.
        empty, videos, groups: datasets without photos to segment.
        sam: a promptable model with random weights.
        folder: the photos' folder, with files of all sorts for a call to trip over.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sam = tiny_sam()
        self.mask = disc(20, 24)
        self.photos = self._photos()
        self.album = fo.Dataset("bad-calls-album")
        self.album.add_samples(make_photos(_made(folder / "album"), 2, ("red", "blue")))
        self.empty = fo.Dataset("bad-calls-empty")
        self.videos = self._videos()
        self.groups = self._groups()
        self.deleted = fo.Dataset("bad-calls-deleted")
        self.deleted.delete()
        self._make_runs()
        self._make_files()
        self.patches = self.photos.to_patches("boxes")
        self.frames = self.videos.to_frames(sample_frames=False)
        self.clips = self.videos.to_clips([[[1, 2]]])
        self._runs = [(d, set(d.list_runs())) for d in (self.photos, self.album)]
        self._before = self.snapshot()

    # What calls need ------------------------------------------------------------------------------

    def segment(self, samples: Any = None, reference: Any = None, **changes: Any) -> Any:
        """A call of `segment` that would do, but for the changes."""
        settings: dict[str, Any] = {"method": "persam", "model": self.sam, "out_field": "new"}
        return fp.segment(
            self.photos if samples is None else samples,
            self.photos.first() if reference is None else reference,
            **{**settings, **changes},
        )

    def id(self, row: int = 0) -> str:
        """A photo's sample id."""
        return str(self.photos.values("id")[row])

    def path(self, name: str) -> str:
        """A file or folder of the world."""
        return str(self.folder / name)

    # What may not change --------------------------------------------------------------------------

    def changes(self) -> list[str]:
        """What is not as it was when this was asked last."""
        before, self._before = self._before, self.snapshot()
        return [
            f"{key}: {'new' if key not in before else 'gone' if key not in now else 'changed'}"
            for now in [self._before]
            for key in sorted({*before, *now})
            if before.get(key) != now.get(key)
        ]

    def repair(self) -> None:
        """Undo what a call should not have done, so that only its own test fails."""
        for dataset, known in self._runs:
            for run in set(dataset.list_runs()) - known:
                fp.delete_run(dataset, run)
        if fo.dataset_exists("fresh"):
            fo.delete_dataset("fresh")
        self._before = self.snapshot()

    def snapshot(self) -> dict[str, str]:
        """Every document of the database, and every file and folder there is."""
        found: dict[str, str] = {}
        database = foo.get_db_conn()
        for name in database.list_collection_names():
            for document in database[name].find():
                document.pop("last_loaded_at", None)  # looking at a dataset is not a change of it
                found[f"{name}/{document['_id']}"] = _hash(bson.encode(document))
        for root in (self.folder, Path(fo.config.default_dataset_dir)):
            for parent, _, files in os.walk(root):
                found[parent] = "folder"
                for file in files:
                    path = Path(parent, file)
                    found[str(path)] = _hash(path.read_bytes()) if path.is_file() else "special"
        for dataset in (self.photos, self.album):
            found[f"fields of {dataset.name}"] = str(sorted(dataset.get_field_schema(flat=True)))
        return found

    # How it is made -------------------------------------------------------------------------------

    def _photos(self) -> fo.Dataset:
        photos = fo.Dataset("bad-calls")
        photos.add_samples(make_photos(_made(self.folder / "photos"), 4))
        sample = photos.first()
        for name, label in self._labels().items():
            sample[name] = label
        sample.save()
        photos.add_sample_field("der_score", fo.FloatField)
        photos.add_sample_field("taken_iou", fo.FloatField)
        photos.tag_samples("all")
        return photos

    def _labels(self) -> dict[str, Any]:
        empty = np.zeros((48, 64), np.uint8)
        box = [0.2, 0.2, 0.4, 0.5]
        detections = {
            "boxes": [fo.Detection(label=n, bounding_box=box) for n in ("cat", "dog")],
            "no_boxes": [],
            "outside": [fo.Detection(label="cat", bounding_box=[1.5, 0.1, 0.2, 0.2])],
            "flat": [fo.Detection(label="cat", bounding_box=[0.2, 0.2, 0.0, 0.3])],
            "nan_box": [fo.Detection(label="cat", bounding_box=[float("nan")] * 4)],
            "inf_box": [fo.Detection(label="cat", bounding_box=[0, 0, float("inf"), 1])],
            "blank": [fo.Detection(label="cat", bounding_box=box, mask=np.zeros((5, 5), np.uint8))],
        }
        return {
            "note": "some text",
            "number": 0.5,
            "partly": "only here",
            "kind": fo.Classification(label="cat"),
            **{name: fo.Detections(detections=found) for name, found in detections.items()},
            "line": fo.Polyline(points=[[(0.1, 0.1), (0.5, 0.5)]]),
            "far_line": fo.Polyline(points=[[(2, 2), (3, 2), (3, 3)]], filled=True),
            "dots": fo.Keypoint(points=[[float("nan"), float("nan")]]),
            "far_dots": fo.Keypoint(points=[[1.5, 0.5]]),
            "beside": fo.Keypoint(points=[[0.5, 0.5]], sam_labels=[0]),
            "empty_mask": fo.Segmentation(mask=empty),
            "no_mask": fo.Segmentation(),
            "other_size": fo.Segmentation(mask=empty[:, :20] + 255),
            "lost_mask": fo.Segmentation(mask_path=str(self.folder / "nowhere.png")),
            "text_mask": fo.Segmentation(mask_path=str(self.folder / "text.png")),
        }

    def _videos(self) -> fo.Dataset:
        videos = fo.Dataset("bad-calls-videos")
        video = fo.Sample(str(self.folder / "film.mp4"))
        for number, photo in enumerate(self.photos.values("filepath")[:2], start=1):
            video.frames[number] = fo.Frame(filepath=photo)
        videos.add_sample(video)
        return videos

    def _groups(self) -> fo.Dataset:
        groups = fo.Dataset("bad-calls-groups")
        groups.add_group_field("group", default="left")
        group = fo.Group()
        left, right = self.photos.values("filepath")[:2]
        groups.add_samples(
            [fo.Sample(p, group=group.element(n)) for n, p in (("left", left), ("right", right))]
        )
        return groups

    def _make_runs(self) -> None:
        for name in ("mine", "other"):
            self.segment(out_field=name, mask_storage="file", presence_threshold=0)
        self.segment(out_field="both", label_type="both", presence_threshold=0)
        for name in ("lite", "sure"):
            self.segment(
                self.photos.limit(1), model="sam_lite", out_field=name, presence_threshold=0
            )
        set_review(self.photos, "mine", "accepted")
        set_review(self.photos, "sure", "accepted")
        set_review(self.photos, "other", "rejected")
        set_review(self.photos, "lite", "rejected")

        def stop(done: int, total: int) -> None:
            if done:
                raise StopError

        with contextlib.suppress(StopError):
            self.segment(out_field="stopped", progress=stop, batch_size=1)
        reds = self.album.match(fo.ViewField("role") == "reference")
        self.segment(self.album, reds, group_by="colour", out_field="grouped")
        self.photos.register_run("foreign", self.photos.init_run(tool="somebody else"))
        fp.evaluate(self.photos, "mine", eval_key="known")
        self.photos.save_view("reviewed", self.photos.limit(2))

    def _make_files(self) -> None:
        (self.folder / "text.png").write_text("no picture")
        (self.folder / "zero.jpg").write_bytes(b"")
        _made(self.folder / "full")
        (self.folder / "full" / "diary.txt").write_text("dear diary")
        _made(self.folder / "hollow")
        for album in ("sound", "unmasked", "uneven", "broken", "void", "twins"):
            for kind in ("Images", "Annotations"):
                _made(self.folder / album / kind / "cat")
            for number in ("00", "01"):
                photo = Image.fromarray(np.full((48, 64, 3), 80, np.uint8))
                photo.save(self.folder / album / "Images" / "cat" / f"{number}.jpg")
                mask = Image.fromarray(self.mask.astype(np.uint8) * 255)
                mask.save(self.folder / album / "Annotations" / "cat" / f"{number}.png")
        (self.folder / "unmasked" / "Annotations" / "cat" / "01.png").unlink()
        small = Image.fromarray(np.full((9, 9), 255, np.uint8))
        small.save(self.folder / "uneven" / "Annotations" / "cat" / "01.png")
        (self.folder / "broken" / "Images" / "cat" / "01.jpg").write_text("no picture")
        black = Image.fromarray(np.zeros((48, 64), np.uint8))
        black.save(self.folder / "void" / "Annotations" / "cat" / "00.png")
        twin = self.folder / "twins" / "Images" / "cat" / "01.png"
        Image.new("RGB", (64, 48)).save(twin)
        _made(self.folder / "half" / "Images")
        fitted = fp.PerSAM(self.sam).fit(self.reference())
        fitted.save(self.folder / "persam.safetensors")
        (self.folder / "torn.safetensors").write_bytes(
            (self.folder / "persam.safetensors").read_bytes()[:200]
        )

    def reference(self) -> fp.Reference:
        """A reference that would do."""
        return fp.Reference(self.photo(), mask=self.mask)

    def photo(self) -> np.ndarray:
        """(48, 64, 3) uint8."""
        return np.where(self.mask[..., None], (220, 40, 30), (90, 100, 110)).astype(np.uint8)

    def close(self) -> None:
        """Delete the datasets."""
        for dataset in (self.photos, self.album, self.empty, self.videos, self.groups):
            dataset.delete()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()
