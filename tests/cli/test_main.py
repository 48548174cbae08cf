from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.cli.main import main
from fiftyone_persam.curation import set_review
from fiftyone_persam.curation.handover.importing import import_perseg

from ..curation.discs import Make, state_of

ROOT = Path(__file__).resolve().parents[2]
NAME = "album-of-the-command-line"


@pytest.fixture
def photos(album: Path, dataset: Make) -> fo.Dataset:
    """Six photos of two objects."""
    return dataset(import_perseg(album, NAME, progress=False))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: Any) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


Call = Callable[..., tuple[int, str, str]]


def spawn(
    *arguments: str, on_interrupt: str = "SIG_DFL", **environment: str
) -> subprocess.Popen[str]:
    """A command in a process of its own, which is started with SIGINT ignored or not."""
    start = (
        f"import os, signal, sys; signal.signal(signal.SIGINT, signal.{on_interrupt});"
        "os.execv(sys.executable, [sys.executable, '-m', 'fiftyone_persam.cli', *sys.argv[1:]])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reference_of(photos: fo.Dataset, name: str) -> str:
    chosen = (fo.ViewField("object") == name) & (fo.ViewField("role") == "reference")
    return str(photos.match(chosen).first().id)


def test_the_whole_job(run: Call, album: Path, dataset: Make, tmp_path: Path) -> None:
    code, out, _ = run("import", album, "--name", NAME, "--object", "cat", "--object", "cup")
    assert code == 0 and f"{NAME}: 6 photos of 2 objects (cat, cup)" in out
    photos = dataset(fo.load_dataset(NAME))
    assert photos.persistent
    photos.match(fo.ViewField("role") == "reference").tag_samples("show")

    code, out, _ = run(
        *("segment", NAME, "--reference-tag", "show", "--group-by", "object"),
        *("--method", "persam", "--out-field", "mine", "--label-type", "both"),
        *("--similarity", "--prompts", "--mask-storage", "file", "--masks-dir", tmp_path / "m"),
        *("--presence-threshold", "0", "--device", "cpu", "--batch-size", "2"),
        *("--cache", tmp_path / "cache", "--mode", "reference", "--dtype", "bfloat16"),
        *("--compile", "off"),
    )
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 6
    assert code == 0
    made = fp.load_run(photos, "mine")
    assert made.summary() in out and made.counts["segmented"] == 6
    assert (made.config.parameters["options"]["mode"], made.config.dtype) == (
        "reference",
        "bfloat16",
    )
    assert made.config.method == "persam" and made.config.parameters["group_by"] == "object"
    assert {Path(path).parent for path in photos.values("mine.mask_path")} == {tmp_path / "m"}
    assert len(photos.exists("mine_similarity")) == len(photos.exists("mine_prompts")) == 6

    code, out, _ = run("evaluate", NAME, "mine", "--eval-key", "key", "--group-by", "object")
    assert code == 0
    scores = photos.load_evaluation_results("key").scores
    row = scores.objects[0]
    numbers = [f"{100 * n:.1f}" for n in (row.iou, row.boundary_iou, row.accuracy)]
    assert [row.name, "2", *numbers] in [line.split() for line in out.splitlines()]

    set_review(photos, "mine", "accepted", photos.values("id")[:4])
    code, out, _ = run("export", NAME, "mine", tmp_path / "out", "--group-by", "object")
    assert code == 0 and out.startswith("4 photos and masks are in")
    masks = sorted((tmp_path / "out" / "Annotations").rglob("*.png"))
    assert len(masks) == 4 and all(np.asarray(Image.open(path)).any() for path in masks)

    code, out, _ = run(
        *("export-dreambooth", NAME, "mine", tmp_path / "set", "--layout", "kohya"),
        *("--crop", "square", "--resolution", "64", "--dilate", "2", "--not-only-accepted"),
        *("--caption", "a photo of sks {label}", "--background", "white", "--tag", "show"),
    )
    assert code == 0 and out.startswith("2 photos with masks and captions are in")
    texts = sorted(path.read_text() for path in (tmp_path / "set" / "images").glob("*.txt"))
    assert texts == ["a photo of sks cat\n", "a photo of sks cup\n"]
    sizes = {Image.open(path).size for path in (tmp_path / "set").rglob("*.png")}
    assert sizes == {(64, 64)}


def test_demo(
    run: Call, album: Path, dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSEG_DIR", str(album))
    code, out, _ = run("demo", "--out", tmp_path / "out")
    made = dataset(fo.load_dataset("persam-demo"))
    assert code == 0 and made.persistent
    assert [r.name for r in fp.list_runs(made)] == ["persam", "persam_f"]
    for expected in (str(album), "PerSAM-F: 6 photos", "published (ViT-H)", "make app"):
        assert expected in out
    assert str(tmp_path / "out" / "demo.jpg") in out
    assert Image.open(tmp_path / "out" / "demo.jpg").format == "JPEG"


def test_views_tags_and_labels(run: Call, photos: fo.Dataset) -> None:
    sample = photos[reference_of(photos, "cat")]
    mask = sample.ground_truth.get_mask() > 0
    sample["boxes"] = fo.Detections(
        detections=[
            fo.Detection.from_mask(mask, label="cat"),
            fo.Detection(label="other", bounding_box=[0, 0, 0.2, 0.2]),
        ]
    )
    sample.save()
    photos.save_view("cats", photos.match(fo.ViewField("object") == "cat"))
    photos.load_saved_view("cats").limit(2).tag_samples("todo")
    code, out, err = run(
        *("segment", NAME, "--reference", sample.id, "--label-field", "boxes"),
        *("--label-id", sample.boxes.detections[0].id, "--view", "cats", "--tag", "todo"),
        *("--method", "persam"),
    )
    assert code == 0, err
    assert "2 segmented" in out
    made = fp.load_run(photos, "persam")
    assert made.config.references[0]["label_id"] == sample.boxes.detections[0].id
    assert sorted(made.ids()) == sorted(photos.match_tags("todo").values("id"))
    code, out, _ = run("evaluate", NAME, "persam", "--view", "cats", "--include-references")
    assert code == 0 and re.search(r"mean over photos +3 ", out)
    code, out, _ = run(
        *("segment", NAME, "--reference", sample.id, "--view", "cats", "--method", "persam"),
        "--skip-existing",
    )
    assert code == 0 and fp.load_run(photos, "persam").counts["segmented"] == 3


def test_several_objects_and_what_they_are_not(run: Call, photos: fo.Dataset) -> None:
    cat, cup = (photos.match({"object": name}).first().id for name in ("cat", "cup"))
    photos.select([cat, cup]).tag_samples("both")
    words = ("segment", NAME, "--tag", "both", "--method", "persam")
    objects = ("--object", f"cat={cat}", "--object", f"cup={cup}", "--out-field", "two")
    code, out, _ = run(*words, *objects)
    assert code == 0 and "2 photos of 2 objects" in out
    assert fp.load_run(photos, "two").record.parameters.objects == ["cat", "cup"]
    negative = ("--reference", cat, "--negative", cup, "--ignore-rejected", "--out-field", "one")
    code, _, _ = run(*words, *negative)
    record = fp.load_run(photos, "one").record
    assert code == 0 and [one.sample_id for one in record.negatives] == [cup]
    assert record.parameters.use_rejected is False


def test_runs(run: Call, photos: fo.Dataset) -> None:
    assert run("runs", "list", NAME)[1] == f"dataset '{NAME}' has no runs\n"
    fields = set(photos.get_field_schema())
    cat = reference_of(photos, "cat")
    assert run("segment", NAME, "--reference", cat, "--method", "persam")[0] == 0
    code, out, _ = run("runs", "list", NAME)
    assert code == 0 and out.splitlines() == [out.rstrip()]
    assert re.match(r"persam +\d{4}-\d\d-\d\d \d\d:\d\d +done +persam with sam_lite", out)
    assert run("runs", "show", NAME, "persam")[1] == fp.load_run(photos, "persam").summary() + "\n"
    assert run("runs", "rename", NAME, "persam", "first")[0] == 0
    assert [r.name for r in fp.list_runs(photos)] == ["first"]

    photos.limit(2).clear_sample_field("first")  # as if it had been stopped before these
    code, out, _ = run("runs", "resume", NAME, "first", "--device", "cpu")
    assert code == 0 and "6 segmented" in out
    assert len(photos.exists("first")) == 6

    photos.delete_run("first")  # FiftyOne's own call takes the record alone
    assert fp.list_runs(photos) == []
    assert "first" in run("runs", "adopt", NAME, "first")[1]
    assert [r.name for r in fp.list_runs(photos)] == ["first"]

    assert run("runs", "delete", NAME, "first")[0] == 0
    assert fp.list_runs(photos) == [] and set(photos.get_field_schema()) == fields


def test_every_photo_bad(run: Call, photos: fo.Dataset, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    bad = photos.add_sample(fo.Sample(str(tmp_path / "empty.jpg"), tags=["bad"]))
    code, out, _ = run("segment", NAME, "--tag", "bad", "--reference", reference_of(photos, "cup"))
    assert code == 1 and bad in out and "1 failed" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "nothing", "--reference", "x"], "there is no dataset 'nothing'"),
        (["segment", NAME], "give --reference ID or --reference-tag TAG"),
        (["segment", NAME, "--reference", "x", "--reference-tag", "y"], "--reference ID or"),
        (["segment", NAME, "--reference-tag", "y", "--label-id", "z"], "--label-id belongs to"),
        (["segment", NAME, "--reference", "5"], "no sample with id '5'"),
        (["segment", NAME, "--reference-tag", "nobody"], "the reference is empty"),
        (["segment", NAME, "--reference", "CAT", "--tag", "nobody"], "no photo to segment"),
        (["segment", NAME, "--reference", "CAT", "--view", "v"], "has no saved view 'v'"),
        (["segment", NAME, "--reference", "CAT", "--model", "sam_huge"], "sam_huge"),
        (["segment", NAME, "--reference", "CAT", "--device", "abacus"], "abacus"),
        (["segment", NAME, "--reference", "CAT", "--out-field", "object"], "field 'object'"),
        (["segment", NAME, "--reference", "CAT", "--group-by", "object"], "no reference for 'cup'"),
        (["segment", NAME, "--reference", "CAT", "--batch-size", "0"], "batch_size 0"),
        (["segment", NAME, "--reference", "CAT", "--presence-threshold", "2"], "out of range"),
        (["segment", NAME, "--reference", "CAT", "--mask-value", "7"], "no pixel of value 7"),
        (
            ["segment", NAME, "--reference", "CAT", "--mask-class", "red"],
            "'red' is neither a class",
        ),
        (["segment", NAME, "--reference", "CAT", "--masks-dir", "/dev/null/x"], "/dev/null"),
        (["evaluate", NAME, "nothing"], "no field 'nothing'"),
        (["evaluate", NAME, "ground_truth"], "cannot be compared with itself"),
        (["runs", "list", "nothing"], "there is no dataset 'nothing'"),
        (["runs", "show", NAME, "x"], "no run 'x'"),
        (["runs", "resume", NAME, "x"], "no run 'x'"),
        (["runs", "delete", NAME, "x"], "no run 'x'"),
        (["runs", "adopt", NAME, "x"], "no fields of a run 'x'"),
        (["runs", "rename", NAME, "x", "y"], "no run 'x'"),
        (["import", "/nowhere"], "/nowhere is not a folder"),
        (["import", "ALBUM", "--name", NAME], "already"),
        (["import", "ALBUM", "--object", "dog"], "dog"),
        (["export", NAME, "x", "/tmp/x"], "no run 'x'"),
        (["export-dreambooth", NAME, "x", "/tmp/x"], "no run and no field 'x'"),
        (["export-dreambooth", NAME, "ground_truth", "/tmp/x", "--min-score", "7"], "min_score"),
        (["models", "download", "sam_huge"], "sam_huge"),
        (["demo", "--perseg-dir", "/nowhere"], "/nowhere is not a folder"),
        (["install-plugin", "--plugins-dir", "/dev/null/x"], "cannot be put into"),
    ],
)
def test_errors_are_one_line(
    run: Call, photos: fo.Dataset, album: Path, arguments: list[str], message: str
) -> None:
    cat = reference_of(photos, "cat")
    named = {"CAT": cat, "ALBUM": str(album)}
    before, names = state_of(photos), fo.list_datasets()
    code, out, err = run(*(named.get(argument, argument) for argument in arguments))
    assert code == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert "Traceback" not in out + err
    assert state_of(photos) == before and fo.list_datasets() == names


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["models"],
        ["runs", "list"],
        ["segment", NAME, "--method", "sam"],
        ["segment", NAME, "--mask-value", "red"],
        ["export", NAME, "x", "y", "--format", "zip"],
        ["export-dreambooth", NAME, "x", "y", "--layout", "zip"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: fiftyone-persam" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"fiftyone-persam {fp.__version__}\n"


def test_models(run: Call) -> None:
    code, out, _ = run("models", "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and [row[0] for row in rows] == [model.name for model in fp.list_models()]
    assert "here bundled" in " ".join(rows[0])
    assert all(row[-1] == "(Apache-2.0)" for row in rows)
    assert run("models", "verify")[:2] == (0, "sam_lite: ok\n")
    code, out, err = run("models", "verify", "sam_lite", "sam_vit_b")
    assert (code, out) == (1, "sam_lite: ok\n")
    assert err.startswith("sam_vit_b: ") and err.count("\n") == 1


def test_a_damaged_checkpoint_is_found(run: Call) -> None:
    (model,) = [model for model in fp.list_models() if model.name == "mobile_sam"]
    assert model.path is not None
    Path(model.path).parent.mkdir(parents=True, exist_ok=True)
    Path(model.path).write_bytes(b"not the file")
    try:
        code, out, err = run("models", "verify")
    finally:
        Path(model.path).unlink()
    assert (code, out) == (1, "sam_lite: ok\n") and "mobile_sam" in err


def test_doctor(run: Call) -> None:
    code, out, _ = run("doctor")
    assert code == 0
    for expected in (r"torch +ok: \d", r"database +ok: MongoDB", r"model sam_lite +ok: "):
        assert re.search(expected, out, re.MULTILINE)


def test_the_plugin_that_is_installed_is_found(run: Call, tmp_path: Path) -> None:
    code, out, _ = run("install-plugin", "--plugins-dir", tmp_path)
    assert code == 0 and "@fiftyone-persam/persam is in" in out
    script = (
        "import json, fiftyone.plugins as fop, fiftyone.operators as foo;"
        "print(json.dumps([[p.name for p in fop.list_plugins(builtin=False)],"
        "[o.uri for o in foo.list_operators(builtin=False)]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "FIFTYONE_PLUGINS_DIR": str(tmp_path)},
        cwd=tmp_path,  # not the checkout: the plugin has to find the library by itself
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    plugins, operators = json.loads(done.stdout.splitlines()[-1])
    assert plugins == ["@fiftyone-persam/persam"]
    assert "@fiftyone-persam/persam/segment_from_reference" in operators


def test_a_process_of_its_own_prints_no_traceback(photos: fo.Dataset) -> None:
    with spawn("runs", "show", NAME, "nothing") as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 2 and out == ""
    assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err


def test_a_database_that_is_away_is_one_line() -> None:
    nowhere = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"
    with spawn("runs", "list", "x", FIFTYONE_DATABASE_URI=nowhere) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "connect" in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize("on_interrupt", ["SIG_DFL", "SIG_IGN"])  # as shells and job runners start
def test_ctrl_c_leaves_a_run_to_resume(run: Call, photos: fo.Dataset, on_interrupt: str) -> None:
    paths = photos.values("filepath")
    photos.add_samples([fo.Sample(paths[i % 6]) for i in range(90)])
    with spawn(
        *("segment", NAME, "--reference", reference_of(photos, "cat"), "--batch-size", "1"),
        on_interrupt=on_interrupt,
        FIFTYONE_SHOW_PROGRESS_BARS="true",
        PYTHONUNBUFFERED="1",
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        seen = ""
        while "photos/s" not in seen:
            piece = process.stdout.read(1)
            assert piece, process.stderr.read()
            seen += piece
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("stopped") and "Traceback" not in out + err
    made = fp.load_run(photos, "persam")
    assert made.state == "interrupted" and made.counts["remaining"] > 0
    photos.delete_samples(photos.skip(8))  # so that going on takes no time
    code, out, _ = run("runs", "resume", NAME, "persam")
    assert code == 0 and "8 segmented" in out
    assert fp.load_run(photos, "persam").state == "done"


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fiftyone_persam", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.split()[-1] == fp.__version__


def test_stopping_a_run(run: Call, photos: fo.Dataset) -> None:
    assert run("runs", "stop", NAME, "persam")[0] == 2
    assert run("segment", NAME, "--reference", reference_of(photos, "cat"))[0] == 0
    code, _, err = run("runs", "stop", NAME, "persam")
    assert code == 1 and "nothing to stop" in err
