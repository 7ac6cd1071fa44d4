"""A running door, and what it logs in every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from .served import SshServed
from .sftp_talk import Talk


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    """A door for the tests of one module."""
    with SshServed(tmp_path_factory.mktemp("ssh")) as served:
        yield served


@pytest.fixture
def folder(served: SshServed, tmp_path: Path) -> Path:
    """A new folder on the door's storage, for one test; its name is that of `tmp_path`."""
    folder = served.data / tmp_path.name
    folder.mkdir()
    return folder


@pytest.fixture
def talk(served: SshServed) -> Talk:
    """Alice's sessions of SFTP."""
    return Talk(served)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """Every line that is logged; a mistake of ours, or one that was left in the loop, fails the test."""
    with structlog.testing.capture_logs(processors=[structlog.processors.format_exc_info]) as lines:
        yield lines
    assert not [line for line in lines if line["event"] == "ssh.failed"], lines
    assert not [record for record in caplog.records if record.name == "asyncio"], caplog.text
