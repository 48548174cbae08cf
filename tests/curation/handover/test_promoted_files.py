"""Promotion and the files of masks: nobody's are overwritten, none is lost, none is left over."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_persam.curation.handover import promoted_files
from fiftyone_persam.curation.handover.promotion import promote
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.runs.folders import claim_folder
from fiftyone_persam.datasets.photo_copies import copy_file
from fiftyone_persam.errors import PersamError

from ..discs import files_of
from ..reviewed_run import RUN, disc, ids_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    album = reviewed_run(dataset, tmp_path)
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    return album


def change_masks(album: fo.Dataset) -> None:
    """The run's masks are others now, as after segmenting again."""
    for sample in album.exists(RUN):
        mask = np.where(disc(40, 12, 5), 255, 0).astype(np.uint8)
        fo.Segmentation(mask=mask).export_mask(sample[RUN].mask_path)


def masks(samples: Any, field: str) -> dict[str, bytes]:
    return {s.photo: s[field].get_mask().tobytes() for s in samples.exists(field)}


def promoted(tmp_path: Path) -> set[str]:
    return set(files_of(tmp_path / "labels_masks"))


BACKUPS: dict[str, Callable[[fo.Dataset], tuple[fo.Dataset, str]]] = {
    "cloned field": lambda a: (a, (a.clone_sample_field("labels", "backup"), "backup")[1]),
    "renamed field": lambda a: (a, (a.rename_sample_field("labels", "backup"), "backup")[1]),
    "clone": lambda a: (a.clone(), "labels"),
    "clone of the view": lambda a: (a.exists("labels").clone(), "labels"),
}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("kind", BACKUPS)
def test_backups_keep_their_masks(album, dataset, tmp_path, kind, overwrite):
    promote(album, RUN, "labels")
    keeper, field = BACKUPS[kind](album)
    dataset(keeper)
    before = masks(keeper, field)
    change_masks(album)
    again = promote(album, RUN, "labels", overwrite=overwrite)
    assert len(again.promoted) == (2 if overwrite or kind == "renamed field" else 0)
    assert masks(keeper, field) == before
    if again.promoted:
        assert masks(album, "labels") == masks(
            album.match({"photo": {"$in": ["sure", "good"]}}), RUN
        )
        assert masks(album, "labels").values() != before.values()
    # A clone's promotion is the original's business no more.
    if keeper is not album and keeper.has_run(RUN):  # FiftyOne clones no runs of views
        promote(keeper, RUN, "labels", overwrite=True)
        kept = masks(album, "labels")
        set_review(keeper, RUN, "rejected")
        assert len(promote(keeper, RUN, "labels").withdrawn) == 2
        assert masks(album, "labels") == kept
    album.delete_sample_field("labels")
    if keeper is album:
        assert masks(keeper, field) == before


def test_files_that_nobody_names_are_removed(album, tmp_path):
    promote(album, RUN, "labels")
    first = promoted(tmp_path)
    promote(album, RUN, "labels", overwrite=True)
    second = promoted(tmp_path)
    assert len(second) == 2 and not second & first
    set_review(album, RUN, "rejected", ids_of(album, "sure"))
    promote(album, RUN, "labels")
    assert promoted(tmp_path) == {
        Path(p).name for p in album.exists("labels").values("labels.mask_path")
    }
    assert len(promoted(tmp_path)) == 1


def test_a_mask_of_the_user_s_own_stays(album, tmp_path):
    (sure,) = ids_of(album, "sure")
    promote(album, RUN, "labels")
    for name in ("mine.png", f"{sure}.png"):  # the second is called as earlier versions called them
        mine = tmp_path / "own" / name
        album[sure]["labels"].export_mask(str(mine))
        sample = album[sure]
        sample["labels"] = fo.Segmentation(mask_path=str(mine))
        sample.save()
        promote(album, RUN, "labels", overwrite=True)
        assert mine.exists()
    # Files of earlier versions go like others when they are replaced.
    old = tmp_path / "labels_masks" / f"{sure}.png"
    Path(album[sure]["labels"].mask_path).rename(old)
    album.set_values("labels.mask_path", {sure: str(old)}, key_field="id")
    promote(album, RUN, "labels", overwrite=True)
    assert not old.exists() and len(promoted(tmp_path)) == 2


def test_a_clone_has_a_folder_of_its_own(album, dataset, tmp_path):
    claim_folder(tmp_path / RUN, album, RUN, RUN)
    clone = dataset(album.clone())
    promote(clone, RUN, "labels")
    promote(album, RUN, "labels")
    assert len(promoted(tmp_path)) == 2
    home = Path(fo.config.default_dataset_dir).absolute() / clone.slug
    assert all(
        Path(p).is_relative_to(home) for p in clone.exists("labels").values("labels.mask_path")
    )


# What goes wrong ----------------------------------------------------------------------------------


def state_of(album: fo.Dataset) -> list[Any]:
    return [masks(album, "labels"), set(album.get_field_schema()), dict(album.mask_targets)]


def refused(album: fo.Dataset, match: str, **options: Any) -> None:
    """A promotion that is refused in one line, and changes nothing."""
    before = state_of(album)
    files = files_of(Path(album.first().filepath).parents[1])
    with pytest.raises(PersamError, match=match) as raised:
        promote(album, RUN, "labels", **{"overwrite": True, **options})
    assert "\n" not in str(raised.value) and "Traceback" not in str(raised.value)
    album.reload()
    assert [
        masks(album, "labels"),
        set(album.get_field_schema()),
        dict(album.mask_targets),
    ] == before
    assert files_of(Path(album.first().filepath).parents[1]) == files


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "No space left on device"), (errno.EACCES, "Permission denied")],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_a_disk_that_refuses(album, tmp_path, monkeypatch, number, words, earlier):
    album.add_sample_field("labels", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
    if earlier:
        promote(album, RUN, "labels")
        set_review(album, RUN, "rejected", ids_of(album, "sure"))
        set_review(album, RUN, "accepted", ids_of(album, "low_presence"))
    copied: list[Path] = []

    def fail_at_second(source: Path, target: Path) -> None:
        if copied:
            raise OSError(number, words, str(target))
        copied.append(target)
        copy_file(source, target)

    monkeypatch.setattr(promoted_files, "copy_file", fail_at_second)
    refused(album, rf"masks cannot be written into .*labels_masks \({words}\)")
    assert earlier == (tmp_path / "labels_masks").exists()


def test_masks_that_are_gone(album, tmp_path):
    album.add_sample_field("labels", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
    (sure, good) = (album[i] for i in ids_of(album, "sure", "good"))
    Path(sure[RUN].mask_path).unlink()
    refused(album, rf"1 mask files of run 'mine' are gone .*{sure.id}.png\): .*resume_run")
    folder = Path(good[RUN].mask_path).parent
    folder.rename(tmp_path / "elsewhere")
    refused(album, r"2 mask files of run 'mine' are gone")
    folder.write_text("a file where the folder was")
    refused(album, r"2 mask files of run 'mine' are gone")
    refused(album, r"2 mask files of run 'mine' are gone", kind=None, states=["accepted"])


def test_a_mask_that_cannot_be_read_is_left_out(album):
    album.add_sample_field("labels", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    bad = ids_of(album, "good")[0]
    Path(album[bad][RUN].mask_path).write_bytes(b"no image")
    promotion = promote(album, RUN, "labels")
    assert list(promotion.left_out) == [bad] and "\n" not in str(promotion)
    assert re.search(
        r"1 photos left out, the first: the mask of good.png .*cannot be read", str(promotion)
    )
    assert (
        set(album.exists("labels").values("id"))
        == set(promotion.promoted)
        == set(ids_of(album, "sure"))
    )


def test_a_locked_field(album):
    promote(album, RUN, "labels")
    field = album.get_field("labels")
    field.read_only = True
    field.save()
    set_review(album, RUN, "rejected", ids_of(album, "sure"))
    refused(album, "'labels' is locked")


# Views --------------------------------------------------------------------------------------------


VIEWS: dict[str, tuple[Callable[[fo.Dataset], Any], int]] = {
    "one photo": (lambda a: a.select(ids_of(a, "good")), 1),
    "few fields": (lambda a: a.select_fields("tags"), 2),
    "without the run": (lambda a: a.exclude_fields([RUN, f"{RUN}_score"]), 2),
    "grouped by a field": (lambda a: a.group_by("kind"), 2),
    "patches": (lambda a: a.match({"photo": "sure"}).to_patches("boxes"), 1),
}


@pytest.mark.parametrize("view", VIEWS)
def test_of_a_view_its_photos_are_promoted(album, view):
    album.set_values("kind", ["a"] * len(album))
    boxes = [[fo.Detection(label="b", bounding_box=[0, 0, 1, 1]) for _ in "12"] for _ in album]
    album.set_values("boxes", [fo.Detections(detections=found) for found in boxes])
    make, count = VIEWS[view]
    promotion = promote(make(album), RUN, "labels")
    assert len(promotion.promoted) == count
    label = album[promotion.promoted[0]]["labels"]
    assert label.persam_score is not None and label.persam_review == "accepted"


RUN_OF_ANOTHER = """
import sys
import fiftyone as fo
dataset = fo.load_dataset(sys.argv[1])
dataset.add_sample_field("other_score", fo.FloatField)
config = dataset.init_run(method="other")
dataset.register_run("other", config)
"""


def test_another_process_has_added_a_run(album):
    album.persistent = True
    view = album.view()
    list(view.select_fields("photo"))
    done = subprocess.run([sys.executable, "-c", RUN_OF_ANOTHER, album.name], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert len(promote(view, RUN, "labels").promoted) == 2
    assert album.has_field("other_score")
