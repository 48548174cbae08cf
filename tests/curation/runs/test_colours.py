"""The colour of a run's masks: its own, the user's where there is one, and it goes with the run."""

from __future__ import annotations

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.runs.colours import COLOURS, colour_of, rgb

from ..discs import make_photos, tiny_sam


def scheme_of(dataset: fo.Dataset) -> dict[str, str]:
    dataset.reload()
    scheme = dataset.app_config.color_scheme
    return {e["path"]: e["fieldColor"] for e in scheme.fields or []} if scheme else {}


@pytest.fixture
def photos(dataset, tmp_path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 2))


def segment(photos, name, **options):
    return fp.segment(
        photos, photos.first(), method="persam", model=tiny_sam(), out_field=name, **options
    )


def test_every_run_has_a_colour_of_its_own(photos):
    segment(photos, "x", label_type="both")
    segment(photos, "y")
    found = scheme_of(photos)
    assert found["x"] == found["x_instances"] == found["x_withheld"] == COLOURS[0]
    assert found["y"] == COLOURS[1] != found["x"]
    assert colour_of(photos, "y") == COLOURS[1]
    entry = next(e for e in photos.app_config.color_scheme.fields if e["path"] == "y")
    assert entry["maskTargetsColors"] == [{"intTarget": 255, "color": COLOURS[1]}]


def test_the_user_s_colours_stay(photos):
    own = {"path": "x", "fieldColor": "#123456"}
    photos.app_config.color_scheme = fo.ColorScheme(color_by="value", fields=[own])
    photos.save()
    segment(photos, "x")
    found = scheme_of(photos)
    assert found["x"] == found["x_withheld"] == "#123456" == colour_of(photos, "x")
    assert photos.app_config.color_scheme.color_by == "value"


def test_a_colour_goes_with_its_run(photos):
    segment(photos, "x")
    segment(photos, "y")
    before = scheme_of(photos)
    fp.rename_run(photos, "x", "z")
    renamed = scheme_of(photos)
    assert renamed["z"] == before["x"] and "x" not in renamed and renamed["y"] == before["y"]
    fp.delete_run(photos, "z")
    assert set(scheme_of(photos)) == {"y", "y_withheld"}
    segment(photos, "again")
    assert scheme_of(photos)["again"] == before["x"]  # free again


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("#FF6D04", (255, 109, 4)),
        ("#00c8ff", (0, 200, 255)),
        ("red", None),
        ("#12345", None),
        ("#xyzxyz", None),
        (None, None),
        (7, None),
    ],
)
def test_rgb(colour, expected):
    assert rgb(colour) == expected


def test_a_colour_that_is_no_hexadecimal_is_left_to_the_app(photos):
    photos.app_config.color_scheme = fo.ColorScheme(fields=[{"path": "x", "fieldColor": "teal"}])
    photos.save()
    segment(photos, "x")
    assert scheme_of(photos)["x"] == "teal"
    assert colour_of(photos, "x") == COLOURS[0]  # pictures of ours are drawn in ours
