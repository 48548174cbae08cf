from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_persam.engine import Job, LocalBackend, MemoryCache, OutputSettings, PhotoTask
from fiftyone_persam.engine.cache import embedding_key
from fiftyone_persam.personalize import PerSAM, Reference
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_photo
from fiftyone_persam.sam.lite import build_sam_lite

from .predictions import prediction


@dataclass
class Whole:
    """Predicts the whole photo; remembers what it was given, and fails where told to."""

    fail_on: tuple[int, int] | None = None
    batches: list[int] = field(default_factory=list)

    def predict_embeddings(self, embeddings: Sequence[ImageEmbedding]) -> list[Any]:
        self.batches.append(len(embeddings))
        if any(one.original_size == self.fail_on for one in embeddings):
            raise RuntimeError("spoilt\nbatch")
        return [prediction(np.ones(one.original_size, np.bool_)) for one in embeddings]


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return PromptableSam(build_sam_lite(), "lite", checkpoint_sha256="random")


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40 + number, 30), (30 * number, 90, 60)).save(path)
        paths.append(path)
    return paths


def job(sam: PromptableSam, photos: list[Path], predictor: Any, tmp_path: Path, **kw: Any) -> Job:
    tasks = [PhotoTask(f"photo{number}", str(path)) for number, path in enumerate(photos)]
    output = OutputSettings(masks_dir=tmp_path / "masks", storage="file")
    values = {"tasks": tasks, "predictors": {"": predictor}, "batch_size": 3, "workers": 2}
    return Job(sam=sam, output=output, **{**values, **kw})


def run(job: Job) -> dict[str, Any]:
    results = [result for chunk in LocalBackend().run(job) for result in chunk]
    by_id = {result.id: result for result in results}
    assert len(by_id) == len(results) == len(job.tasks)
    return by_id


def test_deep_photos_of_a_job_share_the_reference_s_window(
    sam: PromptableSam, tmp_path: Path
) -> None:
    """A thermal photo without the hot object stays dark, as beside the reference it is."""
    rng = np.random.default_rng(0)
    hot = (29000 + 8 * rng.integers(0, 256, (30, 40))).astype(np.uint16)
    cold = np.minimum(hot, 29900)
    mask = np.zeros(hot.shape, bool)
    mask[5:20, 5:25] = True
    persam = PerSAM(sam, presence_threshold=0).fit(Reference(hot, mask=mask))
    path = tmp_path / "cold.png"
    Image.fromarray(cold).save(path)
    cache = MemoryCache()
    results = run(job(sam, [path], persam, tmp_path, cache=cache))
    assert results["photo0"].error is None
    kept = cache.get(embedding_key(sam, str(path), persam.contrast) or "")
    wanted, own = sam.encode([load_photo(cold, persam.contrast), load_photo(cold)])
    assert kept is not None and not torch.equal(own.features, wanted.features)
    torch.testing.assert_close(kept.features, wanted.features, rtol=1e-3, atol=1e-4)


def test_every_photo_once(sam: PromptableSam, photos: list[Path], tmp_path: Path) -> None:
    predictor = Whole()
    work = job(sam, photos, predictor, tmp_path)
    results = run(work)
    assert predictor.batches == [3, 3, 1]
    for number in range(7):
        result = results[f"photo{number}"]
        assert result.error is None and result.size == (30, 40 + number)
        assert np.asarray(Image.open(result.mask.path)).shape == result.size
    assert work.timings.encoding > 0


@pytest.mark.parametrize("fault", ["missing", "empty", "truncated", "text"])
def test_a_bad_photo_costs_only_itself(
    sam: PromptableSam, photos: list[Path], tmp_path: Path, fault: str
) -> None:
    bad = photos[1]
    content = bad.read_bytes()
    if fault == "missing":
        bad.unlink()
    else:
        bad.write_bytes({"empty": b"", "truncated": content[:60], "text": b"no photo"}[fault])
    results = run(job(sam, photos, Whole(), tmp_path))
    failed = [name for name, result in results.items() if result.error is not None]
    assert failed == ["photo1"]
    assert "1.png" in results["photo1"].error and "\n" not in results["photo1"].error


def test_a_photo_that_spoils_its_batch_is_found(
    sam: PromptableSam, photos: list[Path], tmp_path: Path
) -> None:
    results = run(job(sam, photos, Whole(fail_on=(30, 44)), tmp_path))
    failed = {name: result.error for name, result in results.items() if result.error}
    assert failed == {"photo4": "RuntimeError: spoilt batch"}


def test_groups_have_their_own_predictors(
    sam: PromptableSam, photos: list[Path], tmp_path: Path
) -> None:
    left, right = Whole(), Whole()
    tasks = [PhotoTask(f"p{n}", str(path), "ab"[n % 2]) for n, path in enumerate(photos)]
    run(job(sam, photos, None, tmp_path, tasks=tasks, predictors={"a": left, "b": right}))
    assert (sum(left.batches), sum(right.batches)) == (4, 3)


def test_known_embeddings_are_not_computed_again(
    sam: PromptableSam, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    original = PromptableSam.encode_resized

    def counting(self: PromptableSam, resized: Any, sizes: Any) -> Any:
        encoded.append(len(resized))
        return original(self, resized, sizes)

    monkeypatch.setattr(PromptableSam, "encode_resized", counting)
    cache = MemoryCache()
    run(job(sam, photos, Whole(), tmp_path, cache=cache))
    assert sum(encoded) == 7
    Image.new("RGB", (90, 30)).save(photos[2])  # another photo under the same name
    results = run(job(sam, photos, Whole(), tmp_path, cache=cache))
    assert sum(encoded) == 8
    assert results["photo2"].size == (30, 90)


def test_closing_stops_the_job(sam: PromptableSam, photos: list[Path], tmp_path: Path) -> None:
    predictor = Whole()
    results = LocalBackend().run(job(sam, photos, predictor, tmp_path, batch_size=1))
    next(results)
    results.close()
    assert sum(predictor.batches) < 7
