"""Run in a child of the nursery: a whole gateway, as `ocm-gateway serve` runs it, with everything imported already."""

from __future__ import annotations

import os

import uvloop  # noqa: F401 -- imported before the fork

from gateway import app  # noqa: F401 -- the same
from gateway.cli import main


def serve(config: str, log: str) -> None:
    """Serve until SIGTERM; what would go to the terminal goes to the file `log`."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        main(["--config", config, "serve"], standalone_mode=False)
    except SystemExit as ended:
        if ended.code:
            raise
