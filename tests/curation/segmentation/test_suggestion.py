from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import fiftyone_persam as fp
from benchmarks.seeded import small_sam
from fiftyone_persam.curation.labels.masks import shown_mask
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.engine import MemoryCache
from fiftyone_persam.errors import PersamError
from fiftyone_persam.personalize.common_object import common_object
from fiftyone_persam.personalize.prior import aligned_foreground
from fiftyone_persam.personalize.suggestion import rank_references
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam
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


@pytest.mark.parametrize("by", ["separation", "medoid"])
@pytest.mark.parametrize("field", [None, "ground_truth"])
def test_the_stranger_comes_last(
    dataset: Make, tmp_path: Path, lite: PromptableSam, field: str | None, by: str
) -> None:
    data = dataset(odd_one_in(tmp_path))
    found = fp.suggest_reference(data, field, lite, by=by)
    assert set(found.ids) == set(data.values("id")) and (found.field, found.by) == (field, by)
    assert found.ids[-1] == data.last().id
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert [data[i].filepath for i in found] == list(found.filepaths)


def cells_of(embedding: ImageEmbedding) -> npt.NDArray[np.float64]:
    """(n, C) float64 features of the photo's own cells, of length 1."""
    rows, columns = embedding.valid_grid
    flat = embedding.features[:, :rows, :columns].flatten(1).T.double().numpy()
    unit: npt.NDArray[np.float64] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return unit


def test_the_medoid_is_the_most_similar_to_all_the_others(
    dataset: Make, tmp_path: Path, lite: PromptableSam
) -> None:
    data = dataset(make_photos(tmp_path, count=3))
    embeddings = lite.encode(data.values("filepath"))
    means = np.stack([cells_of(embedding).mean(axis=0) for embedding in embeddings])
    means -= means.mean(axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    expected = [(means[i] @ means.T).sum() / 2 - 0.5 for i in range(3)]
    found = rank_references(lite, embeddings, by="medoid")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_separation_is_how_far_the_object_stands_out_of_the_others_maps(
    dataset: Make, tmp_path: Path, lite: PromptableSam
) -> None:
    """Against plain numpy: the background's direction is left out of both sides of the cosine."""
    data = dataset(make_photos(tmp_path, count=3))
    embeddings = lite.encode(data.values("filepath"))
    masks = [shown_mask(sample, "ground_truth") for sample in data]
    rows, columns = embeddings[0].valid_grid
    inside = [
        aligned_foreground(lite, mask, e)[:rows, :columns].flatten().numpy()
        for mask, e in zip(masks, embeddings, strict=True)
    ]
    expected = []
    for i in range(3):
        own = cells_of(embeddings[i])
        raw = embeddings[i].features[:, :rows, :columns].flatten(1).T.double().numpy()
        away = own[~inside[i]].mean(axis=0)
        away /= np.linalg.norm(away)
        target = raw[inside[i]].mean(axis=0)
        target -= (target @ away) * away
        gaps = []
        for j in {0, 1, 2} - {i}:
            other = cells_of(embeddings[j])
            left = other - np.outer(other @ away, away)
            cosine = left @ target / np.linalg.norm(left, axis=1) / np.linalg.norm(target)
            gaps.append(cosine[inside[j]].mean() - cosine[~inside[j]].mean())
        expected.append(np.mean(gaps))
    found = rank_references(lite, embeddings, masks)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_photos_have_in_common_is_the_object(album: Path, lite: PromptableSam) -> None:
    """Nothing is labelled, and other things lie about in the demo's photos."""
    for name in ("cat", "cup"):
        photos = sorted((album / "Images" / name).iterdir())
        embeddings = lite.encode(photos)
        for path, embedding, cells in zip(
            photos, embeddings, common_object(lite, embeddings), strict=True
        ):
            mask = read_mask(album / "Annotations" / name / f"{path.stem}.png")
            truth = aligned_foreground(lite, mask, embedding)
            assert fp.iou(cells.numpy(), truth.numpy()) > 0.4


def test_other_models_compare_whole_photos_before_any_label(dataset: Make, tmp_path: Path) -> None:
    """The detector of things knows sam_lite's embedding alone."""
    other = load_sam(small_sam(192), dtype="float32")
    data = dataset(make_photos(tmp_path, count=3))
    found = fp.suggest_reference(data, None, other)
    assert found.by == "medoid"
    assert found == fp.suggest_reference(data, None, other, by="medoid")
    assert fp.suggest_reference(data, "ground_truth", other).by == "separation"
    with pytest.raises(PersamError, match="by='beauty' is not known: give one of 'separation'"):
        fp.suggest_reference(data, None, other, by="beauty")


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
