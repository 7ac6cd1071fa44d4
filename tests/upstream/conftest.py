"""A gateway in front of a server that says what a test wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sites import Site

from .talking import Scripted

IDLE = 3.0  # seconds; the time-out of the gateway in these tests


@pytest.fixture(scope="module")
def _behind() -> Iterator[Scripted]:
    with Scripted() as server:
        yield server


@pytest.fixture
def behind(_behind: Scripted) -> Iterator[Scripted]:
    """The server; what has failed in its scripts fails the test."""
    yield _behind
    _behind.finish()


@pytest.fixture(scope="module")
def site(_behind: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The gateway in front of it; whatever it meets, it logs no trace of a mistake of its own."""
    upstream = {"url": f"http://127.0.0.1:{_behind.port}", "idle_timeout": IDLE}
    with Site(tmp_path_factory.mktemp("front"), upstream=upstream) as site:
        yield site
    assert "Traceback" not in site.log.read_text(), site.log.read_text()
