from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiftyone_persam.engine.job import OutputSettings
from fiftyone_persam.engine.rendering import file_name, render
from fiftyone_persam.errors import PersamError

from .predictions import prediction

ID = "0123456789abcdef01234567"


@pytest.fixture
def settings(tmp_path: Path) -> OutputSettings:
    return OutputSettings(masks_dir=tmp_path)


def read(path: str | None) -> np.ndarray:
    assert path is not None
    return cv2.imread(path, cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize(
    ("storage", "shape", "is_file"),
    [
        ("auto", (256, 256), False),
        ("auto", (256, 257), True),
        ("file", (8, 8), True),
        ("inline", (300, 300), False),
    ],
)
def test_storage(settings: OutputSettings, storage: str, shape: tuple, is_file: bool) -> None:
    mask = np.zeros(shape, np.bool_)
    mask[2:5, 3:6] = True
    result = render(ID, prediction(mask), replace(settings, storage=storage))
    assert result.mask is not None and result.size == shape
    assert (result.mask.path is not None) == is_file
    stored = read(result.mask.path) if is_file else result.mask.array
    np.testing.assert_array_equal(stored, np.where(mask, 255, 0))


def test_what_was_not_asked_for_is_not_kept(settings: OutputSettings) -> None:
    mask = np.ones((4, 4), np.bool_)
    lean = render(ID, prediction(mask), settings)
    assert lean.instances == () and lean.similarity is None and lean.points is None
    full = replace(settings, whole=False, instances=True, similarity=True, prompts=True)
    rich = render(ID, prediction(mask), full)
    assert rich.mask is None and len(rich.instances) == 1
    assert rich.similarity is not None and rich.similarity.dtype == np.uint8
    assert rich.points is not None and rich.labels is not None


def test_similarity_is_scaled_from_cosine_0_to_1(settings: OutputSettings) -> None:
    heat = np.array([[-0.5, 0.0], [0.5, 1.0]], np.float32)
    made = prediction(np.ones((4, 4), np.bool_), similarity=heat)
    result = render(ID, made, replace(settings, similarity=True))
    np.testing.assert_array_equal(result.similarity, [[0, 0], [128, 255]])


def test_an_absent_object_gets_an_empty_mask_and_keeps_the_other(settings: OutputSettings) -> None:
    mask = np.zeros((300, 300), np.bool_)
    mask[100:200, 50:60] = True
    chosen = replace(settings, presence_threshold=0.5, instances=True)
    result = render(ID, prediction(mask, presence=0.4), chosen)
    assert result.absent and result.mask is not None and result.withheld is not None
    assert not read(result.mask.path).any()
    np.testing.assert_array_equal(read(result.withheld.path), np.where(mask, 255, 0))
    assert len(result.instances) == 1
    present = render(ID, prediction(mask, presence=0.5), chosen)
    assert not present.absent and present.withheld is None


def test_instances_are_cropped_to_their_boxes(settings: OutputSettings) -> None:
    first, second = np.zeros((2, 20, 30), np.bool_)
    first[2:8, 3:9] = True
    second[10:20, 25:30] = True
    second[10, 25] = False
    union = prediction(first | second, instances=(prediction(first), prediction(second)))
    result = render(ID, union, replace(settings, instances=True))
    assert [found.box for found in result.instances] == [(3, 2, 9, 8), (25, 10, 30, 20)]
    np.testing.assert_array_equal(
        result.instances[1].mask.array, np.where(second[10:, 25:], 255, 0)
    )


def test_an_empty_mask_has_no_instance(settings: OutputSettings) -> None:
    result = render(ID, prediction(np.zeros((5, 5), np.bool_)), replace(settings, instances=True))
    assert result.instances == ()


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "", ".", "a\n"])
def test_no_name_leaves_the_folder(name: str) -> None:
    with pytest.raises(PersamError, match="cannot name a file"):
        file_name(name)
