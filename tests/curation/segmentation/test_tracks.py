"""Sequences: several objects in videos, photos that are frames, and views of frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation import objects_in, segment_again
from fiftyone_persam.curation.labels.resolving import resolve_references
from fiftyone_persam.errors import BadReferenceError, PersamError
from fiftyone_persam.metrics import iou
from fiftyone_persam.sam import Prompt, load_sam
from fiftyone_persam.sam.frames import load_frame

from ...films import disc, scene, write_film
from ..discs import Make, state_of, tiny_sam
from .test_videos import mask_of, segment, tracks, videos  # noqa: F401

RED, BLUE = [(30, 60), (50, 60), (70, 60), (90, 60)], [(130, 60), (130, 70), None, (130, 80)]


@pytest.fixture
def two(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """A red disc and a blue one, which is gone in frame 3; both are labelled in frame 1."""
    pictures = []
    for n, (red, blue) in enumerate(zip(RED, BLUE, strict=True)):
        seen = [("red", *red)] + ([("blue", *blue)] if blue else [])
        pictures.append(scene(seen, n))
    film = fo.Sample(str(write_film(tmp_path / "film.mp4", pictures)))
    found = [(name, disc(*places[0])) for name, places in (("red", RED), ("blue", BLUE))]
    made = dataset([film])
    film.frames[1] = fo.Frame(
        ground_truth=fo.Detections(
            detections=[fo.Detection.from_mask(mask, label=name) for name, mask in found]
        )
    )
    film.save()
    return made


def test_objects_of_a_video_keep_who_they_are(two: fo.Dataset) -> None:
    """The blue disc is gone in one frame, and the same object when it is back."""
    film = two.first()
    objects = objects_in((film, 1))
    assert list(objects) == ["red", "blue"]
    run = segment(two, objects)
    assert run.counts["segmented"] == 4 and run.counts["failed"] == 0
    assert f"frame 1 of {Path(film.filepath).name} (2 labels of 2 objects)," in run.summary()
    seen: dict[str, set[Any]] = {"red": set(), "blue": set()}
    for (_, number), detections in tracks(two).items():
        blue = BLUE[number - 1]
        assert [one.label for one in detections] == ["red"] + ["blue"] * (blue is not None)
        for one in detections:
            place = {"red": RED[number - 1], "blue": blue}[one.label]
            assert iou(mask_of(one), disc(*place)) > 0.8, (number, one.label)
            seen[one.label].add((one.index, one.instance.id))
        shown = sum(mask_of(one).astype(int) for one in detections)
        assert shown.max() == 1  # no pixel is in two masks
    assert {name: len(ids) for name, ids in seen.items()} == {"red": 1, "blue": 1}
    assert {index for ids in seen.values() for index, _ in ids} == {1, 2}
    assert len({i for ids in seen.values() for _, i in ids}) == 2


@pytest.mark.parametrize("method", ["persam", "persam_f"])
def test_the_published_video_variants(two: fo.Dataset, method: str) -> None:
    """Several objects are followed as the released scripts follow them, faults included."""
    options = {"steps": 5} if method == "persam_f" else {}
    run = segment(two, objects_in((two.first(), 1)), method=method, mode="reference", **options)
    assert run.counts["failed"] == 0 and run.counts["segmented"] == 4
    assert {one.label for found in tracks(two).values() for one in found} <= {"red", "blue"}


def test_labels_of_a_frame_as_objects(two: fo.Dataset) -> None:
    film = two.first()
    red, blue = film.frames[1].ground_truth.detections
    assert objects_in((film, 1)) == {
        "red": [(film.id, 1, red.id)],
        "blue": [(film.id, 1, blue.id)],
    }
    blue.label = "red"
    film.save()
    assert list(objects_in((film, 1))) == ["red", "red 2"]
    with pytest.raises(BadReferenceError, match=r"film\.mp4 has 2 labels .* choose one"):
        segment(two, (film, 1))
    with pytest.raises(BadReferenceError, match=r"frame 2 of reference film\.mp4 has no label"):
        objects_in((film, 2))


@pytest.fixture
def shots(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """Photos of two sequences, in no order; frame 2 of the first is labelled."""
    samples = []
    for name, seed in (("x", 0), ("y", 50)):
        for number in (3, 1, 2):
            place = (30 + 20 * number, 60)
            path = tmp_path / f"{name}_{number}.png"
            Image.fromarray(scene([("red", *place)], seed + number)).save(path)
            sample = fo.Sample(str(path), film=name, number=number, word="same", blank="")
            sample["unknown"] = float("nan")
            if (name, number) == ("x", 2):
                mask = disc(*place).astype(np.uint8) * 255
                sample["ground_truth"] = fo.Segmentation(mask=mask)
            samples.append(sample)
    made = dataset(samples)
    made.add_sample_field("empty", fo.StringField)
    return made


def of(shots: fo.Dataset) -> Any:
    return shots.match(fo.ViewField("ground_truth") != None).first()  # noqa: E711


@pytest.mark.parametrize("order", ["number", None])
def test_photos_may_be_frames(shots: fo.Dataset, order: str | None) -> None:
    run = segment(shots, of(shots), sequence_field="film", order_field=order)
    assert run.counts["segmented"] == 6
    found: dict[str, set[str]] = {}
    for sample in shots:
        (one,) = sample["mine"].detections
        assert one.index == 1
        assert iou(mask_of(one), disc(30 + 20 * sample.number, 60)) > 0.85
        found.setdefault(sample.film, set()).add(one.instance.id)
    assert [len(ids) for ids in found.values()] == [1, 1] and found["x"] != found["y"]
    parameters = fp.load_run(shots, "mine").record.parameters
    assert (parameters.sequence_field, parameters.order_field) == ("film", order)
    victim = shots.match({"film": "y", "number": 1}).first()
    before = victim["mine"].detections[0]
    victim["mine"] = None
    victim.save()
    assert fp.resume_run(shots, "mine", progress=False).counts["segmented"] == 6
    victim.reload()
    assert np.array_equal(mask_of(victim["mine"].detections[0]), mask_of(before))
    assert victim["mine"].detections[0].instance.id == before.instance.id


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"sequence_field": "flim"}, "no field 'flim': sequence_field .*did you mean 'film'"),
        ({"sequence_field": "film", "order_field": 7}, "no field 7: order_field takes"),
        ({"sequence_field": "film", "order_field": "word"}, "3 photos of sequence 'x' have 'same'"),
        ({"sequence_field": "empty"}, r"x_3\.png has no value in 'empty': set it"),
        ({"sequence_field": "blank"}, r"x_3\.png has no value in 'blank': set it"),
        ({"sequence_field": "film", "order_field": "unknown"}, r"x_3\.png has no value in 'unkn"),
        ({"sequence_field": "ground_truth"}, "'ground_truth' is a EmbeddedDocumentField, which"),
        ({"order_field": "number"}, "order_field 'number' sorts .*: give sequence_field too"),
    ],
)
def test_sequences_that_cannot_be_made(
    shots: fo.Dataset, fields: dict[str, Any], says: str
) -> None:
    before = repr(state_of(shots))  # of a NaN, too
    with pytest.raises(PersamError, match=says) as raised:
        segment(shots, of(shots), **fields)
    assert "\n" not in str(raised.value) and repr(state_of(shots)) == before


def test_a_view_of_frames(videos: fo.Dataset) -> None:  # noqa: F811
    """FiftyOne's own view, whose frames are read from the video; results are the video's."""
    first = videos.first()
    segment(videos, (first, 1), out_field="whole", model=tiny_sam())  # also writes the metadata
    frames = videos.to_frames(sample_frames="dynamic")
    few = frames.match(fo.ViewField("frame_number") >= 3)
    run = segment(few, frames.first(), model=tiny_sam())  # a frame of the view as the reference
    assert run.counts["segmented"] == 4
    whole, found = tracks(videos, "whole"), tracks(videos)
    assert sorted(found) == [("a", 3), ("a", 4), ("a", 5), ("b", 3)]
    assert fp.load_run(frames, "mine").counts == run.counts
    with pytest.raises(PersamError, match="are in sequences already: leave out sequence_field"):
        segment(videos, (first, 1), out_field="other", sequence_field="filepath")
    assert set(whole) > set(found)


def test_frames_that_are_files(videos: fo.Dataset, tmp_path: Path) -> None:  # noqa: F811
    """As `to_frames(sample_frames=True)` leaves them: read from there, then and on resuming."""
    first = videos.first()
    for number in range(1, 4):
        path = tmp_path / f"{number}.png"
        Image.fromarray(scene([("blue", 60, 60)], number)).save(path)
        first.frames[number]["filepath"] = str(path)
    first.save()
    frames = videos.to_frames(sample_frames=False)
    reference = (first, 1)
    run = segment(frames, reference, model=tiny_sam())
    assert run.counts["segmented"] == 3 and run.record.parameters.frame_files
    kept = tracks(videos)["a", 2]
    sample = videos.first()
    sample.frames[2]["mine"] = None
    sample.save()
    assert fp.resume_run(videos, "mine", model=tiny_sam(), progress=False).state == "done"
    again = tracks(videos)["a", 2]
    assert [mask_of(d).tolist() for d in again] == [mask_of(d).tolist() for d in kept]


def _box(mask: Any) -> tuple[fo.Label, Prompt]:
    (rows, columns), (height, width) = mask.nonzero(), mask.shape
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    relative = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
    label = fo.Detection(label="ball", bounding_box=[float(one) for one in relative])
    return label, Prompt(None, box=np.array([x0, y0, x1, y1], float))  # type: ignore[arg-type]


def _points(mask: Any) -> tuple[fo.Label, Prompt]:
    middle = [float(axis.mean()) for axis in mask.nonzero()[::-1]]
    places = np.array([middle, [middle[0] + 8, middle[1]]])
    label = fo.Keypoint(label="ball", points=(places / mask.shape[::-1]).tolist())
    return label, Prompt(None, points=places, labels=np.ones(2, np.int64))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [_box, _points])
@pytest.mark.parametrize("media", ["film", "photos"])
def test_a_box_or_points_are_followed_as_the_mask_that_the_model_makes_of_them(
    dataset: Make, tmp_path: Path, kind: Any, media: str
) -> None:
    """The sequence begins at the labelled frame, with the very mask, and goes both ways."""
    sam, pictures = load_sam("sam_lite"), [scene([("red", *one)], n) for n, one in enumerate(RED)]
    label, prompt = kind(disc(*RED[2]))
    if media == "film":
        made = dataset([fo.Sample(str(write_film(tmp_path / "film.mp4", pictures)))])
        film = made.first()
        film.frames[3] = fo.Frame(box=label)
        film.save()
        photo = load_frame(film.filepath, 3)
        run = segment(made, (film, 3), label_field="box", model=sam)
        found = [one for _, one in sorted(tracks(made).items())]
    else:
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(tmp_path / f"{number}.png")
        made = dataset([fo.Sample(str(tmp_path / f"{n}.png"), film="x") for n in range(4)])
        sample, photo = made.skip(2).first(), pictures[2]
        sample["box"] = label
        sample.save()
        run = segment(made, sample, label_field="box", model=sam, sequence_field="film")
        found = [sample["mine"].detections for sample in made]
    (embedding,) = sam.encode([photo])
    decoded = sam.decode([replace(prompt, embedding=embedding)])[0]
    expected = sam.upscale(decoded.logits[:1], embedding)[0].numpy() > 0
    assert run.counts["segmented"] == 4 and [len(one) for one in found] == [1] * 4
    assert np.array_equal(mask_of(found[2][0]), expected) and found[2][0].confidence == 1
    assert all(iou(mask_of(one), disc(*at)) > 0.8 for (one,), at in zip(found, RED, strict=True))
    assert len({one.instance.id for (one,) in found}) == 1


def test_negatives_may_be_in_the_reference_s_film(two: fo.Dataset) -> None:
    """Another label of its frame, or another frame; only the reference itself is refused."""
    film = two.first()
    red, blue = film.frames[1].ground_truth.detections
    film.frames[4] = fo.Frame(ground_truth=fo.Detections(detections=[red.copy()]))
    film.save()
    settings = {"model": tiny_sam(), "presence_threshold": 0}
    for name, other in (("label", (film, 1, blue.id)), ("frame", (film, 4))):
        run = segment(two, (film, 1, red.id), out_field=name, negatives=other, **settings)
        assert run.counts["segmented"] == 4 and len(run.record.negatives) == 1
    with pytest.raises(BadReferenceError, match=r"in film\.mp4 lies on the reference itself"):
        segment(two, (film, 1, red.id), negatives=(film, 1, red.id), **settings)


def test_a_frame_whose_mask_another_try_learns_from_is_accepted(two: fo.Dataset) -> None:
    """Of a video it is the frame's result, not the sample's."""
    film = two.first()
    red = film.frames[1].ground_truth.detections[0]
    segment(two, (film, 1, red.id), model="sam_lite", presence_threshold=0)
    two.reload()
    own = two.first().frames[2]["mine"].detections[0]
    run = segment_again(two, "mine", (film, 2, own.id), label_field="mine", progress=False)
    assert [one.frame for one in run.record.references] == [1, 2]
    states = [frame["mine_review"] for _, frame in sorted(two.first().frames.items())]
    assert states == [None, "accepted", None, None]
    kept = two.first().frames[2]["mine"].detections[0]
    assert kept.id == own.id and np.array_equal(kept.mask, own.mask)


@pytest.mark.parametrize("name", ["filepath", "tags", "metadata"])
def test_a_name_that_views_of_frames_need(two: fo.Dataset, name: str) -> None:
    with pytest.raises(PersamError, match=f"frames cannot have a field '{name}'"):
        segment(two, objects_in((two.first(), 1)), out_field=name, model=tiny_sam())
    assert not two.has_frame_field(name) and two.list_runs() == []


def test_videos_of_a_group(dataset: Make, two: fo.Dataset) -> None:
    """The line says what to do, and that works."""
    group, film = fo.Group(), fo.Sample(two.first().filepath)
    film["group"] = group.element("film")
    film.frames[1] = fo.Frame(ground_truth=two.first().frames[1].ground_truth.copy())
    grouped = dataset()
    grouped.add_group_field("group", default="film")
    grouped.add_samples([film])
    with pytest.raises(PersamError, match=r"is grouped, and its videos cannot be .*\.clone\(\)"):
        segment(grouped.select_group_slices(media_type="video"), film)
    films = dataset(grouped.select_group_slices(media_type="video").clone())
    run = segment(films, objects_in((films.first(), 1)), model=tiny_sam(), presence_threshold=0)
    assert run.counts["segmented"] == 4


def test_a_label_that_a_view_of_frames_shows(two: fo.Dataset) -> None:
    """One that is left of two, or that a patch was cut out for: as with photos."""
    frames = two.to_frames(sample_frames="dynamic")
    red, blue = two.first().frames[1].ground_truth.detections
    ways = [
        (frames.filter_labels("ground_truth", fo.ViewField("label") == "blue"), blue),
        (frames.to_patches("ground_truth").first(), red),
        (frames.to_patches("ground_truth").match({"ground_truth.label": "blue"}), blue),
    ]
    for way, label in ways:
        (found,) = resolve_references(two, way, "frames.ground_truth")
        assert (found.sample_id, found.frame, found.label_id) == (two.first().id, 1, label.id)
        assert found.name == label.label and found.prompt.mask is not None
