from __future__ import annotations

import pytest

from .context import link_plugin


@pytest.fixture(scope="session", autouse=True)
def plugin() -> None:
    """This checkout, as an installed plugin."""
    link_plugin()
