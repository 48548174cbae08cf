"""Checkpoint files: where FiftyOne's model zoo keeps them, what they must hash to, how they load.

Files are shared with FiftyOne's own zoo models (``segment-anything-vit*-torch``), which check only
that a file of the name exists; here every file is hashed before it is opened, and opened with
``weights_only=True``. This module reads FiftyOne's settings without importing fiftyone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_ROUNDED = 0.01
"""How far a size that is published in round numbers may be from the file's."""


@dataclass(frozen=True)
class Checkpoint:
    """A published file.

    Attributes:
        file: name in FiftyOne's model zoo folder.
        url: where it is published, https only.
        bytes: size.
        sha256: hash of the whole file.
        license: of what is in it, for messages; "" if it is said elsewhere.
        rounded: whether the size is published in round numbers only, so that the hash alone tells.
    """

    file: str
    url: str
    bytes: int
    sha256: str
    license: str = ""
    rounded: bool = False

    @property
    def path(self) -> Path:
        """Where the file is, or will be, on this machine."""
        return model_zoo_dir() / self.file

    def fits(self, size: int) -> bool:
        """Whether the file may have so many bytes."""
        return abs(size - self.bytes) <= (self.bytes * _ROUNDED if self.rounded else 0)

    def seems_whole(self) -> bool:
        """Whether the file is there, by its size; `verify` hashes it."""
        return self.path.is_file() and self.fits(self.path.stat().st_size)

    def describe(self) -> str:
        """Size and licence, in words."""
        size = f"{'about ' if self.rounded else ''}{self.bytes:,} bytes"
        return f"{size}, licence {self.license}" if self.license else size


def model_zoo_dir() -> Path:
    """FiftyOne's model zoo folder, by the rules of ``fiftyone.config.model_zoo_dir``."""
    if given := os.environ.get("FIFTYONE_MODEL_ZOO_DIR"):
        return Path(given).expanduser()
    default = Path.home() / ".fiftyone" / "config.json"
    config_path = Path(os.environ.get("FIFTYONE_CONFIG_PATH", default))
    config: dict[str, Any] = {}
    try:
        loaded = json.loads(config_path.read_text())
        config = loaded if isinstance(loaded, dict) else {}
    except (OSError, ValueError):
        pass  # no settings file, or one that FiftyOne itself will complain about
    if zoo := config.get("model_zoo_dir"):
        return Path(zoo).expanduser()
    datasets = os.environ.get("FIFTYONE_DEFAULT_DATASET_DIR") or config.get("default_dataset_dir")
    base = Path(datasets).expanduser() if datasets else Path.home() / "fiftyone"
    return base / "__models__"


def sha256_of(path: Path) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def verify(checkpoint: Checkpoint, path: Path | None = None) -> Path:
    """Check that the file is there and is the published one.

    Raises:
        CheckpointError: missing, another size (truncated), or another hash (foreign or damaged).
    """
    path = checkpoint.path if path is None else path
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {path} is missing: get it from {checkpoint.url} "
            f"({checkpoint.describe()}), or allow the download"
        )
    size = path.stat().st_size
    if not checkpoint.fits(size):
        raise CheckpointError(
            f"checkpoint {path} has {size:,} bytes instead of {checkpoint.bytes:,} (truncated or "
            f"another file): delete it and get it again from {checkpoint.url}"
        )
    actual = sha256_of(path)
    if actual != checkpoint.sha256:
        raise CheckpointError(
            f"checkpoint {path} has sha256 {actual} instead of {checkpoint.sha256}: "
            f"delete it and get it again from {checkpoint.url}"
        )
    return path


def download(checkpoint: Checkpoint) -> Path:
    """Fetch the file into FiftyOne's model zoo folder; it appears there only when it is right.

    Raises:
        CheckpointError: no connection, no https, another size or another hash.
    """
    path = checkpoint.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial_name = tempfile.mkstemp(prefix=f".{checkpoint.file}.", dir=path.parent)
    except OSError as error:
        raise CheckpointError(
            f"nothing can be written into {path.parent} ({_line(error)}): point "
            "FIFTYONE_MODEL_ZOO_DIR to a folder of yours"
        ) from None
    logger.info("downloading %s (%s)", checkpoint.url, checkpoint.describe())
    partial = Path(partial_name)
    try:
        with os.fdopen(handle, "wb") as file:
            _fetch(checkpoint, file)
        verify(checkpoint, partial)
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(
            f"download of {checkpoint.url} failed ({_line(error)}): check the connection and the "
            f"free space, or put the file at {path} yourself"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return path


def ensure(checkpoint: Checkpoint, allow_download: bool) -> Path:
    """The verified file, fetched first if it is missing and may be fetched."""
    if allow_download and not checkpoint.path.is_file():
        return download(checkpoint)
    return verify(checkpoint)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` / ``.pt`` file, read without executing anything in it.

    Raises:
        CheckpointError: the file cannot be read, or holds something else than named tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read as weights ({_line(error)[:120]}): "
            "get the published file again"
        ) from None
    except zipfile.BadZipFile:
        raise CheckpointError(f"checkpoint {path} is damaged: get the file again") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(
            f"checkpoint {path} holds {type(state).__name__} instead of named tensors: "
            "get the published file again"
        )
    return state


def load_weights(
    module: nn.Module, state: dict[str, Tensor], path: Path, assign: bool = False
) -> None:
    """Put the tensors into the module; every name and shape must agree.

    Args:
        module: takes the tensors.
        state: by the module's own names.
        path: the file, for messages.
        assign: make the tensors themselves the module's, in place of copies.

    Raises:
        CheckpointError: the file belongs to another architecture.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if wanted != found:
        names = sorted(n for n in {*wanted, *found} if wanted.get(n) != found.get(n))
        raise CheckpointError(
            f"checkpoint {path} belongs to another model: {len(names)} tensors differ, first "
            f"{names[0]} (expected {wanted.get(names[0])}, found {found.get(names[0])})"
        )
    module.load_state_dict(state, assign=assign)


def _fetch(checkpoint: Checkpoint, file: Any) -> None:
    if not checkpoint.url.startswith("https://"):
        raise CheckpointError(f"{checkpoint.url} is not https: checkpoints come over https only")
    opener = urllib.request.build_opener(_HttpsOnly)
    received = 0
    with opener.open(checkpoint.url, timeout=30) as response:
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            if received > checkpoint.bytes and not checkpoint.fits(received):
                raise CheckpointError(
                    f"{checkpoint.url} sends more than the {checkpoint.bytes:,} bytes expected: "
                    "it is not the published file"
                )
            file.write(chunk)


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to https."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if not newurl.startswith("https://"):
            raise CheckpointError(f"{req.full_url} redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
