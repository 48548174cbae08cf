"""Checkpoint files: found, checked, fetched and opened, with one line where that fails."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fiftyone_persam.errors import CheckpointError
from fiftyone_persam.sam import load_sam, model_zoo_dir
from fiftyone_persam.sam.checkpoints import (
    Checkpoint,
    download,
    ensure,
    load_weights,
    read_weights,
    sha256_of,
    verify,
)

CONTENT = bytes(range(256)) * 5000


def checkpoint(url: str = "https://localhost/weights.pth", content: bytes = CONTENT) -> Checkpoint:
    return Checkpoint("weights.pth", url, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model zoo folder of this test's own, which does not exist yet."""
    folder = tmp_path / "zoo"
    monkeypatch.setenv("FIFTYONE_MODEL_ZOO_DIR", str(folder))
    return folder


def one_line(error: pytest.ExceptionInfo[CheckpointError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# Where files are.


@pytest.mark.parametrize(
    ("environment", "config", "expected"),
    [
        ({"FIFTYONE_MODEL_ZOO_DIR": "zoo"}, {"model_zoo_dir": "other"}, "zoo"),
        ({}, {"model_zoo_dir": "other"}, "other"),
        ({"FIFTYONE_DEFAULT_DATASET_DIR": "sets"}, {}, "sets/__models__"),
        ({}, {"default_dataset_dir": "sets"}, "sets/__models__"),
        (
            {"FIFTYONE_DEFAULT_DATASET_DIR": "mine"},
            {"default_dataset_dir": "sets"},
            "mine/__models__",
        ),
        ({}, {}, "fiftyone/__models__"),
        ({}, None, "fiftyone/__models__"),
        ({}, "[1, 2", "fiftyone/__models__"),
        ({}, [1, 2], "fiftyone/__models__"),
    ],
)
def test_the_zoo_is_where_fiftyone_has_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    config: Any,
    expected: str,
) -> None:
    for name in ("FIFTYONE_MODEL_ZOO_DIR", "FIFTYONE_DEFAULT_DATASET_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FIFTYONE_CONFIG_PATH", str(tmp_path / "config.json"))
    for name, value in environment.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    if config is not None:
        if isinstance(config, dict):
            config = {key: str(tmp_path / value) for key, value in config.items()}
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / "config.json").write_text(text)
    assert model_zoo_dir() == tmp_path / expected


def test_the_zoo_is_fiftyones_own() -> None:
    import fiftyone as fo

    assert model_zoo_dir() == Path(fo.config.model_zoo_dir)


# What they must be.


def test_the_published_file_passes(zoo: Path) -> None:
    zoo.mkdir()
    (zoo / "weights.pth").write_bytes(CONTENT)
    assert verify(checkpoint()) == zoo / "weights.pth"
    assert ensure(checkpoint(), allow_download=True) == zoo / "weights.pth"
    assert sha256_of(zoo / "weights.pth") == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing"),
        (b"", "0 bytes instead of 1,280,000"),
        (CONTENT[:-1], "1,279,999 bytes instead"),
        (CONTENT + b"x", "1,280,001 bytes instead"),
        (CONTENT[:-1] + b"x", "sha256"),
    ],
    ids=["missing", "empty", "truncated", "longer", "damaged"],
)
def test_any_other_file_is_refused(zoo: Path, content: bytes | None, says: str) -> None:
    zoo.mkdir()
    if content is not None:
        (zoo / "weights.pth").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        ensure(checkpoint(), allow_download=False)
    message = one_line(caught)
    assert says in message
    # It names the file, and where to get the right one.
    assert str(zoo / "weights.pth") in message and "https://localhost/weights.pth" in message


# How they open.


def test_weights_open_without_running_anything(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.arange(3), "b": torch.ones(2, 2)}, path)
    state = read_weights(path)
    assert torch.equal(state["a"], torch.arange(3)) and set(state) == {"a", "b"}


class Bomb:
    """What a hostile checkpoint would run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


def _save_model(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04 no archive"),
        lambda path: path.write_bytes(b"<html>not found</html>"),
        lambda path: torch.save([torch.zeros(2)], path),
        lambda path: torch.save({"epoch": 3, "model": {}}, path),
        _save_model,
        lambda path: path.mkdir(),
        lambda path: None,
    ],
    ids=["empty", "no archive", "web page", "list", "no tensors", "pickle", "folder", "missing"],
)
def test_what_is_no_file_of_weights(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert str(path) in one_line(caught)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    torch.save({"weight": Bomb(marker)}, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError):
        read_weights(tmp_path / "weights.pth")
    assert not marker.exists()


def test_a_truncated_archive(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.rand(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert str(path) in one_line(caught)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("bias"), "bias (expected (2,), found None)"),
        (lambda state: state.update(extra=torch.zeros(1)), "extra (expected None, found (1,))"),
        (lambda state: state.update(weight=torch.zeros(2, 4)), "weight (expected (2, 3)"),
    ],
)
def test_weights_of_another_model(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any], says: str
) -> None:
    module = torch.nn.Linear(3, 2)
    before = module.weight.clone()
    state = {name: tensor + 1 for name, tensor in module.state_dict().items()}
    change(state)
    with pytest.raises(CheckpointError) as caught:
        load_weights(module, state, tmp_path / "weights.pth")
    assert says in one_line(caught) and "another model" in str(caught.value)
    assert torch.equal(module.weight, before)


# How they come.


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://localhost/weights.pth")
            self.end_headers()
            return
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/right")
            self.end_headers()
            return
        body = {"/right": CONTENT, "/short": CONTENT[:-9], "/wrong": b"x" * len(CONTENT)}
        content = body.get(self.path, CONTENT + b"more" * 500_000)
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has heard enough
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def server(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], str]]:
    """An https server on this machine, trusted by this test alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("no_proxy", "*")
    yield lambda path: f"https://localhost:{httpd.server_port}/{path}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["right", "moved"])
def test_a_missing_file_is_fetched_when_it_may(
    zoo: Path, server: Callable[[str], str], path: str
) -> None:
    found = ensure(checkpoint(server(path)), allow_download=True)
    assert found == zoo / "weights.pth" and found.read_bytes() == CONTENT
    assert [entry.name for entry in zoo.iterdir()] == ["weights.pth"]
    with pytest.raises(CheckpointError, match="is missing"):
        found.unlink()
        ensure(checkpoint(server(path)), allow_download=False)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("short", "bytes instead of"),
        ("wrong", "sha256"),
        ("long", "more than the 1,280,000 bytes"),
        ("missing", "404"),
        ("elsewhere", "not https"),
    ],
)
def test_nothing_but_the_right_file_appears(
    zoo: Path, server: Callable[[str], str], path: str, says: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        download(checkpoint(server(path)))
    assert says in one_line(caught)
    assert list(zoo.iterdir()) == []


def test_an_untrusted_server_is_refused(
    zoo: Path, server: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(CheckpointError, match="failed"):
        download(checkpoint(server("right")))
    assert list(zoo.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["http://localhost/weights.pth", "file:///etc/hostname", "ftp://x/y"]
)
def test_https_only(zoo: Path, url: str) -> None:
    with pytest.raises(CheckpointError, match="https"):
        download(checkpoint(url))
    assert list(zoo.iterdir()) == []


def test_a_zoo_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIFTYONE_MODEL_ZOO_DIR", str(tmp_path / "file" / "models"))
    with pytest.raises(CheckpointError, match="point FIFTYONE_MODEL_ZOO_DIR to a folder of yours"):
        load_sam("mobile_sam", device="cpu", download=True)
