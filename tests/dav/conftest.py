"""Running doors, and what a door logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from .served import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A door for the tests of one module, each of which works in names of its own."""
    with Served(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """Every line that is logged; a bug that was answered 500, or left in the loop, fails the test."""
    with structlog.testing.capture_logs(processors=[structlog.processors.format_exc_info]) as lines:
        yield lines
    assert not [line for line in lines if line["event"] == "dav.failed"], lines
    assert not [record for record in caplog.records if record.name == "asyncio"], caplog.text
