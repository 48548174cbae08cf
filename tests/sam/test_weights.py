"""The checkpoint in the package: the one of its card, loadable anywhere, as good as stated."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors import safe_open

import fiftyone_persam as fp
from fiftyone_persam.datasets import build_album
from fiftyone_persam.datasets.layout import AlbumPhoto, scan_album
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.engine.cache import MemoryCache, encode_files
from fiftyone_persam.metrics import PerSegAccumulator
from fiftyone_persam.sam import PromptableSam
from fiftyone_persam.sam.registry import BUNDLED_PATH

CARD = BUNDLED_PATH.with_name("README.md")
LARGEST_FILE = 25_000_000  # bytes
# Below what the card states for the demo album, so that another machine's rounding does not matter.
LOWEST_MIOU = {"persam": 0.74, "persam_f": 0.75}

Method: TypeAlias = "type[fp.PerSAM] | type[fp.PerSAMF]"

BARE_LOADING = """
import socket, sys

def refused(*arguments, **options):
    raise OSError("no network here")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
sys.modules["fiftyone"] = None  # importing it is an error

import numpy as np
import fiftyone_persam as fp

sam = fp.load_sam("sam_lite", device="cpu")
photo = np.zeros((60, 90, 3), np.uint8)
photo[20:40, 30:60] = 200
mask = photo[..., 0] > 0
[prediction] = fp.PerSAM(sam).fit(fp.Reference(photo, mask=mask)).predict([photo])
print(sam.checkpoint_sha256, prediction.mask.shape)
"""


def test_the_files_are_those_of_their_card() -> None:
    stated = re.findall(r"sha256: `?([0-9a-f]{64})`?", CARD.read_text(encoding="utf-8"))
    files = (BUNDLED_PATH, BUNDLED_PATH.with_name("discovery.safetensors"))
    assert stated == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def test_it_is_small_and_in_half_precision() -> None:
    assert BUNDLED_PATH.stat().st_size <= LARGEST_FILE
    with safe_open(BUNDLED_PATH, framework="pt") as file:
        assert file.metadata()["format"] == "sam_lite"
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors)


def test_it_is_listed_as_it_is() -> None:
    info = fp.list_models()[0]
    assert (info.name, info.path, info.available) == ("sam_lite", BUNDLED_PATH, True)
    assert info.bytes == BUNDLED_PATH.stat().st_size
    assert info.image_size == fp.load_sam("sam_lite", device="cpu").image_size


def test_it_loads_in_a_bare_environment(tmp_path: Path) -> None:
    """Without a network, a home, FiftyOne, or any setting but that nothing may be downloaded."""
    loaded = subprocess.run(
        [sys.executable, "-c", BARE_LOADING],
        cwd=Path(__file__).resolve().parents[2],
        env={"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path / "none"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert loaded.returncode == 0, loaded.stderr
    sha256 = hashlib.sha256(BUNDLED_PATH.read_bytes()).hexdigest()
    assert loaded.stdout.split(maxsplit=1) == [sha256, "(60, 90)\n"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[AlbumPhoto]]:
    """The whole demo album by object, the reference first."""
    grouped: dict[str, list[AlbumPhoto]] = {}
    for photo in scan_album(build_album(tmp_path_factory.mktemp("weights") / "album")):
        grouped.setdefault(photo.object, []).append(photo)
    return grouped


@pytest.fixture(scope="module")
def lite() -> PromptableSam:
    return fp.load_sam("sam_lite", device="cpu")


@pytest.fixture(scope="module")
def embeddings() -> MemoryCache:
    """Both methods' embeddings: the photos are encoded once."""
    return MemoryCache()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"), [("persam", fp.PerSAM), ("persam_f", fp.PerSAMF)], ids=LOWEST_MIOU
)
def test_it_finds_the_objects_of_the_demo_album(
    name: str,
    method: Method,
    photos: dict[str, list[AlbumPhoto]],
    lite: PromptableSam,
    embeddings: MemoryCache,
) -> None:
    scores = PerSegAccumulator()
    for group, (reference, *targets) in photos.items():
        assert reference.role == "reference"
        known, *others = encode_files(lite, [str(one.photo) for one in photos[group]], embeddings)
        shown = fp.Reference(reference.photo, mask=truth(reference))
        predictions = method(lite).fit(shown, [known]).predict_embeddings(others)
        for target, prediction in zip(targets, predictions, strict=True):
            scores.update(group, prediction.mask, truth(target))
    assert scores.compute().miou >= LOWEST_MIOU[name]


def truth(photo: AlbumPhoto) -> npt.NDArray[np.bool_]:
    assert photo.mask is not None
    return read_mask(photo.mask)
