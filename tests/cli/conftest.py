"""A running gateway for the tests of one module, with the users alice and bob."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from parts import CHEAP

from .served import PASSWORD, Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Each test works with names of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
        gateway = Served(tmp_path_factory.mktemp("cli"))
    with structlog.testing.capture_logs():
        for name in ("alice", "bob"):
            gateway.json("user", "add", name, "--password-file", "-", stdin=PASSWORD)
    yield gateway
    gateway.close()


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """Every line that the gateway logs; an error of its own, or a password in a line, fails the test."""
    with structlog.testing.capture_logs() as lines:
        yield lines
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
    assert PASSWORD not in repr(lines)
