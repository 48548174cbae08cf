"""The App's server, a browser, and a tab in it: for the tests and for the README's pictures."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def open_browser() -> Iterator[Any]:
    """Debian's Chromium, without a window."""
    from playwright import sync_api

    sync_api.expect.set_options(timeout=FAST)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def open_server() -> Iterator[Any]:
    """The App's server, as FiftyOne's session."""
    import fiftyone as fo

    fo.list_datasets()  # the connection is made here, before the server makes its own
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = fo.launch_app(remote=True, address="127.0.0.1", port=port)
    wait_for_server(running)
    yield running
    running.close()


def wait_for_server(session: Any) -> None:
    """Until the session is connected: on a busy machine the connection is lost and made again."""
    deadline = time.monotonic() + 120
    while not session._client.is_open or not session._client._connected:
        assert time.monotonic() < deadline, "the App's server did not answer"
        time.sleep(0.1)


@contextmanager
def open_tab(browser: Any, session: Any, width: int = 1600, height: int = 1000) -> Iterator[App]:
    """A new tab on an App in which nothing is selected, filtered or open."""
    import fiftyone as fo

    wait_for_server(session)
    session.dataset = None
    session.spaces = fo.Space(children=[fo.Panel(type="Samples", pinned=True)])
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(FAST)
    # Its invisible backdrop would swallow clicks.
    page.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen','true')")
    page.route(
        "**/*",
        lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort(),
    )
    yield App(page, f"http://127.0.0.1:{session.server_port}")
    page.close()
    wait_for_server(session)
    session.dataset = None  # its dataset may go, and the session would still look at it
