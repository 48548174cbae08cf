"""Videos: every frame gets what a photo gets, in order, as a track; whatever the video is like."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation import set_presence_threshold
from fiftyone_persam.curation.labels.resolving import resolve_references
from fiftyone_persam.errors import BadReferenceError, PersamError
from fiftyone_persam.metrics import iou

from ...films import SIZE, disc, scene, write_film
from ..discs import Make, files_of, state_of, tiny_sam

FRAMES = 5


def place(number: int) -> tuple[int, int]:
    """Where the red disc of frame ``number`` is."""
    return 40 + 16 * (number - 1), 60


def labels(number: int) -> fo.Detections:
    mask = disc(*place(number))
    return fo.Detections(detections=[fo.Detection.from_mask(mask, label="ball")])


def make_film(path: Path, frames: int = FRAMES, seed: int = 0) -> fo.Sample:
    pictures = [scene([("red", *place(n))], seed + n) for n in range(1, frames + 1)]
    return fo.Sample(str(write_film(path, pictures)))


@pytest.fixture
def videos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """Two videos without metadata; frame 1 of the first is labelled, frame 3 of the second too."""
    made = dataset([make_film(tmp_path / "a.mp4"), make_film(tmp_path / "b.mp4", 3, seed=9)])
    first, last = made.first(), made.last()
    first.frames[1] = fo.Frame(ground_truth=labels(1))
    last.frames[3] = fo.Frame(ground_truth=labels(3))
    first.save()
    last.save()
    return made


def segment(samples: Any, reference: Any, **options: Any) -> Any:
    settings = {"method": "persam", "out_field": "mine", "progress": False, **options}
    return fp.segment(samples, reference, **settings)


def tracks(videos: fo.Dataset, field: str = "mine") -> dict[tuple[str, int], list[Any]]:
    """(video, frame) -> its detections."""
    found = {}
    for sample in videos:
        for number, frame in sample.frames.items():
            if frame[field] is not None:
                found[Path(sample.filepath).stem, number] = frame[field].detections
    return found


def mask_of(detection: fo.Detection) -> np.ndarray[Any, Any]:
    whole = detection.to_segmentation(frame_size=(SIZE[1], SIZE[0]), target=1)
    return np.asarray(whole.mask) > 0


def test_every_frame_is_masked_and_belongs_to_a_track(videos: fo.Dataset) -> None:
    first = videos.first()
    run = segment(videos, (first, 1))
    assert run.counts == {"segmented": 8, "absent": 0, "failed": 0, "remaining": 0}
    assert run.dataset is videos and run.state == "done"
    assert "frame 1 of a.mp4," in run.summary()
    assert "\nFrames:     8 segmented\n" in run.summary() and "frames per second" in run.summary()
    found = tracks(videos)
    assert sorted(found) == [*(("a", n) for n in range(1, 6)), *(("b", n) for n in range(1, 4))]
    instances = {}
    for (video, number), detections in found.items():
        (one,) = detections
        assert iou(mask_of(one), disc(*place(number))) > 0.85, (video, number)
        assert (one.label, one.index) == ("ball", 1)
        instances.setdefault(video, set()).add(one.instance.id)
    assert len(instances["a"]) == len(instances["b"]) == 1  # a track in each, and two tracks
    assert instances["a"] != instances["b"]
    frame = videos.first().frames[2]
    assert 0 < frame["mine_score"] <= 1 and 0 <= frame["mine_presence"] <= 1
    assert frame["mine_error"] is None and frame["mine_agreement"] is not None
    assert "mine" not in videos.get_field_schema()  # of frames alone
    metadata = videos.first().metadata
    assert (metadata.total_frame_count, metadata.frame_rate) == (5, 5)
    assert (metadata.frame_width, metadata.frame_height) == (160, 120)
    assert len(run.view()) == 2 and run.view().values("frames.frame_number")[1] == [1, 2, 3]


def test_a_reference_is_named_in_many_ways(videos: fo.Dataset) -> None:
    first = videos.first()
    label = first.frames[1].ground_truth.detections[0]
    ways = [
        (first, 1, label.id),
        (first, 1, label),
        (first.id, 1),
        (first, np.int64(1), None),
        (videos.view().first(), 1, label.id),
    ]
    for way in ways:
        (found,) = resolve_references(videos, way, "frames.ground_truth")
        assert (found.sample_id, found.frame, found.label_id) == (first.id, 1, label.id)
        assert found.label_field == "ground_truth" and found.name == "ball"
        assert iou(found.prompt.mask, disc(*place(1))) > 0.99
        assert found.load().photo.shape == (*SIZE, 3)


REFUSED = {
    "no frame": (lambda v: v.first(), "a.mp4 is a video: give its frame and label"),
    "not labelled": (lambda v: (v.first(), 2), "frame 2 of reference a.mp4 has no label: .* 1"),
    "no such frame": (lambda v: (v.first(), 99), "frame 99 of reference a.mp4 has no label"),
    "frame zero": (lambda v: (v.first(), 0), "frame 0 .*: they are counted from 1"),
    "no such label": (lambda v: (v.first(), 1, "5f" * 12), "no label with id"),
    "no such sample": (lambda v: ("5f" * 12, 1), "no sample with id"),
    "not a label": (lambda v: (v.first(), 1, 7.5), "label 7.5 .* is not a label's id"),
    "words": (
        lambda v: fp.TextReference("the ball"),
        "'persam' takes no words, .* not .* in videos",
    ),
    "words in one": (lambda v: (v.first(), fp.TextReference("the ball")), "takes no words"),
    "not a sample": (lambda v: (None, 1), "NoneType is not a sample with a video"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_reference_writes_nothing(videos: fo.Dataset, case: str) -> None:
    make, says = REFUSED[case]
    before = state_of(videos)
    with pytest.raises(BadReferenceError, match=says) as raised:
        segment(videos, make(videos))
    assert "\n" not in str(raised.value)
    assert state_of(videos) == before and not list(videos.first().frames)[1:]


def test_photos_have_no_frames(dataset: Make, tmp_path: Path) -> None:
    from ..discs import make_photos

    photos = dataset(make_photos(tmp_path, 2))
    with pytest.raises(BadReferenceError, match="not a video, and has no frame 1: give the sample"):
        segment(photos, (photos.first(), 1))


def test_runs_of_videos_come_and_go(videos: fo.Dataset) -> None:
    run = segment(
        videos, (videos.first(), 1), label_type="both", mask_storage="file", model=tiny_sam()
    )
    assert [one.name for one in fp.list_runs(videos)] == ["mine"]
    assert len(files_of(run.masks_dir)) > 8  # a mask of each frame, and the folder's mark
    assert videos.first().frames[1]["mine"].mask_path
    assert videos.mask_targets["mine"] == {255: "ball"}
    renamed = fp.rename_run(videos, "mine", "yours")
    assert renamed.counts == run.counts and videos.has_frame_field("yours_instances")
    assert not videos.has_frame_field("mine") and not videos.has_frame_field("mine_score")
    assert "mine" not in videos.mask_targets
    fp.delete_run(videos, "yours")
    assert fp.list_runs(videos) == [] and not run.masks_dir.exists()
    assert set(videos.get_frame_field_schema()) == {
        *("id", "frame_number", "created_at", "last_modified_at", "ground_truth")
    }
    assert "yours" not in videos.mask_targets
    assert videos.first().frames[1].ground_truth.detections  # what was there before stays


def test_a_frame_that_lacks_the_object(dataset: Make, tmp_path: Path) -> None:
    pictures = [scene([("red", *place(1))] if n != 1 else [], n) for n in range(3)]
    videos = dataset([fo.Sample(str(write_film(tmp_path / "a.mp4", pictures)))])
    first = videos.first()
    first.frames[1] = fo.Frame(ground_truth=labels(1))
    first.save()
    run = segment(videos, (first, 1))
    assert run.counts["absent"] == 1 and run.counts["segmented"] == 3
    assert [len(one) for one in tracks(videos).values()] == [1, 0, 1]
    set_presence_threshold(videos, "mine", 0.0)
    assert fp.load_run(videos, "mine").counts["absent"] == 0
    set_presence_threshold(videos, "mine", 1.0)
    assert [len(one) for one in tracks(videos).values()][:2] == [1, 0]  # frame 1 is known
    set_presence_threshold(videos, "mine", 0.5)
    assert [len(one) for one in tracks(videos).values()] == [1, 0, 1]


def test_views_choose_videos_and_frames(videos: fo.Dataset) -> None:
    segment(videos[1:], (videos.first(), 1), out_field="second")
    assert sorted(tracks(videos, "second")) == [("b", 1), ("b", 2), ("b", 3)]
    labelled = videos.match_frames(fo.ViewField("ground_truth") != None)  # noqa: E711
    run = segment(labelled, (videos.first(), 1), out_field="labelled")
    assert sorted(tracks(videos, "labelled")) == [("a", 1), ("b", 3)]
    assert run.counts["segmented"] == 2


def test_clips_choose_frames(videos: fo.Dataset) -> None:
    clips = videos.to_clips([[[1, 2], [2, 3]], [[3, 3]]])
    run = segment(clips, (videos.first(), 1), model=tiny_sam())
    assert run.counts["segmented"] == 4
    assert sorted(tracks(videos)) == [("a", 1), ("a", 2), ("a", 3), ("b", 3)]


def test_one_reference_for_each_video(videos: fo.Dataset) -> None:
    for sample, name in zip(videos, "ab", strict=True):
        sample["object"] = name
        sample.save()
    run = segment(videos, [(videos.first(), 1), (videos.last(), 3)], group_by="object")
    assert run.counts["segmented"] == 8
    assert {(v, one.label) for (v, _), (one,) in tracks(videos).items()} == {("a", "a"), ("b", "b")}
    with pytest.raises(BadReferenceError, match="no reference for 'b'"):
        segment(videos, (videos.first(), 1), group_by="object", out_field="other")


def _text(path: Path) -> None:
    path.write_text("no video")


def _half(path: Path) -> None:
    film = path.with_suffix(".mkv")
    noise = [np.random.default_rng(n).integers(0, 255, (*SIZE, 3), np.uint8) for n in range(6)]
    write_film(film, noise)
    path.write_bytes(film.read_bytes()[: film.stat().st_size // 2])


def test_a_video_that_cannot_be_read(
    videos: fo.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _text(tmp_path / "c.mp4")
    videos.add_sample(fo.Sample(str(tmp_path / "c.mp4")))
    with caplog.at_level(logging.WARNING):
        run = segment(videos, (videos.first(), 1), model=tiny_sam())
    assert run.counts["segmented"] == 8 and run.counts["failed"] == 1
    assert list(run.errors.values()) == ["c.mp4 cannot be read as a video: replace it"]
    assert "c.mp4 cannot be read" in caplog.text
    make_film(tmp_path / "c.mp4", 2)
    again = fp.resume_run(
        videos, "mine", model=tiny_sam(), progress=False
    )  # its first frame is tried again
    assert again.counts["segmented"] == 9 and not again.errors


def test_a_video_that_ends_too_early(videos: fo.Dataset, tmp_path: Path) -> None:
    _half(tmp_path / "c.mp4")
    film = fo.Sample(str(tmp_path / "c.mp4"))
    film.metadata = fo.VideoMetadata(total_frame_count=6, frame_rate=5.0)
    videos.add_sample(film)
    run = segment(videos[2:], (videos.first(), 1), model=tiny_sam())
    assert run.counts["segmented"] + run.counts["failed"] == 6 and run.counts["failed"] > 1
    assert all("c.mp4 has no frame" in one for one in run.errors.values())


def test_no_video_can_be_read(dataset: Make, videos: fo.Dataset, tmp_path: Path) -> None:
    _text(tmp_path / "c.mp4")
    bad = dataset([fo.Sample(str(tmp_path / "c.mp4"))])
    with pytest.raises(PersamError, match=r"c\.mp4 cannot be read as a video"):
        segment(bad, (videos.first(), 1))
    assert bad.list_runs() == [] and len(bad.first().frames) == 0


class StopError(Exception):
    """Raised by a progress hook."""


def stopping_at(count: int) -> Callable[[int, int], None]:
    def hook(done: int, total: int) -> None:
        if done >= count:
            raise StopError

    return hook


def test_progress_counts_frames(videos: fo.Dataset) -> None:
    told: list[tuple[int, int]] = []
    segment(
        videos,
        (videos.first(), 1),
        model=tiny_sam(),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told[0] == (0, 8) and told[-1] == (8, 8)


def test_a_run_goes_on_in_the_middle(videos: fo.Dataset) -> None:
    segment(videos, (videos.first(), 1), out_field="whole", model=tiny_sam())
    with pytest.raises(StopError):
        segment(
            videos, (videos.first(), 1), model=tiny_sam(), progress=stopping_at(2), batch_size=1
        )
    stopped = fp.load_run(videos, "mine")
    assert stopped.state == "interrupted"
    done = {key: [one.id for one in found] for key, found in tracks(videos).items()}
    assert 2 <= len(done) < 8 and stopped.counts["remaining"] == 8 - len(done)
    told: list[tuple[int, int]] = []
    ended = fp.resume_run(
        videos, "mine", model=tiny_sam(), progress=lambda d, total: told.append((d, total))
    )
    assert ended.state == "done" and ended.counts["segmented"] == 8
    assert told[-1] == (8 - len(done), 8 - len(done))
    whole, mine = tracks(videos, "whole"), tracks(videos)
    for key, ids in done.items():  # finished frames are kept
        assert [one.id for one in mine[key]] == ids
    assert whole.keys() == mine.keys() and any(whole.values())
    for key, found in whole.items():
        for one, same in zip(found, mine[key], strict=True):
            assert np.array_equal(mask_of(one), mask_of(same))
            assert (one.bounding_box, one.confidence) == (same.bounding_box, same.confidence)


def test_decisions_are_made_on_frames(videos: fo.Dataset) -> None:
    """And what is for photos alone is refused in one line whose advice works."""
    run = segment(videos, (videos.first(), 1), model=tiny_sam())
    ids = run.ids()[:2]
    assert curation.set_review(videos, "mine", "accepted", ids) == 2
    assert curation.review_counts(videos, "mine").accepted == 2
    assert videos.first().frames[1]["mine_review"] == "accepted"
    curation.undo_review(videos, "mine")
    assert curation.review_counts(videos, "mine").accepted == 0
    for call in (
        lambda: curation.review_queue(videos, "mine"),
        lambda: curation.promote(videos, "mine", "final"),
        lambda: curation.compare_runs(videos, "mine", "other"),
        lambda: fp.segment_everything(videos),
        lambda: fp.suggest_reference(videos),
    ):
        with pytest.raises(PersamError, match=r"is for photos and .* holds videos") as raised:
            call()
        assert "\n" not in str(raised.value)
    photos = videos.to_frames(sample_frames="dynamic").clone()  # or True, where there is ffmpeg
    try:
        adopted = fp.adopt_run(photos, "mine")
        assert adopted.counts["segmented"] == 8
        assert len(curation.review_queue(photos, "mine", ["todo", "absent"])) == 8
    finally:
        photos.delete()
