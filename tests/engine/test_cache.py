from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fiftyone_persam.engine.cache import MemoryCache, embedding_key
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


def test_what_cannot_be_told_apart_is_not_cached(tmp_path: Path, sam: PromptableSam) -> None:
    assert embedding_key(sam, str(tmp_path / "missing.jpg")) is None
    (tmp_path / "photo.jpg").write_bytes(b"one")
    own = PromptableSam(sam.sam, "own")
    assert embedding_key(own, str(tmp_path / "photo.jpg")) is None
