from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.engine import MemoryCache
from fiftyone_persam.errors import PersamError
from fiftyone_persam.personalize.suggestion import rank_references
from fiftyone_persam.sam import PromptableSam, load_sam
from tests.curation.discs import Make, disc, make_photos


@pytest.fixture(scope="module")
def lite() -> PromptableSam:
    return load_sam("sam_lite")


def odd_one_in(folder: Path) -> list[Any]:
    """Four red discs and a photo of nothing but stripes, whose label covers them."""
    samples = make_photos(folder, count=4)
    stripes = np.zeros((48, 64, 3), np.uint8)
    stripes[:, ::4] = (0, 255, 40)
    Image.fromarray(stripes).save(folder / "stripes.png")
    label = fo.Segmentation(mask=disc(32, 24).astype(np.uint8) * 255)
    samples.append(fo.Sample(str(folder / "stripes.png"), ground_truth=label))
    return samples


@pytest.mark.parametrize("field", [None, "ground_truth"])
def test_the_medoid_is_suggested_and_the_stranger_comes_last(
    dataset: Make, tmp_path: Path, lite: PromptableSam, field: str | None
) -> None:
    data = dataset(odd_one_in(tmp_path))
    found = fp.suggest_reference(data, field, lite)
    assert set(found.ids) == set(data.values("id")) and found.field == field
    assert found.ids[-1] == data.last().id
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert [data[i].filepath for i in found] == list(found.filepaths)


def test_the_score_is_the_mean_similarity_to_the_others(
    dataset: Make, tmp_path: Path, lite: PromptableSam
) -> None:
    data = dataset(make_photos(tmp_path, count=3))
    embeddings = lite.encode(data.values("filepath"))
    flat = np.stack([e.features.numpy().reshape(e.features.shape[0], -1) for e in embeddings])
    rows, columns = embeddings[0].valid_grid
    cells = flat.reshape(3, -1, 32, 32)[:, :, :rows, :columns].reshape(3, flat.shape[1], -1)
    means = (cells / np.linalg.norm(cells, axis=1, keepdims=True)).mean(axis=2)
    means -= means.mean(axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = [(means[i] @ means.T).sum() / 2 - 0.5 for i in range(3)]
    np.testing.assert_allclose(rank_references(lite, embeddings), expected, atol=1e-4)


def test_photos_without_a_label_are_left_out(
    dataset: Make, tmp_path: Path, lite: PromptableSam, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(make_photos(tmp_path, count=4))
    last = data.last()
    last["ground_truth"] = None
    last.save()
    found = fp.suggest_reference(data, "ground_truth", lite)
    assert len(found.ids) == 3 and last.id not in found.ids
    found.print_report(limit=1)
    shown = capsys.readouterr().out
    assert found.ids[0] in shown and found.ids[-1] in shown and found.ids[1] not in shown


def test_embeddings_come_from_the_cache(
    dataset: Make, tmp_path: Path, lite: PromptableSam, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(make_photos(tmp_path, count=3))
    cache = MemoryCache()
    first = fp.suggest_reference(data, None, lite, cache=cache)

    def encode_again(*_: Any, **__: Any) -> None:
        raise AssertionError("a photo was encoded twice")

    monkeypatch.setattr(type(lite), "encode", encode_again)
    assert fp.suggest_reference(data, None, lite, cache=cache) == first


@pytest.mark.parametrize(
    ("field", "count", "says"),
    [("nowhere", 3, "no field 'nowhere'"), (None, 1, "two or more"), (7, 3, "label_field")],
)
def test_nothing_to_suggest(
    dataset: Make, tmp_path: Path, lite: PromptableSam, field: Any, count: int, says: str
) -> None:
    data = dataset(make_photos(tmp_path, count=count))
    with pytest.raises(PersamError, match=says):
        fp.suggest_reference(data, field, lite)
