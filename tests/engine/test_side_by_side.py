"""Photos on one core each: the same results as in batches, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import fiftyone_persam as fp
from benchmarks.seeded import small_sam
from fiftyone_persam.engine import Job, LocalBackend, MemoryCache, OutputSettings, PhotoTask
from fiftyone_persam.engine.memory import SMALL_ENCODER
from fiftyone_persam.engine.side_by_side import photos_side_by_side
from fiftyone_persam.sam import PromptableSam
from fiftyone_persam.sam.lite import build_sam_lite


@pytest.fixture(autouse=True)
def two_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return PromptableSam(small_sam(), "small", checkpoint_sha256="seeded")


@pytest.fixture
def photos(album: Path) -> list[str]:
    return [str(path) for path in sorted((album / "Images").rglob("*.jpg"))]


class Watched:
    """A fitted method; notes the threads it is called in, and fails where told to."""

    def __init__(self, method: fp.PerSAM, fail_on: tuple[int, int] | None = None) -> None:
        self.method = method
        self.fail_on = fail_on
        self.threads: set[tuple[int, int]] = set()

    def predict_embeddings(self, embeddings: Sequence[Any]) -> list[Any]:
        self.threads.add((threading.get_ident(), torch.get_num_threads()))
        if any(one.original_size == self.fail_on for one in embeddings):
            raise RuntimeError("spoilt\nphoto")
        return self.method.predict_embeddings(embeddings)


@pytest.fixture(scope="module")
def method(sam: PromptableSam, album: Path) -> fp.PerSAM:
    photo = sorted((album / "Images").rglob("*.jpg"))[0]
    size = fp.Reference(str(photo), box=(0, 0, 9, 9)).size
    mask = np.zeros(size, np.bool_)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    return fp.PerSAM(sam, presence_threshold=0).fit(fp.Reference(str(photo), mask=mask))


def run(
    sam: PromptableSam, photos: list[str], predictor: Any, folder: Path, **given: Any
) -> tuple[Job, dict[str, Any]]:
    tasks = [PhotoTask(f"photo{number}", path) for number, path in enumerate(photos)]
    output = OutputSettings(masks_dir=folder, storage="file")
    job = Job(tasks=tasks, sam=sam, predictors={"": predictor}, output=output, **given)
    results = [result for chunk in LocalBackend().run(job) for result in chunk]
    by_id = {result.id: result for result in results}
    assert len(by_id) == len(results) == len(tasks)
    return job, by_id


def mask_of(result: Any) -> np.ndarray:
    return cv2.imread(result.mask.path, cv2.IMREAD_UNCHANGED) > 0


def test_same_masks_as_in_batches(
    sam: PromptableSam, photos: list[str], method: fp.PerSAM, tmp_path: Path
) -> None:
    watched = Watched(method)
    job, side = run(sam, photos, watched, tmp_path / "side")
    _, batched = run(sam, photos, method, tmp_path / "batched", batch_size=2)
    for name, result in side.items():
        assert result.error is None and result.stage == batched[name].stage
        assert fp.iou(mask_of(result), mask_of(batched[name])) > 0.99
        assert result.score == pytest.approx(batched[name].score, abs=1e-3)
    assert threading.get_ident() not in {thread for thread, _ in watched.threads}
    assert {count for _, count in watched.threads} == {1}
    assert torch.get_num_threads() == 2
    assert job.timings.encoding > 0 and job.timings.decoding > 0
    assert job.timings.photos_encoded == len(photos)


def test_threads_of_later_threads_are_as_before(
    sam: PromptableSam, photos: list[str], method: fp.PerSAM, tmp_path: Path
) -> None:
    run(sam, photos[:2], method, tmp_path)
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]


def test_a_bad_photo_costs_only_itself(
    sam: PromptableSam, photos: list[str], method: fp.PerSAM, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.jpg")
    odd = tmp_path / "odd.png"
    cv2.imwrite(str(odd), np.zeros((31, 47, 3), np.uint8))
    watched = Watched(method, fail_on=(31, 47))
    _, results = run(sam, [*photos[:2], missing, str(odd)], watched, tmp_path / "masks")
    errors = {name: result.error for name, result in results.items()}
    assert errors["photo0"] is None and errors["photo1"] is None
    assert errors["photo2"] is not None and "missing.jpg does not exist" in errors["photo2"]
    assert errors["photo3"] == "RuntimeError: spoilt photo"


def test_encoded_photos_are_kept_and_not_encoded_again(
    sam: PromptableSam, photos: list[str], method: fp.PerSAM, tmp_path: Path
) -> None:
    cache = MemoryCache()
    first, masks = run(sam, photos, method, tmp_path / "first", cache=cache)
    second, again = run(sam, photos, method, tmp_path / "second", cache=cache)
    assert first.timings.photos_encoded == len(photos) == len(cache)
    assert second.timings.photos_encoded == 0 and second.timings.encoding < 0.1
    for name, result in again.items():
        assert np.array_equal(mask_of(result), mask_of(masks[name]))


def test_a_stopped_job_leaves_no_thread(
    sam: PromptableSam, photos: list[str], method: fp.PerSAM, tmp_path: Path
) -> None:
    tasks = [PhotoTask(f"photo{number}", path) for number, path in enumerate(photos * 4)]
    output = OutputSettings(masks_dir=tmp_path, storage="file")
    results = LocalBackend().run(Job(tasks, sam, {"": method}, output))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [one for one in threading.enumerate() if one.name.startswith("persam-")]
    assert torch.get_num_threads() == 2


def test_large_models_keep_all_cores_on_one_photo(sam: PromptableSam) -> None:
    assert photos_side_by_side(sam) == 2
    assert photos_side_by_side(PromptableSam(build_sam_lite(64))) == 2
    large = small_sam()
    large.image_encoder.ballast = torch.nn.Parameter(torch.empty(SMALL_ENCODER))
    assert photos_side_by_side(PromptableSam(large.eval())) == 1
    torch.set_num_threads(1)
    assert photos_side_by_side(sam) == 1
