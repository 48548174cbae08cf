from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..encoded_once import encoded_once


@pytest.fixture(scope="package", autouse=True)
def each_picture_is_encoded_once() -> Iterator[None]:
    with encoded_once():
        yield
