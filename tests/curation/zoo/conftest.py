from __future__ import annotations

import functools
import http.server
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def repository_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """This repository as an archive on a local web server, as a code host hands it out."""
    folder = tmp_path_factory.mktemp("web")
    with zipfile.ZipFile(folder / "fiftyone-persam.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in repository_files():
            archive.write(ROOT / name, f"fiftyone-persam-main/{name}")
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/fiftyone-persam.zip"
        server.shutdown()
        thread.join()


def repository_files() -> list[str]:
    """What a code host would put into an archive, without the tests and the checkpoint."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive is not a git repository
        folders = ("fiftyone_persam", "operators")
        listed = ["fiftyone.yml"] + [
            str(path.relative_to(ROOT))
            for folder in folders
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
    left_out = ("tests/", "training/", "benchmarks/", "fiftyone_persam/sam/weights/")
    return [n for n in listed if not n.startswith(left_out) and (ROOT / n).is_file()]
