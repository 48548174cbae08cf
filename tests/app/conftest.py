from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ..operators.context import link_plugin
from .driver import FAST, App

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/app/" in item.path.as_posix():
            item.add_marker(pytest.mark.app)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    if CHROMIUM is None:
        reason = "no Chromium: apt-get install chromium fonts-dejavu-core"
        if os.environ.get("PERSAM_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    sync_api.expect.set_options(timeout=FAST)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def session(browser: Any) -> Iterator[Any]:
    """The App's server, with this checkout as its plugin."""
    import fiftyone as fo

    link_plugin()
    fo.list_datasets()  # starts the database here, before the server would start one of its own
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = fo.launch_app(remote=True, address="127.0.0.1", port=port)
    deadline = time.monotonic() + 120
    while not running._client.is_open or not running._client._connected:
        assert time.monotonic() < deadline, "the App's server did not answer"
        time.sleep(0.1)
    yield running
    running.close()


@pytest.fixture
def app(browser: Any, session: Any) -> Iterator[App]:
    """A new tab on an App in which nothing is selected, filtered or open."""
    import fiftyone as fo

    session.dataset = None
    session.spaces = fo.Space(children=[fo.Panel(type="Samples", pinned=True)])
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(FAST)
    # Its invisible backdrop would swallow clicks.
    page.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen','true')")
    page.route(
        "**/*",
        lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort(),
    )
    yield App(page, f"http://127.0.0.1:{session.server_port}")
    page.close()
    session.dataset = None  # the test's dataset is gone, and the session would still look at it
