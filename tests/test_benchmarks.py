"""Each benchmark runs on a tiny input and says what it measured; no figure is judged here."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image

import fiftyone_persam as fp
from benchmarks import gpu_session, instances, several_objects, video
from benchmarks.__main__ import BENCHMARKS
from benchmarks.album import Photo
from benchmarks.company import photos_of
from benchmarks.composed import Composed, also_in, at_sizes
from benchmarks.measuring import Figure, alternate, median_ratio
from benchmarks.results import MEANING, Row, format_page, margin, write_results
from benchmarks.scale import BARS
from benchmarks.several_scenes import Several
from fiftyone_persam.datasets import build_album
from fiftyone_persam.datasets.davis.layout import DavisSequence
from fiftyone_persam.metrics import jf_scores
from tests.datasets.davis import write_davis

TINY = ["--model", "tiny", "--device", "cpu"]
COMMANDS = {
    "overhead": [*TINY, "--photos", "3", "--repeats", "1"],
    "fitting": [*TINY, "--steps", "5", "--repeats", "1"],
    "second_reference": [*TINY, "--photos", "3", "--repeats", "2"],
    "plain_loop": [*TINY, "--photos", "2", "--repeats", "1"],
    "evaluation": ["--photos", "3", "--repeats", "1"],
    "precision": [*TINY, "--photos", "2", "--layers"],
    "gpu": [
        "--device",
        "cpu",
        "--models",
        "tiny",
        "--batches",
        "1",
        "--repeats",
        "1",
        "--photos",
        "3",
    ],
    "bookkeeping": ["--counts", "12"],
}


def run(name: str, arguments: list[str], tmp_path: Path) -> list[Figure]:
    file = tmp_path / "figures.json"
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.main([*arguments, "--json", str(file)]) == 0
    return [Figure(**one) for one in json.loads(file.read_text())]


@pytest.fixture(scope="module")
def demo() -> list[list[Photo]]:
    """The demo's own album."""
    return photos_of(None)


def test_every_benchmark_is_tried_here() -> None:
    assert {benchmark.module for benchmark in BENCHMARKS} == set(COMMANDS)
    assert {benchmark.letter for benchmark in BENCHMARKS} == set(MEANING)


@pytest.mark.parametrize("name", COMMANDS)
def test_benchmark_measures_and_prints(
    name: str, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fo.list_datasets()
    figures = run(name, [*COMMANDS[name], "--album", str(album)], tmp_path)
    assert figures and all(one.value is not None and one.value >= 0 for one in figures)
    shown = capsys.readouterr().out
    for figure in figures:
        assert f"{figure.name}: {figure.measured}" in shown
    assert fo.list_datasets() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU to measure")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("gpu", []), ("plain_loop", ["--model", "vit_h", "--device", "cuda"])],
)
def test_without_a_gpu_its_figures_are_not_made_up(
    name: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run(name, arguments, tmp_path)
    assert {figure.value for figure in figures} == {None}
    assert {figure.reached for figure in figures} == {None}
    assert "no CUDA here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "bar", "at_most", "reached"),
    [
        (1.1, 1.15, True, True),
        (1.2, 1.15, True, False),
        (120.0, 100.0, False, True),
        (99.0, 100.0, False, False),
        (None, 100.0, False, None),
        (5.0, None, False, None),
    ],
)
def test_bar(value: float | None, bar: float | None, at_most: bool, reached: bool | None) -> None:
    figure = Figure("figure", value, "x", bar, at_most, "")
    assert figure.reached is reached
    better = margin(figure)
    assert (better is None) if reached is None else ((better >= 1) is reached)


def test_parts_take_turns() -> None:
    order: list[str] = []
    seconds = alternate({n: lambda n=n: order.append(n) for n in "ab"}, 3)  # type: ignore[misc]
    assert order == list("ababab")
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]) == 4.0


def test_results_page_and_plot(tmp_path: Path) -> None:
    rows = [
        Row("a", Figure("job | compute", 1.1, "x", 1.15, True, "ten | photos")),
        Row("d", Figure("loop", 1.2, "x", 1.5, False, "slow")),
        Row("e", Figure("gpu", None, "photos/s", 80.0, False, "no CUDA here")),
    ]
    page = write_results(rows, "the demo's own album", tmp_path)
    text = page.read_text()
    assert text == format_page(rows, "the demo's own album")
    assert "| job / compute | at most 1.15 x | 1.1 x | yes | ten / photos |" in text
    assert "| loop | at least 1.5 x | 1.2 x | **no** | slow |" in text
    assert "| gpu | at least 80 photos/s | not measured | - | no CUDA here |" in text
    assert not re.search(r"/(home|root|work|tmp|Users)\b", text)
    assert 1000 < (tmp_path / "results.png").stat().st_size < 200_000


def test_masked_dreambooth_is_compared_with_the_plain_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("diffusers")
    picture = tmp_path / "samples.png"
    tiny = "--pictures 8 --base-steps 2 --steps 1 --samples 1 --sample-steps 1"
    arguments = [*tiny.split(), "--photos", "2", "--repeats", "1", "--picture", str(picture)]
    figures = run("dreambooth", arguments, tmp_path)
    assert [figure.name.rpartition(", ")[2] for figure in figures] == [
        "before training",
        "without the masks",
        "with the masks",
        "with the masks and class images",
    ]
    photos = re.search(r"(\d+) % of the training photos' pixels", figures[0].detail)
    assert photos is not None and 20 < int(photos[1]) < 95
    assert Image.open(picture).size == (72, 5 * 72)
    shown = capsys.readouterr().out
    assert all(f"{figure.name}: {figure.measured}" in shown for figure in figures)


def test_sheet_of_a_training_set(tmp_path: Path) -> None:
    from benchmarks.concept_sheet import main
    from tests.dreambooth.concepts import write_cat

    folder = write_cat(tmp_path / "cat")
    assert main([str(folder), str(tmp_path / "sheet.png"), "--columns", "1"]) == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    mask = Image.open(folder / "masks" / "chelsea.png").convert("RGB")
    assert np.array_equal(sheet[186 : 186 + mask.height, 74 : 74 + mask.width], np.asarray(mask))


def test_the_benchmark_s_vae_averages(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from benchmarks.tiny_diffusion import build_pipeline, make_averaging

    vae = build_pipeline(tmp_path, vae_widths=(8, 8), vae_groups=1, size=12).vae
    make_averaging(vae)
    photo = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    means = photo.reshape(1, 3, 12, 2, 12, 2).mean(dim=(3, 5))
    with torch.no_grad():
        found = vae.encode(photo).latent_dist
        decoded = vae.decode(found.mean).sample
    assert torch.allclose(found.mean[:, :3], means, atol=2e-3) and found.std.max() < 1e-4
    assert torch.allclose(decoded[..., ::2, ::2], means, atol=2e-3)


def pairs(line: str) -> dict[str, float]:
    words = line.split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


def test_tuning_methods_are_compared(album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import tuning

    methods = ["persam", "lora", "mask_weights_3"]
    quick = ["--option", "lora.steps=1", "--option", "lora.views=0"]
    quick += ["--option", "mask_weights_3.steps=1", "--option", "mask_weights_3.views=1"]
    arguments = [str(album), "--objects", "cat", "--methods", *methods, *quick]
    assert tuning.main(arguments) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    last = pairs(lines[-1])
    assert list(last) == methods and all(50 < miou <= 100 for miou in last.values())
    rows = {line.split()[0]: line.split() for line in lines[2 : 2 + len(methods)]}
    assert rows["persam"][1] == "0" and rows["persam"][-1] == "89.3"
    assert rows["lora"][1] == "147,200" and rows["lora"][-2:] == ["293K", "90.0"]
    assert all(abs(float(rows[name][2]) - last[name]) <= 0.051 for name in methods)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("lora.rank", "is not METHOD.NAME=VALUE"),
        ("lora.width=3", "'width' is not an option of lora"),
        ("lore.rank=3", "method 'lore' is not known"),
        ("lora.rank=0", "rank 0 is out of range"),
    ],
)
def test_options_of_tuning_that_there_are_not(
    option: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import tuning

    with pytest.raises(SystemExit):
        tuning.main(["--option", option])
    assert says in capsys.readouterr().err


def test_ablation_has_the_papers_rows(
    album: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without an album, PerSeg where PERSEG_DIR says that it is."""
    from benchmarks import ablation

    monkeypatch.setenv("PERSEG_DIR", str(album))
    assert ablation.main(["--objects", "cat"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].startswith(album.name)
    last = pairs(lines[-1])
    assert list(last) == list(ablation.PUBLISHED)
    published = {line.split()[0]: line.split() for line in lines[2:-1]}
    assert published["positive_prior"][-1] == "69.1"
    assert published["scale_tuning"][-2:] == ["95.3", "+6.0"]
    assert len(set(last.values())) > 3  # the parts do something


def test_rows_of_the_ablation_are_nested() -> None:
    from benchmarks import ablation

    sam = fp.load_sam("sam_lite")
    on = [
        {part for part in ablation.PARTS if getattr(ablation.row(sam, name, "corrected"), part)}
        for name in ablation.PUBLISHED
    ]
    assert [len(parts) for parts in on] == [0, 1, 2, 3, 4, 4]
    assert all(less <= more for less, more in itertools.pairwise(on))
    released = ablation.row(sam, "scale_tuning", "reference")
    assert not released.guided_attention and not released.negative_prior


def test_what_persam_f_could_keep_is_compared(
    album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PerSAM-F with what it keeps by default is a row, and so is PerSAM."""
    from benchmarks import ablation

    sam = fp.load_sam("sam_lite")
    parts = ("semantic_prompt", "guided_attention", "negative_prior", "post_refinement")
    default = fp.PerSAMF(sam)
    row = ablation.kept(sam, "semantic_prompt")
    assert [getattr(row, part) for part in parts] == [getattr(default, part) for part in parts]
    assert ablation.main([str(album), "--persam-f", "--objects", "cat"]) == 0
    last = pairs(capsys.readouterr().out.strip().splitlines()[-1])
    assert list(last) == list(ablation.KEPT)
    assert last["as_released"] != last["mean_feature"] and len(set(last.values())) > 3


def test_a_sequence_is_followed_backwards_with_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_davis(tmp_path / "DAVIS", ("pets",), frames=3)
    seen = []

    def measured(sequence: DavisSequence, *given: object) -> video.Followed:
        seen.append((sequence.frames, sequence.annotations, given[-1]))
        return video.Followed(
            {1: jf_scores([np.ones((4, 4), bool)] * 3, [np.ones((4, 4), bool)] * 3)}, 3, 1.0
        )

    monkeypatch.setattr(video, "measure", measured)
    changed = ["--backwards", "--option", "persam_f.scale_tuning=off"]
    assert video.main([str(root)]) == 0 and video.main([str(root), *changed]) == 0
    (frames, annotations, plain), (turned, labels, options) = seen
    assert turned == frames[::-1] and labels == annotations[::-1] and len(frames) == 3
    assert plain == {} and options == {"scale_tuning": False}
    assert video.main([str(root), "--option", "persam_f.scales=off"]) == 1
    assert "'scales' is not an option of persam_f" in capsys.readouterr().err


def test_photos_of_the_demo_know_what_else_they_show(demo: list[list[Photo]]) -> None:
    """Its masks there are not wrong, whatever a benchmark asks for."""
    groups = {group[0].object: group for group in demo}
    assert [sorted(also_in(photo)) for photo in groups["cat"][4:]] == [
        ["flower"],
        ["flower"],
        ["cup"],
    ]
    assert not any(also_in(photo) for photo in groups["motorcycle"])
    mask = np.ones((2, 2), bool)
    photo = Composed("cat", "06", np.zeros((2, 2, 3), np.uint8), mask, also=frozenset({"cup"}))
    seen = SimpleNamespace(mask=mask)
    found = dict.fromkeys(("cat", "cup", "flower"), seen)
    assert several_objects.row_of([found], [photo]) == [1, 1, 1]
    assert several_objects.row_of([found], [replace(photo, also=frozenset())]) == [1, 1, 2]


def test_smaller_objects_are_not_put_beside_themselves(demo: list[list[Photo]]) -> None:
    """What a photo shows that they are put into, they show as well."""
    made = at_sizes([group[:1] + group[4:] for group in demo])
    assert len(made) == len(demo)
    for group in made:
        assert group[0].size == 0 and len(group) == 10
        assert all(photo.also and photo.object not in photo.also for photo in group[1:])
    assert any(len(photo.also) > 1 for group in made for photo in group)


def test_the_demo_s_objects_have_dyed_twins(demo: list[list[Photo]]) -> None:
    plain = {group[0].object: group for group in demo}
    groups, kinds = instances.albums_own_twins(plain)
    assert [name for name, _ in kinds] == ["cat", "cup", "flower", "motorcycle"]
    photo, twin = groups["cup"][1], groups["dyed cup"][1]
    changed = (photo.image != twin.image).any(axis=2)
    assert not changed[~photo.mask].any() and changed[photo.mask].mean() > 0.9
    made = instances.twins(groups, kinds)
    assert {one.objects for one in made} == set(kinds)
    for one in made:
        first, second = one.scene.masks
        assert first.any() and second.any() and not (first & second).any()


def test_no_twin_is_put_into_a_photo_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def photo(name: str, also: str = "") -> Composed:
        image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), bool)
        mask[10:20, 10:20] = True
        return Composed(name, "00", image, mask, also=frozenset({also} - {""}))

    behind = []

    def composed(background: Photo, *_: object) -> Several:
        behind.append(background)
        return Several("cup", background.image, [background.mask] * 2)

    monkeypatch.setattr(instances, "compose", composed)
    alone, beside = photo("cat"), photo("cat", "cup")
    groups, kinds = instances.albums_own_twins({"cup": [photo("cup")], "cat": [alone, beside]})
    assert instances.twins(groups, kinds[:1]) and all(one is alone for one in behind)


def test_the_scale_table_has_every_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run("scale", ["--counts", "12", "--repeats", "1"], tmp_path)

    assert {figure.name.rpartition(", ")[0] for figure in figures} == set(BARS)
    assert all(figure.value for figure in figures)
    assert "| seconds | 12 photos | goal |" in capsys.readouterr().out


def test_proposals_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without training photos beside it, the album's own objects are what is to be found."""
    module = importlib.import_module("benchmarks.proposals")
    album = build_album(tmp_path / "album", objects=("cat",), photos=2)
    given = [str(album), "--proposers", "discovery", "--limit", "1", "--photos", "nowhere"]
    assert module.main(given) == 0
    shown = capsys.readouterr().out.splitlines()
    number = r"(?:\d+\.\d+|nan)"
    assert re.fullmatch(rf"first ten {number}, AR@100 {number}, decoder {number} x", shown[-1])
    assert shown[0].startswith("AR over") and shown[1].startswith("discovery")


def test_average_recall_is_coco_s() -> None:
    recall = importlib.import_module("benchmarks.proposals").average_recall
    encoded = importlib.import_module("benchmarks.proposals").encoded
    left, right = np.zeros((2, 40, 60), np.bool_)
    left[5:25, 5:25] = True
    right[10:30, 35:55] = True
    found = np.roll(right, 4, axis=1)  # IoU 2 / 3: up to the threshold of 0.65
    detections = [
        {"image_id": 0, "category_id": 1, "score": score, "segmentation": encoded(mask)}
        for score, mask in ((0.9, left), (0.8, found))
    ]
    assert recall([((40, 60), [left, right])], detections) == pytest.approx([0.7] * 3)
    assert recall([((40, 60), [left, right])], []) == [0, 0, 0]


def test_the_gpu_session_keeps_what_each_part_prints(
    album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--album", str(album), "--out", str(tmp_path), "--try-out", "--only", "sam_lite"]
    assert gpu_session.main(given) == 0
    assert "tiny float32 job, files to files" in (tmp_path / "sam_lite.txt").read_text()
    assert "failed: nothing" in capsys.readouterr().out


def test_the_gpu_session_names_what_no_time_is_left_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = gpu_session.parts(tmp_path, try_out=False)
    given = ["--album", str(tmp_path), "--out", str(tmp_path / "out"), "--seconds", "0"]
    assert gpu_session.main(given) == len(parts)
    shown = capsys.readouterr().out
    assert all(f"{part.name}: not begun" in shown for part in parts)
    assert not list((tmp_path / "out").iterdir())


def test_followed_objects_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_davis(tmp_path / "DAVIS", ("pets",), frames=4)
    assert video.main([str(root), "--method", "persam"]) == 0
    *lines, last = capsys.readouterr().out.strip().splitlines()
    found = re.fullmatch(r"J&F (\S+), J (\S+), F (\S+), (\S+) frames/s", last)
    assert found is not None
    jf, j, f, speed = map(float, found.groups())
    assert jf == pytest.approx((j + f) / 2, abs=0.1) and jf > 80 and speed > 0
    objects = [line for line in lines if line.startswith("pets")]
    assert len(objects) == 2 and all("recall J 100.0" in line for line in objects)
    assert any("GiB of the process" in line for line in lines)
    assert video.main([str(tmp_path / "ImageSets")]) == 1
    assert "is not in DAVIS's layout" in capsys.readouterr().err
