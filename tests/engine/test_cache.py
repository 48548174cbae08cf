from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_persam.engine.cache import (
    MemoryCache,
    embedding_key,
    encode_files,
    encode_pictures,
)
from fiftyone_persam.sam import ImageEmbedding, PromptableSam
from fiftyone_persam.sam.lite import build_sam_lite


def embedding(floats: int) -> ImageEmbedding:
    return ImageEmbedding(torch.zeros(floats), (8, 8), (8, 8), 8)


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return PromptableSam(build_sam_lite(), "lite", checkpoint_sha256="abc")


def test_the_least_recently_used_are_forgotten() -> None:
    cache = MemoryCache(max_bytes=4 * 30)
    for name in "abc":
        cache.put(name, embedding(10))
    assert cache.get("a") is not None  # used again
    cache.put("d", embedding(10))
    assert cache.get("b") is None
    assert [cache.get(name) is not None for name in "acd"] == [True, True, True]
    cache.put("big", embedding(100))
    assert len(cache) == 0


def test_a_key_changes_with_the_file_and_the_model(tmp_path: Path, sam: PromptableSam) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"one")
    key = embedding_key(sam, str(photo))
    assert key == embedding_key(sam, str(photo)) and key is not None
    os.utime(photo, ns=(1, 1))
    assert embedding_key(sam, str(photo)) != key
    other = PromptableSam(sam.sam, "lite", checkpoint_sha256="def")
    assert embedding_key(other, str(photo)) != embedding_key(sam, str(photo))


def test_a_file_that_is_replaced_under_its_name_and_time(
    tmp_path: Path, sam: PromptableSam
) -> None:
    photo, other = tmp_path / "photo.jpg", tmp_path / "other.jpg"
    for path in (photo, other):
        path.write_bytes(b"one")
        os.utime(path, ns=(1, 1))
    key = embedding_key(sam, str(photo))
    os.replace(other, photo)
    assert embedding_key(sam, str(photo)) != key
    assert embedding_key(sam, str(other)) is None


def test_weights_of_your_own_are_told_apart(tmp_path: Path, sam: PromptableSam) -> None:
    photo = str(tmp_path / "photo.jpg")
    Path(photo).write_bytes(b"one")
    torch.manual_seed(1)
    one, other = build_sam_lite(64), build_sam_lite(64)
    key = embedding_key(PromptableSam(one, "own"), photo)
    assert key == embedding_key(PromptableSam(one, "own"), photo)
    assert key != embedding_key(PromptableSam(other, "own"), photo)
    assert key != embedding_key(PromptableSam(one, "own", dtype=torch.bfloat16), photo)
    changed = next(one.image_encoder.parameters())
    with torch.no_grad():
        changed += 1e-3
    assert key != embedding_key(PromptableSam(one, "own"), photo)


def test_a_kept_embedding_is_a_copy() -> None:
    batch = torch.arange(6.0).reshape(2, 3)
    cache = MemoryCache()
    cache.put("a", ImageEmbedding(batch[1], (8, 8), (8, 8), 8))
    batch.zero_()
    found = cache.get("a")
    assert found is not None and found.features.tolist() == [3.0, 4.0, 5.0]
    assert found.features.untyped_storage().nbytes() == 12


def test_files_are_encoded_once(tmp_path: Path) -> None:
    small = PromptableSam(build_sam_lite(64).eval(), "small")
    encoded: list[int] = []
    small.sam.image_encoder.register_forward_hook(lambda m, a, out: encoded.append(len(out)))
    paths = [str(tmp_path / f"{n}.png") for n in range(2)]
    for number, path in enumerate(paths):
        Image.new("RGB", (40 + number, 30), (90, 60 * number, 0)).save(path)
    cache = MemoryCache()
    first = encode_files(small, paths, cache)
    again = encode_files(small, [paths[1], paths[0]], cache)
    assert sum(encoded) == 2
    assert [one.original_size for one in again] == [(30, 41), (30, 40)]
    assert torch.equal(again[0].features, first[1].features)


class Broken:
    def get(self, key: str) -> ImageEmbedding | None:
        raise OSError("disk on fire")

    def put(self, key: str, embedding: ImageEmbedding) -> None:
        raise OSError("disk on fire")


def test_pictures_are_encoded_once(sam: PromptableSam) -> None:
    """What is in no file is known by its pixels."""
    cache = MemoryCache()
    one = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    first, second = encode_pictures(sam, cache, [one, one.copy()])
    assert first.original_size == (40, 60) and len(cache) == 1
    assert torch.equal(first.features, second.features)
    (turned,) = encode_pictures(sam, cache, [one.reshape(60, 40, 3)])  # the same bytes
    assert turned.original_size == (60, 40) and len(cache) == 2
    assert torch.equal(turned.features, sam.encode([one.reshape(60, 40, 3)])[0].features)


def test_a_broken_cache_is_no_more_than_slow(
    tmp_path: Path, sam: PromptableSam, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (found,) = encode_files(sam, [str(tmp_path / "a.png")], Broken())
    assert found.original_size == (30, 40)
    assert caplog.text.count("disk on fire") == 2
