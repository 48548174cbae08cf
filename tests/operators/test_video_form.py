"""The form on a dataset of videos: which frame, which of its objects, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import pytest

import fiftyone_persam as fp

from ..films import disc, scene, write_film
from .context import Form, PanelTab, operator

SEGMENT = "segment_from_reference"


def film(path: Path, frames: int = 4) -> fo.Sample:
    pictures = [
        scene([("red", 30 + 12 * n, 60), ("blue", 130, 40 + 8 * n)], n) for n in range(frames)
    ]
    return fo.Sample(str(write_film(path, pictures)))


@pytest.fixture
def films(dataset, tmp_path: Path) -> fo.Dataset:
    """Two videos; frames 1 and 2 of the second one are labelled, the first with two objects."""
    made = dataset([film(tmp_path / "a.mp4", 3), film(tmp_path / "b.mp4")])
    sample = made.last()
    for number in (1, 2):
        places = [("red", 18 + 12 * number, 60), ("blue", 130, 32 + 8 * number)][: 3 - number]
        sample.frames[number] = fo.Frame(
            ground_truth=fo.Detections(
                detections=[fo.Detection.from_mask(disc(x, y), label=n) for n, x, y in places]
            )
        )
    sample.save()
    return made


def test_nothing_is_labelled(dataset, tmp_path: Path) -> None:
    form = Form(dataset([film(tmp_path / "a.mp4")]), SEGMENT)
    assert any("No frame of these videos is labelled" in error for error in form.errors)
    assert "frame" not in form and "out_field" not in form


def test_a_frame_is_offered_with_its_objects(films: fo.Dataset) -> None:
    form = Form(films, SEGMENT)
    assert form.errors == []
    assert [c.label for c in form["reference"].view.choices] == ["b.mp4"]
    assert [c.value for c in form["frame"].view.choices] == ["1", "2"]
    assert [c.label for c in form["label_id"].view.choices] == ["Each of the 2", "red", "blue"]
    assert "Each is followed as an object of its own: red, blue." in form.texts()
    assert "All frames of 2 videos will be segmented" in form.texts()  # nobody has counted them
    form = Form(films, SEGMENT, {"frame": "2"})
    assert "label_id" not in form and form["thumbnail"].default.startswith("data:image")


def test_one_object_from_the_form(films: fo.Dataset) -> None:
    form = Form(films, SEGMENT, {"frame": "2", "method": "persam", "out_field": "mine"})
    result, requests = form.execute()
    assert result["counts"]["segmented"] == 7
    shown = [r for r in requests if r["operator_uri"] == "set_active_fields"]
    assert "frames.mine" in shown[-1]["params"]["fields"]
    films.reload()
    labels = films.values("frames.mine.detections.label", unwind=True)
    assert set(labels) == {"red"}
    form = Form(films, SEGMENT, {"out_field": "mine"})
    assert "7 have a mask of run 'mine' already" in form.texts()
    assert "7 frames of 2 videos" in Form(films, SEGMENT, {"out_field": "other"}).texts()


def test_all_objects_from_the_form(films: fo.Dataset) -> None:
    form = Form(films[1:], SEGMENT, {"method": "persam", "out_field": "mine"})
    form.execute()
    run = fp.load_run(films, "mine")
    assert run.counts["segmented"] == 4 and list(run.record.parameters.objects) == ["red", "blue"]


def test_the_operator_from_python(films: fo.Dataset) -> None:
    segment = operator(SEGMENT)
    reference = (films.last(), 2)
    segment(films[:1], reference, method="persam", out_field="mine")
    assert fp.load_run(films, "mine").counts["segmented"] == 3
    with pytest.raises(
        (fp.BadReferenceError, foo.executor.ExecutionError), match="choose one of 1, 2"
    ):
        segment(films[:1], (films.last(), 3), method="persam", out_field="other")
    red, blue = films.last().frames[1].ground_truth.detections
    objects = {"r": (films.last(), 1, red.id), "b": (films.last(), 1, blue.id)}
    segment(films[:1], objects, method="persam", out_field="both")
    assert list(fp.load_run(films, "both").record.parameters.objects) == ["r", "b"]


def test_the_panel_sends_to_the_player(films: fo.Dataset) -> None:
    fp.segment(films[:1], (films.last(), 2), method="persam", out_field="mine")
    requests = PanelTab(films).send("refresh")
    assert "Videos** are looked at in the player" in str(requests)
