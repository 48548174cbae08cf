from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.datasets import DavisDataset
from fiftyone_persam.metrics import jf_scores
from tests.datasets.davis import moving, write_davis
from tests.films import moving_discs, write_film

from ..discs import Make

FRAMES = 6


def late(masks: list[np.ndarray], number: int) -> np.ndarray:
    """The mask of the frame before, and nothing in one frame."""
    return np.zeros_like(masks[0]) if number == 3 else masks[max(number - 1, 0)]


def detections(number: int, labels: dict[str, int]) -> fo.Detections:
    """What a follower says that is a frame late; objects by label, with other numbers."""
    found = []
    for (name, index), masks in zip(labels.items(), MASKS.values(), strict=True):
        if (mask := late(masks, number)).any():
            one = fo.Detection.from_mask(mask, label=name)
            one.index = index
            found.append(one)
    return fo.Detections(detections=found)


MASKS = moving(FRAMES).masks
EXPECTED = {
    str(k): jf_scores([late(masks, n) for n in range(FRAMES)], masks)
    for k, masks in enumerate(MASKS.values(), start=1)
}


@pytest.fixture
def sequences(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """The same film twice, followed a frame late."""
    root = write_davis(tmp_path / "DAVIS", ("a", "b"), frames=FRAMES)
    made = dataset(fo.Dataset.from_dir(dataset_dir=str(root), dataset_type=DavisDataset))
    for sample in made.shuffle(seed=1).iter_samples(autosave=True):
        sample["pred"] = detections(sample.frame_number - 1, {"1": 7, "2": 8})
    return made


def check(results: Any, sequences: tuple[str, ...]) -> None:
    assert [(s, o) for s, o, _ in results.rows] == [(s, o) for s in sequences for o in "12"]
    for _, name, one in results.rows:
        for field in ("j", "f", "j_recall", "f_recall", "j_decay", "f_decay"):
            expected = getattr(EXPECTED[name], field)
            assert getattr(one, field) == pytest.approx(expected, abs=0.02), field
        assert one.frames == FRAMES - 2 and 0.2 < one.jf < 0.95
    mean = (EXPECTED["1"].jf + EXPECTED["2"].jf) / 2
    assert results.scores.jf == pytest.approx(mean, abs=0.02)
    metrics = results.metrics()
    assert metrics["jf"] == pytest.approx(results.scores.jf)
    assert metrics["j_decay"] == pytest.approx(results.scores.j_decay)
    shown = {one["label"]: one["value"] for one in results.custom_metrics.values()}
    assert list(shown)[:3] == ["J&F", "J", "F"]  # in the Model Evaluation panel


def test_photos_in_sequences(sequences: fo.Dataset, capsys: Any) -> None:
    results = fp.evaluate(
        sequences,
        "pred",
        eval_key="davis",
        method="davis",
        sequence_field="sequence",
        order_field="frame_number",
    )
    check(results, ("a", "b"))
    view = sequences.match({"sequence": "a"}).sort_by("frame_number")
    values = view.values("davis_j")
    assert values[0] is None and values[-1] is None and values[3] == 0
    assert all(0 < value < 1 for value in (values[1], values[2], values[4]))
    again = sequences.load_evaluation_results("davis", cache=False)
    check(again, ("a", "b"))
    assert again.config.method == "davis" and again.confusion_matrix().sum() > 0
    again.print_report()
    printed = capsys.readouterr().out
    assert "J&F" in printed and "mean over objects" in printed
    fp.evaluate(sequences, "pred", eval_key="davis", method="davis", sequence_field="sequence")
    assert sequences.list_evaluations() == ["davis"]
    sequences.rename_evaluation("davis", "other")
    assert sequences.has_field("other_f") and not sequences.has_field("davis_f")
    sequences.delete_evaluation("other")
    assert not sequences.has_field("other_j")


def test_frames_of_videos(dataset: Make, tmp_path: Path) -> None:
    film = moving(FRAMES)
    sample = fo.Sample(str(write_film(tmp_path / "film.mp4", film.frames)))
    for number in range(FRAMES):
        truth = [fo.Detection.from_mask(m[number], label=n) for n, m in MASKS.items()]
        for index, one in enumerate(truth, start=1):
            one.index = index
        sample.frames[number + 1] = fo.Frame(
            ground_truth=fo.Detections(detections=truth),
            pred=detections(number, {"cat": 1, "cup": 2}),
        )
    made = dataset([sample])
    results = fp.evaluate(
        made, "frames.pred", gt_field="frames.ground_truth", eval_key="jf", method="davis"
    )
    check(results, ("film",))
    assert made.first().frames[2]["jf_j"] > 0 and made.first().frames[1]["jf_j"] is None
    check(made.load_evaluation_results("jf", cache=False), ("film",))
    made.delete_evaluation("jf")
    assert not made.has_frame_field("jf_j")


def test_one_object_is_whatever_was_found(sequences: fo.Dataset) -> None:
    """A run of one object calls it as it likes, and may store whole masks."""
    for sample in sequences.iter_samples(autosave=True):
        kept = [one for one in sample.ground_truth.detections if one.label == "1"]
        sample["ground_truth"] = fo.Detections(detections=kept)
        mask = late(MASKS["cat"], sample.frame_number - 1)
        sample["whole"] = fo.Segmentation(mask=mask.astype(np.uint8) * 255)
    results = fp.evaluate(sequences, "whole", method="davis", sequence_field="sequence")
    assert len(results.rows) == 2
    assert results.scores.j == pytest.approx(EXPECTED["1"].j, abs=0.02)


def test_a_sequence_that_cannot_be_scored_is_left_out(sequences: fo.Dataset) -> None:
    short = sequences.match({"sequence": "b", "frame_number": {"$gt": 2}})
    short.set_values("ground_truth", [None] * len(short))
    options: dict[str, Any] = {"method": "davis", "sequence_field": "sequence"}
    results = fp.evaluate(sequences, "pred", **options)
    assert [sequence for sequence, _, _ in results.rows] == ["a", "a"]
    assert "b has 2 frames with ground truth" in results.skipped["b"]
    with pytest.raises(fp.PersamError, match="2 frames with ground truth"):
        fp.evaluate(sequences, "pred", on_error="raise", **options)


def test_a_sequence_with_a_photo_that_is_gone_is_left_out(sequences: fo.Dataset) -> None:
    Path(sequences.match({"sequence": "b"}).skip(2).first().filepath).unlink()
    results = fp.evaluate(sequences, "pred", method="davis", sequence_field="sequence")
    assert [sequence for sequence, _, _ in results.rows] == ["a", "a"]
    assert "does not exist: check its path" in results.skipped["b"]


def test_a_film_that_is_gone_is_left_out(dataset: Make, tmp_path: Path) -> None:
    films = dataset([moving_discs(tmp_path / f"{name}.mp4", 3) for name in "ab"])
    for sample in films:
        first = sample.frames[1].ground_truth
        for number in (1, 2, 3):
            sample.frames[number] = fo.Frame(ground_truth=first.copy(), pred=first.copy())
        sample.save()
    Path(films.last().filepath).unlink()
    results = fp.evaluate(films, "frames.pred", "frames.ground_truth", method="davis")
    assert {sequence for sequence, _, _ in results.rows} == {"a"}
    assert "b.mp4 does not exist: check its path" in results.skipped["b"]


REFUSED = [
    ({"method": "davi"}, "method 'davi' is not known|'davi'"),
    ({"method": "davis"}, "give sequence_field"),
    ({"method": "davis", "sequence_field": "seq"}, "has no field 'seq'.*sequence"),
    ({"sequence_field": "sequence"}, "are for method='davis'"),
    ({"method": "davis", "group_by": "sequence"}, "group_by is for method='perseg'"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_refused(sequences: fo.Dataset, options: dict[str, Any], says: str) -> None:
    before = sequences.get_field_schema()
    with pytest.raises(fp.PersamError, match=says):
        fp.evaluate(sequences, "pred", eval_key="no", **options)
    assert list(sequences.get_field_schema()) == list(before)
    assert not sequences.list_evaluations()
