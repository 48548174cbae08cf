from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fiftyone_persam.engine import DiskCache, EmbeddingCache, WriteError, default_cache_dir
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, model_zoo_dir
from fiftyone_persam.sam.lite import build_sam_lite

from .test_local import Whole, job, run


def embedding(value: float = 1.0, floats: int = 100, dtype: Any = torch.float32) -> ImageEmbedding:
    return ImageEmbedding(torch.full((floats,), value, dtype=dtype), (6, 8), (60, 81), 8)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_kept_comes_back(tmp_path: Path, dtype: Any) -> None:
    features = torch.randn(5, 3, 4).to(dtype)
    DiskCache(tmp_path).put("key", ImageEmbedding(features, (6, 8), (60, 81), 8))
    cache = DiskCache(tmp_path)  # as another process would
    found = cache.get("key")
    assert isinstance(cache, EmbeddingCache)
    assert found is not None and found.features.dtype == dtype
    assert torch.equal(found.features, features)
    assert (found.input_size, found.original_size, found.image_size) == ((6, 8), (60, 81), 8)
    assert cache.get("another") is None
    cache.put("key", embedding(2.0))
    assert (newer := cache.get("key")) is not None and newer.features[0] == 2
    assert len(files(tmp_path)) == 1 and cache.size() == files(tmp_path)[0].stat().st_size
    cache.clear()
    assert cache.get("key") is None and cache.size() == 0


def test_the_limit_holds_and_the_least_recently_used_go(tmp_path: Path) -> None:
    probe = DiskCache(tmp_path / "probe")
    probe.put("a0", embedding())
    cache = DiskCache(tmp_path / "cache", max_bytes=4 * probe.size())
    for number in range(4):
        cache.put(f"a{number}", embedding(number))
    assert cache.get("a0") is not None  # used again
    cache.put("a4", embedding(4))
    assert cache.get("a1") is None
    assert [cache.get(f"a{n}") is not None for n in (0, 2, 3, 4)] == [True] * 4
    for number in range(5, 30):
        cache.put(f"a{number}", embedding(number))
        assert cache.size() <= cache.max_bytes + probe.size()
    assert cache.get("a29") is not None
    cache.put("huge", embedding(floats=10_000))
    assert cache.get("huge") is None and cache.get("a29") is not None


def test_what_others_wrote_counts(tmp_path: Path) -> None:
    one = DiskCache(tmp_path, max_bytes=10_000)
    other = DiskCache(tmp_path, max_bytes=10_000)
    for number in range(40):
        (one if number % 2 else other).put(str(number), embedding(number, floats=200))
        assert one.size() <= 12_000


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "text", "foreign", "renamed"])
def test_damage_is_found(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path)
    cache.put("key", embedding())
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "foreign":
        save_file({"features": torch.ones(3)}, path)
    elif damage == "renamed":
        cache.put("other", embedding())
        (other,) = [file for file in files(tmp_path) if file != path]
        os.replace(other, path)
    else:
        content[-5] ^= 1
        path.write_bytes(
            {"truncated": content[:-9], "empty": b"", "flipped": content, "text": b"hello"}[damage]
        )
    with caplog.at_level(logging.WARNING):
        assert cache.get("key") is None
    assert "damaged" in caplog.text and not path.exists()
    cache.put("key", embedding(3.0))
    assert (found := cache.get("key")) is not None and found.features[0] == 3


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=1000)
    cache.put("a", embedding())
    folder = files(tmp_path)[0].parent
    old, new, strange = folder / ".x.1.part", folder / ".x.2.part", folder / "notes.txt"
    for path in (old, new, strange):
        path.write_bytes(b"x" * 5000)
    os.utime(old, (1, 1))
    os.utime(strange, (1, 1))
    for number in range(5):
        cache.put(str(number), embedding())
    assert not old.exists() and new.exists() and strange.exists()


def _hammer(folder: str, seed: int, failures: Any) -> None:
    cache = DiskCache(folder, max_bytes=20_000)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(300):
        number = int(torch.randint(60, (1,), generator=generator))
        found = cache.get(f"key{number}")
        if found is None:
            cache.put(f"key{number}", embedding(number, floats=200))
        elif not bool((found.features == number).all()) or found.features.numel() != 200:
            failures.put(number)
    failures.put(None)


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    failures: Any = context.Queue()
    workers = [context.Process(target=_hammer, args=(str(tmp_path), n, failures)) for n in range(3)]
    for worker in workers:
        worker.start()
    reported = [failures.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    assert reported == [None, None, None] and failures.empty()
    assert all(worker.exitcode == 0 for worker in workers)
    assert not [path for path in files(tmp_path) if path.suffix == ".part"]
    assert 0 < DiskCache(tmp_path).size() < 25_000


@pytest.mark.parametrize(
    ("folder", "max_bytes", "message"),
    [
        ("file", 1000, "cannot be cached in"),
        ("file/below", 1000, "cannot be cached in"),
        ("new", 0, "max_bytes 0"),
        ("new", 1.5, "max_bytes 1.5"),
        ("new", True, "max_bytes True"),
    ],
)
def test_bad_arguments(tmp_path: Path, folder: str, max_bytes: Any, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PersamError, match=message):
        DiskCache(tmp_path / folder, max_bytes)
    assert not (tmp_path / "new").exists()


def test_the_default_folder_is_beside_the_model_zoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIFTYONE_MODEL_ZOO_DIR", str(tmp_path / "models"))
    assert default_cache_dir().parent == model_zoo_dir().parent == tmp_path
    assert DiskCache().folder == default_cache_dir()


def test_a_job_fills_it_and_a_full_disk_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sam = PromptableSam(build_sam_lite(64).eval(), "small")
    encoded: list[int] = []
    sam.sam.image_encoder.register_forward_hook(lambda m, a, out: encoded.append(len(out)))
    photos = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(photos):
        Image.new("RGB", (40 + number, 30), (40 * number, 90, 60)).save(path)
    work = job(sam, photos, Whole(), tmp_path, cache=DiskCache(tmp_path / "cache"))
    run(work)
    assert sum(encoded) == work.timings.photos_encoded == 5
    again = job(sam, photos, Whole(), tmp_path, cache=DiskCache(tmp_path / "cache"))
    results = run(again)
    assert sum(encoded) == 5 and again.timings.photos_encoded == 0
    assert [results[f"photo{n}"].size for n in range(5)] == [(30, 40 + n) for n in range(5)]

    def full(*args: Any) -> None:
        raise WriteError("No space left on device")

    monkeypatch.setattr("fiftyone_persam.engine.disk_cache.write_bytes", full)
    results = run(job(sam, photos, Whole(), tmp_path, cache=DiskCache(tmp_path / "full")))
    assert not any(result.error for result in results.values())
    assert "No space left" in caplog.text
