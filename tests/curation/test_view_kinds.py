"""Every public function on every kind of view: the photos it stands for, or one line of advice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from fiftyone import ViewField as F

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation.database import photos_of
from fiftyone_persam.errors import PersamError

from .discs import make_photos, state_of, tiny_sam

SETTINGS: dict[str, Any] = {"method": "persam", "model": tiny_sam(), "presence_threshold": 0}
ALL = {"red_0", "red_1", "blue_0", "blue_1"}
RED, ACCEPTED = {"red_0", "red_1"}, {"red_0", "blue_1"}
REFERENCES = {"red_0", "blue_0"}  # by their role: no ground truth to be evaluated by


class Home:
    """Four photos, two runs: all photos of ``x`` are segmented, two of them accepted."""

    def __init__(self, folder: Path, grouped: bool) -> None:
        folder.mkdir()
        samples = make_photos(folder, 2, ("red", "blue"))
        self.dataset = fo.Dataset()
        group = fo.Group()
        for number, sample in enumerate(samples):
            sample["name"] = Path(sample.filepath).stem
            box = fo.Detection(label="thing", bounding_box=[0.1, 0.1, 0.5, 0.5])
            sample["boxes"] = fo.Detections(detections=[box])
            if grouped:
                group = group if number % 2 else fo.Group()
                sample["group"] = group.element("right" if number % 2 else "left")
        self.dataset.add_samples(samples)
        self.photos = photos_of(self.dataset)
        self.reference = self.photos.match(F("name") == "red_0").first()
        for name in ("x", "y"):
            self.segment(self.photos, name)
        curation.set_review(self.dataset, "x", "accepted", self.ids(ACCEPTED))
        self.dataset.save_view("kept", self.photos.match(F("colour") == "red"))

    def segment(self, samples: Any, name: str) -> Any:
        return fp.segment(samples, self.reference, out_field=name, **SETTINGS)

    def ids(self, names: set[str]) -> list[str]:
        return [i for i, n in zip(*self.photos.values(["id", "name"]), strict=True) if n in names]

    def names(self, ids: Any) -> set[str]:
        return set(self.photos.select(list(ids)).values("name"))


@pytest.fixture(scope="module", params=["flat", "grouped"])
def home(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("views") / "photos", request.param == "grouped")
    yield made
    made.dataset.delete()


KINDS: dict[str, tuple[Callable[[Home], Any], set[str]]] = {
    "dataset": (lambda h: h.dataset, ALL),
    "view": (lambda h: h.dataset.view(), ALL),
    "shuffled": (lambda h: h.photos.shuffle(seed=1), ALL),
    "sorted": (lambda h: h.photos.sort_by("name", reverse=True), ALL),
    "limit": (lambda h: h.photos.sort_by("name").limit(3), {"blue_0", "blue_1", "red_0"}),
    "match": (lambda h: h.photos.match(F("colour") == "red"), RED),
    "saved": (lambda h: h.dataset.load_saved_view("kept"), RED),
    "twice": (lambda h: h.photos.concat(h.photos), ALL),
    "select_fields": (lambda h: h.photos.select_fields("colour"), ALL),
    "exclude_fields": (
        lambda h: h.dataset.exclude_fields(["x", "y", "x_score", "x_review", "ground_truth"]),
        ALL,
    ),
    "few_fields_then_match": (
        lambda h: h.photos.select_fields("colour").match(F("colour") == "red").sort_by("filepath"),
        RED,
    ),
    "group_by": (lambda h: h.photos.group_by("colour"), ALL),
    "group_by_ordered": (
        lambda h: h.photos.match(F("colour") == "red").group_by("colour", order_by="name"),
        RED,
    ),
    "group_by_few_fields": (lambda h: h.photos.group_by("colour").select_fields("colour"), ALL),
    "filter_labels": (lambda h: h.photos.filter_labels("boxes", F("label") == "thing"), ALL),
    "filtered_away": (
        lambda h: h.photos.filter_labels("boxes", F("label") == "none", only_matches=False),
        ALL,
    ),
    "patches_behind": (
        lambda h: h.photos.select(h.photos.to_patches("boxes").values("sample_id")),
        ALL,
    ),
}


# Slices take another way in a few places only.
SLICED = ("dataset", "limit", "exclude_fields", "group_by", "filter_labels")
every_kind = pytest.mark.parametrize(
    ("home", "kind"),
    [("flat", kind) for kind in KINDS] + [("grouped", kind) for kind in SLICED],
    indirect=["home"],
    scope="module",
)


def evaluated(home: Home, view: Any) -> set[str]:
    results = fp.evaluate(view, "x", eval_key="probe")
    names = home.names(home.photos.exists("probe_iou").values("id"))
    assert results.scores.photos == len(names)
    home.dataset.delete_evaluation("probe")
    return names


def reviewed(home: Home, view: Any) -> set[str]:
    before = dict(zip(*home.photos.values(["name", "x_review"]), strict=True))
    curation.set_review(view, "x", "rejected")
    after = dict(zip(*home.photos.values(["name", "x_review"]), strict=True))
    curation.undo_review(view, "x")
    assert dict(zip(*home.photos.values(["name", "x_review"]), strict=True)) == before
    return {name for name in after if after[name] != before[name]}


def made_editable(home: Home, view: Any) -> set[str]:
    field = curation.make_editable(view, "x")
    names = home.names(home.photos.exists(field).values("id"))
    home.dataset.delete_sample_field(field)
    return names


def promoted(home: Home, view: Any) -> set[str]:
    names = home.names(curation.promote(view, "x", "final").promoted)
    assert names == home.names(home.photos.exists("final").values("id"))
    home.dataset.delete_sample_field("final")
    return names


def segmented(home: Home, view: Any) -> set[str]:
    if view.media_type == "group" and not getattr(view, "_is_dynamic_groups", False):
        with pytest.raises(PersamError, match="grouped: choose its photos with select_group"):
            home.segment(view, "z")
        return home.names(view.select_group_slices(media_type="image").values("id"))
    run = home.segment(view, "z")
    names = home.names(run.ids())
    assert names == home.names(home.photos.exists("z").values("id"))
    assert sorted(run.view().values("id")) == sorted(run.ids())
    fp.delete_run(view, "z")
    return names


# What a function has to do with, of the photos that a view stands for.
FUNCTIONS: dict[str, tuple[Callable[[Home, Any], Any], Callable[[set[str]], Any]]] = {
    "segment": (segmented, lambda names: names),
    "evaluate": (evaluated, lambda names: names - REFERENCES),
    "compare": (
        lambda h, v: h.names(curation.compare_runs(v, "x", "y", "ground_truth").ids),
        lambda names: names,
    ),
    "comparison_view": (
        lambda h, v: h.names(curation.compare_runs(h.dataset, "x", "y").view(v).values("id")),
        lambda names: names,
    ),
    "review_counts": (
        lambda h, v: str(curation.review_counts(v, "x")),
        lambda names: (
            f"{len(names - ACCEPTED)} todo, {len(names & ACCEPTED)} accepted, 0 rejected, "
            "0 absent, 0 failed"
        ),
    ),
    "review_view": (
        lambda h, v: h.names(curation.review_view(v, "x", "todo").values("id")),
        lambda names: names - ACCEPTED,
    ),
    "review_queue": (
        lambda h, v: h.names(curation.review_queue(v, "x").values("id")),
        lambda names: names - ACCEPTED,
    ),
    "set_review": (reviewed, lambda names: names),
    "make_editable": (made_editable, lambda names: names),
    "promote": (promoted, lambda names: names & ACCEPTED),
}


@every_kind
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_photos_that_a_view_stands_for(home: Home, function: str, kind: str) -> None:
    make, names = KINDS[kind]
    call, expected = FUNCTIONS[function]
    assert call(home, make(home)) == expected(names)


@every_kind
def test_an_export_of_a_view(home: Home, kind: str, tmp_path: Path) -> None:
    make, names = KINDS[kind]
    assert curation.export_masks(make(home), "x", tmp_path / "out", format="masks") == len(
        names & ACCEPTED
    )
    exported = {path.stem for path in (tmp_path / "out" / "data").iterdir()}
    assert exported == names & ACCEPTED


# Functions of a run as a whole take whatever leads to its dataset.
WHOLE: dict[str, Callable[[Any], Any]] = {
    "list_runs": lambda v: [run.name for run in fp.list_runs(v)],
    "load_run": lambda v: fp.load_run(v, "x").counts["segmented"],
    "resume_run": lambda v: fp.resume_run(v, "x").counts["segmented"],
    "rename_run": lambda v: (fp.rename_run(v, "y", "w").name, fp.rename_run(v, "w", "y").name),
    "threshold": lambda v: curation.set_presence_threshold(v, "x", 0),
}
EXPECTED = {"list_runs": ["x", "y"], "rename_run": ("w", "y"), "threshold": 0}


@pytest.mark.parametrize("kind", ["limit", "group_by", "select_fields", "empty", "patches"])
def test_a_run_as_a_whole(home: Home, kind: str) -> None:
    more = {
        "empty": (lambda h: h.dataset.match_tags("nobody"), set[str]()),
        "patches": (lambda h: h.photos.to_patches("boxes"), set[str]()),
    }
    view = {**KINDS, **more}[kind][0](home)
    for name, call in WHOLE.items():
        assert call(view) == EXPECTED.get(name, 4), name


NOTHING = {
    "review_counts": lambda h, v: curation.review_counts(v, "x").total,
    "review_queue": lambda h, v: len(curation.review_queue(v, "x")),
    "set_review": lambda h, v: curation.set_review(v, "x", "rejected"),
    "promote": lambda h, v: len(curation.promote(v, "x", "final").promoted),
    "compare": lambda h, v: len(curation.compare_runs(v, "x", "y").ids),
}
REFUSED_WHERE_EMPTY = {
    "segment": (lambda h, v: h.segment(photos_of(v), "z"), "no photo to segment: .*empty"),
    "evaluate": (lambda h, v: fp.evaluate(v, "x", eval_key="e"), "no photo to evaluate: .*empty"),
    "export": (lambda h, v: curation.export_masks(v, "x", "/nowhere/e"), "no mask that is"),
}


def test_an_empty_view(home: Home) -> None:
    view = home.dataset.match_tags("nobody")
    before = state_of(home.dataset)
    for name, call in NOTHING.items():
        assert call(home, view) == 0, name
    for name, (refused, says) in REFUSED_WHERE_EMPTY.items():
        with pytest.raises(PersamError, match=says):
            refused(home, view)
        assert state_of(home.dataset) == before, name


# Views that show no photos ------------------------------------------------------------------------


# What hands masks over takes the photos behind patches.
PHOTOS_NEEDED: dict[str, Callable[[Any, Any], Any]] = {
    "segment": lambda v, ref: fp.segment(v, ref, out_field="z", **SETTINGS),
    "segment_again": lambda v, ref: curation.segment_again(v, "x", ref),
    "evaluate": lambda v, ref: fp.evaluate(v, "x", eval_key="e"),
    "compare": lambda v, ref: curation.compare_runs(v, "x", "y"),
    "review_counts": lambda v, ref: curation.review_counts(v, "x"),
    "review_view": lambda v, ref: curation.review_view(v, "x"),
    "review_queue": lambda v, ref: curation.review_queue(v, "x"),
    "set_review": lambda v, ref: curation.set_review(v, "x", "accepted"),
    "make_editable": lambda v, ref: curation.make_editable(v, "x"),
}


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = Home(tmp_path_factory.mktemp("patches") / "photos", grouped=False)
    for name in ("x", "y"):  # of a model that `segment_again` can load
        fp.delete_run(made.dataset, name)
        fp.segment(
            made.photos.limit(1), made.reference, out_field=name, method="persam", model="sam_lite"
        )
    yield made
    made.dataset.delete()


@pytest.mark.parametrize("function", PHOTOS_NEEDED)
def test_patches_are_refused_with_advice_that_works(patched: Home, function: str) -> None:
    view = patched.photos.to_patches("boxes")
    before = state_of(patched.dataset)
    with pytest.raises(PersamError, match=r"patches view .*: give the photos behind it") as caught:
        PHOTOS_NEEDED[function](view, patched.reference)
    assert state_of(patched.dataset) == before
    advice = re.search(r"dataset\.select\(view\.values\('sample_id'\)\)", str(caught.value))
    assert advice
    photos = eval(advice[0], {"dataset": patched.dataset, "view": view})
    assert curation.review_counts(photos, "x").total == 1


def test_a_view_of_frames_is_one_of_photos(home: Home, tmp_path: Path) -> None:
    """What is found is written to the frames of the videos, and a frame can be a reference."""
    videos = fo.Dataset()
    try:
        video = fo.Sample(str(tmp_path / "film.mp4"))  # nobody has the video itself
        for number, path in enumerate(home.photos.values("filepath"), start=1):
            video.frames[number] = fo.Frame(filepath=path)
        videos.add_sample(video)
        frames = videos.to_frames(sample_frames=False)
        run = fp.segment(frames.limit(3), home.reference, out_field="z", **SETTINGS)
        assert run.counts["segmented"] == 3
        assert [n for n, f in videos.first().frames.items() if f["z"] is not None] == [1, 2, 3]
        assert fp.load_run(frames, "z").counts == fp.load_run(videos, "z").counts == run.counts
        assert videos.to_frames(sample_frames=False).exists("z").values("frame_number") == [1, 2, 3]
    finally:
        videos.delete()


# A dataset object that is older than the dataset --------------------------------------------------


OLDER: dict[str, Callable[[Home, Any], Any]] = {
    "review_counts": lambda h, v: curation.review_counts(v, "x").total,
    "set_review": lambda h, v: curation.set_review(v, "x", None),
    "compare": lambda h, v: len(curation.compare_runs(v, "x", "y").ids),
    "evaluate": lambda h, v: fp.evaluate(v, "x").scores.photos,
    "promote": lambda h, v: len(curation.promote(v, "x", "final").promoted),
    "load_run": lambda h, v: fp.load_run(v, "x").counts["segmented"],
    "segment": lambda h, v: segmented(h, photos_of(v)),
}


@pytest.mark.parametrize("function", OLDER)
def test_views_that_are_older_than_the_fields(home: Home, function: str) -> None:
    """Another process has added and filled fields since: FiftyOne's own object knows nothing."""
    view = home.photos.match(F("colour") == "red")
    assert [sample.name for sample in view]  # remembers now what a sample has
    call = OLDER[function]
    expected = call(home, home.photos.match(F("colour") == "red"))
    curation.set_review(home.dataset, "x", "accepted", home.ids(ACCEPTED))
    home.dataset.delete_sample_fields([name for name in ("final",) if home.dataset.has_field(name)])
    _elsewhere(home.dataset, "later")
    try:
        assert not home.dataset.has_field("later")
        assert call(home, view) == expected
    finally:
        home.dataset.reload()
        home.dataset.delete_sample_field("later")
        if home.dataset.has_field("final"):
            home.dataset.delete_sample_field("final")
        curation.set_review(home.dataset, "x", None)
        curation.set_review(home.dataset, "x", "accepted", home.ids(ACCEPTED))


def _elsewhere(dataset: Any, field: str) -> None:
    """Add a field as another process would: in the database, behind this process's objects."""
    import fiftyone.core.odm as odm

    database = odm.get_db_conn()
    document = database.datasets.find_one({"_id": dataset._doc.id})
    (score,) = (f for f in document["sample_fields"] if f["name"] == "x_score")
    added = {**score, "name": field, "db_field": field}
    database.datasets.update_one({"_id": dataset._doc.id}, {"$push": {"sample_fields": added}})
    database[dataset._sample_collection_name].update_many({}, {"$set": {field: 1.0}})


def test_a_run_that_was_renamed_meanwhile(home: Home) -> None:
    run = home.segment(home.photos, "older")
    view = run.view()
    fp.rename_run(home.dataset, "older", "newer")
    try:
        assert curation.review_counts(view, "newer").todo == 4  # a view of photos stays one
        for call in (run.view, run.ids):
            with pytest.raises(PersamError, match=r"no run 'older' any more: .*load"):
                call()
        with pytest.raises(PersamError, match="has no field 'older': pred_field names one"):
            fp.evaluate(view, "older")
    finally:
        fp.delete_run(home.dataset, "newer")
