from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.cli.demo import PUBLISHED, Demo, format_table, run_demo
from fiftyone_persam.cli.demo_picture import GAP, TILE

from ..curation.discs import files_of, state_of

NAME = "persam-demo-of-tests"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def demo(out: Path, said: list[str]) -> Iterator[Demo]:
    """The whole demo, with its own album, run once."""
    yield run_demo(out, name=NAME, progress=False, say=said.append)
    if fo.dataset_exists(NAME):
        fo.delete_dataset(NAME)


def test_both_methods_are_scored(demo: Demo, said: list[str]) -> None:
    dataset = fo.load_dataset(NAME)
    assert dataset.persistent and len(dataset) == 28
    assert [run.name for run in fp.list_runs(dataset)] == list(PUBLISHED)
    assert [line.partition(":")[0] for line in said] == ["Album", "PerSAM", "PerSAM-F"]
    for method in PUBLISHED:
        run = fp.load_run(dataset, method)
        assert run.state == "done" and run.counts["segmented"] == 28 and not run.errors
        scores = demo.scores[method]
        assert dataset.load_evaluation_results(f"{method}_eval").scores == scores
        assert [row.name for row in scores.objects] == ["cat", "cup", "flower", "motorcycle"]
        assert [row.photos for row in scores.objects] == [6, 6, 6, 6]  # without the references
        # A floor far below what the checkpoint reaches: noise or a wrong wiring fails it.
        assert scores.miou > 0.3
        assert len(dataset.exists(f"{method}_similarity")) == 28


def test_the_table_has_every_number(demo: Demo) -> None:
    lines = demo.table.splitlines()
    for index, row in enumerate(demo.scores["persam"].objects):
        other = demo.scores["persam_f"].objects[index]
        numbers = [row.iou, row.boundary_iou, other.iou, other.boundary_iou]
        expected = [row.name, str(row.photos), *(f"{100 * n:.1f}" for n in numbers)]
        assert expected in [line.split() for line in lines]
    assert any(line.startswith("mean over objects") for line in lines)
    assert any(line.split()[0] == "seconds" for line in lines)
    assert "published" not in demo.table
    with_paper = format_table(demo.scores, demo.seconds, published=True)
    numbers = [f"{n:.1f}" for pair in PUBLISHED.values() for n in pair]
    assert ["published", "(ViT-H)", *numbers] in [line.split() for line in with_paper.splitlines()]


def test_the_picture_fits_a_readme(demo: Demo) -> None:
    assert demo.picture.stat().st_size < 300_000
    pixels = np.asarray(Image.open(demo.picture).convert("RGB"))
    rows, columns = 3, 5  # cat, cup, flower; a reference and two photos with their maps
    assert pixels.shape[1] == columns * (TILE[0] + GAP) + GAP
    step = pixels.shape[0] // rows
    for row in range(rows):
        for column in range(columns):
            x = GAP + column * (TILE[0] + GAP)
            tile = pixels[row * step + 40 : (row + 1) * step - 20, x : x + TILE[0]]
            assert tile.std() > 20, f"row {row}, column {column} is blank"


def test_running_again_replaces_the_dataset(demo: Demo, out: Path, album: Path) -> None:
    folder = Path(fo.config.default_dataset_dir) / NAME
    old = fo.load_dataset(NAME)
    assert any(name.startswith("persam/persam_f/") for name in files_of(folder))
    again = run_demo(out, album, name=NAME, progress=False)
    assert old.deleted
    dataset = fo.load_dataset(NAME)
    assert len(dataset) == 6 and sorted(dataset.distinct("object")) == ["cat", "cup"]
    assert "published" in again.table
    masks = {Path(path).name for path in dataset.values("persam_f.mask_path")}
    found = {name for name in files_of(folder / "persam" / "persam_f") if name.endswith(".png")}
    assert found == masks  # nothing of the earlier run is left
    assert not [name for name in fo.list_datasets() if name.startswith(f"{NAME}-")]


@pytest.mark.parametrize("fault", ["somebody else's", "no album", "no such model"])
def test_a_demo_that_cannot_be_leaves_all_as_it_was(
    fault: str, out: Path, album: Path, tmp_path: Path
) -> None:
    name = f"{NAME}-refused"
    mine = fo.Dataset(name)
    try:
        mine.add_sample(fo.Sample(str(album / "Images" / "cat" / "00.jpg")))
        if fault != "somebody else's":
            mine.info["made_by"] = "fiftyone-persam demo"
            mine.save()
        before, names = state_of(mine), fo.list_datasets()
        folder = tmp_path / "nowhere" if fault == "no album" else album
        model = "sam_huge" if fault == "no such model" else "sam_lite"
        with pytest.raises(fp.PersamError) as caught:
            run_demo(out, folder, model, name=name, progress=False)
        assert "\n" not in str(caught.value)
        assert state_of(mine) == before and fo.list_datasets() == names
    finally:
        mine.delete()
