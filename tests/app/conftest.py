from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from ..operators.context import link_plugin
from . import stage
from .driver import App


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/app/" in item.path.as_posix():
            item.add_marker(pytest.mark.app)


# For the package, not the session: playwright keeps an event loop running in this thread, in which
# FiftyOne's operators would not be waited for by the tests that come later.
@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    if stage.CHROMIUM is None:
        reason = "no Chromium: apt-get install chromium fonts-dejavu-core"
        if os.environ.get("PERSAM_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with stage.open_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def session(browser: Any) -> Iterator[Any]:
    """The App's server, with this checkout as its plugin."""
    link_plugin()
    with stage.open_server() as session:
        yield session


@pytest.fixture
def app(browser: Any, session: Any) -> Iterator[App]:
    """A new tab on an App in which nothing is selected, filtered or open."""
    with stage.open_tab(browser, session) as app:
        yield app
