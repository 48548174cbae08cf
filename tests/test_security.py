"""What the README's security section promises, beside the tests of checkpoints and archives."""

from __future__ import annotations

import ast
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as foo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation import export_masks
from fiftyone_persam.curation.labels.sizes import read_shown_size
from fiftyone_persam.curation.runs.fields import read_fields
from fiftyone_persam.datasets.mask_files import check_photo, read_mask
from fiftyone_persam.engine import DiskCache
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import load_photo

from .curation.discs import Make, disc, files_of, make_photos, tiny_sam

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(p for d in ("fiftyone_persam", "operators") for p in (ROOT / d).rglob("*.py"))

# Modules that run what they read, and functions that start a shell or compile text.
BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BANNED_CALLS = {
    *("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"),
    *("tempfile.mktemp", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler"),
}
# What the back ends send to their own processes over pipes, never through a file.
ALLOWED = {
    "fiftyone_persam/engine/worker.py": {"pickle.dumps", "pickle.loads"},
    "fiftyone_persam/engine/ray_backend.py": {"pickle.loads"},
}


def dangers(source: str) -> list[str]:
    """What a Python source does that no source of this project may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in BANNED_CALLS or name.split(".")[0] in BANNED_MODULES:
            found.append(name)
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if options.get("allow_pickle", "False") != "False":
            found.append(f"{name} with allow_pickle")
        if options.get("shell", "False") != "False":
            found.append(f"{name} with shell")
        if options.get("verify") == "False":
            found.append(f"{name} without checking certificates")
        if name.endswith((".extractall", "unpack_archive")):
            found.append(f"{name} trusts the archive")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "pickle.loads(b'')",
        "joblib.load('x')",
        "torch.load('x')",
        "torch.load('x', weights_only=False)",
        "np.load('x', allow_pickle=True)",
        "yaml.load(text)",
        "tarfile.open('x').extractall('y')",
        "requests.get(url, verify=False)",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert dangers(source)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_runs_what_it_reads(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    assert set(dangers(path.read_text(encoding="utf-8"))) == allowed


# Where Pillow itself opens files: the one reader, what it does with bytes it has read, and pictures
# that come with packages.
OPENS_IMAGES = {
    "sam/photo_files.py",
    "sam/mending.py",
    "sam/deep_files.py",
    "datasets/compositing.py",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pictures_are_opened_by_one_reader(path: Path) -> None:
    """It takes regular files of known formats; Pillow and OpenCV take pipes and PostScript."""
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    if path.relative_to(ROOT).as_posix().removeprefix("fiftyone_persam/") not in OPENS_IMAGES:
        assert not calls & {"Image.open", "cv2.imread", "imageio.imread", "skimage.io.imread"}


def test_addresses_are_https() -> None:
    """Those that are opened; others are names, such as XML's."""
    for model in fp.list_models():
        assert model.source == "bundled" or model.source.startswith("https://")


# Files that are read ------------------------------------------------------------------------------


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


def test_a_fitted_state_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(fp.CheckpointError, match="cannot be read"):
        fp.PerSAM.load(path, tiny_sam())
    assert not (tmp_path / "sprung").exists()


def test_a_cached_embedding_runs_nothing(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    (embedding,) = fp.load_sam(tiny_sam()).encode([np.zeros((48, 64, 3), np.uint8)])
    cache.put("key", embedding)
    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert cache.get("key") is None
    assert not (tmp_path / "sprung").exists()


def bomb(path: Path, side: int = 60_000) -> Path:
    """A PNG of a few bytes that says of itself to be huge."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("read", [load_photo, check_photo, read_mask, read_shown_size])
def test_pictures_that_claim_to_be_huge_are_refused(read: Any, tmp_path: Path) -> None:
    with pytest.raises(PersamError) as refused:
        read(bomb(tmp_path / "bomb.png"))
    assert "\n" not in str(refused.value) and "bomb.png" in str(refused.value)


# Files that are written and removed ---------------------------------------------------------------

NAMES = ["../../evil", "/tmp/evil-persam", "..", "a/b", "a\\b", "con", "x" * 300, "a\nb", " . "]


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """As many photos as there are names, and each has one."""
    folder = tmp_path / "deep" / "photos"
    folder.mkdir(parents=True)
    made = dataset(make_photos(folder, len(NAMES)))
    made.set_values("object", NAMES)
    return made


def run_on(photos: fo.Dataset, **changes: Any) -> Any:
    settings = {"method": "persam", "model": tiny_sam(), "out_field": "x", "mask_storage": "file"}
    return fp.segment(photos, photos.first(), **{**settings, "presence_threshold": 0, **changes})


def test_masks_are_named_by_ids_alone(photos: fo.Dataset, tmp_path: Path) -> None:
    references = list(photos)
    folder = tmp_path / "deep" / "masks"
    for sample in references:
        sample["ground_truth"] = fo.Segmentation(mask=disc(20, 24).astype(np.uint8) * 255)
        sample.save()
    before = set(files_of(tmp_path))
    run = fp.segment(
        photos,
        photos.view(),
        method="persam",
        model=tiny_sam(),
        out_field="x",
        group_by="object",
        mask_storage="file",
        masks_dir=folder,
        label_type="both",
    )
    assert run.counts["segmented"] == len(NAMES)
    new = [Path(name) for name in set(files_of(tmp_path)) - before]
    assert {path.parent for path in new} == {Path("deep/masks")}
    ids = set(photos.values("id"))
    assert {p.name.split(".")[0] for p in new if p.suffix == ".png"} == ids


@pytest.mark.parametrize("format", ["perseg", "coco", "masks"])
def test_exports_stay_in_their_folder(format: str, photos: fo.Dataset, tmp_path: Path) -> None:
    run_on(photos)
    for sample in photos:  # random weights may find nothing
        sample["x"] = fo.Segmentation(mask=disc(20, 24).astype(np.uint8) * 255)
        sample.save()
    before = set(files_of(tmp_path))
    count = export_masks(
        photos, "x", tmp_path / "deep" / "out", format, states=("todo",), group_by="object"
    )
    assert count == len(NAMES)
    new = [Path(name) for name in set(files_of(tmp_path)) - before]
    assert new and all(path.parts[:2] == ("deep", "out") for path in new)
    assert not Path("/tmp/evil-persam").exists()


def test_deleting_a_run_never_follows_links(photos: fo.Dataset, tmp_path: Path) -> None:
    run = run_on(photos)
    precious = tmp_path / "precious.png"
    precious.write_bytes(b"precious")
    mask = next(run.masks_dir.glob("*.png"))
    mask.unlink()
    mask.symlink_to(precious)
    fp.delete_run(photos, "x")
    assert precious.read_bytes() == b"precious" and not run.masks_dir.exists()


def test_deleting_a_run_whose_record_was_forged(photos: fo.Dataset, tmp_path: Path) -> None:
    """Files are removed only from a folder that carries the run's own mark."""
    run_on(photos)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / f"{photos.first().id}.png").write_bytes(b"precious")
    config = photos.get_run_info("x").config
    config.masks_dir = str(precious)
    photos.update_run_config("x", config)
    fields = read_fields(photos, "x").types()
    fp.delete_run(photos, "x")
    assert files_of(precious).keys() == {f"{photos.first().id}.png"}
    assert not set(fields) & set(photos.get_field_schema())


def test_no_record_has_the_environments_secrets(
    photos: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sesame-0123456789"
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "FIFTYONE_API_KEY", "https_proxy"):
        monkeypatch.setitem(os.environ, name, secret)
    run_on(photos, similarity=True, prompts=True)
    fp.evaluate(photos, "x", eval_key="x_eval")
    database = foo.get_db_conn()
    for name in database.list_collection_names():
        for document in database[name].find():
            assert secret not in repr(document), name
    assert {key for key in vars(photos.get_run_info("x").config) if "env" in key.lower()} == set()
