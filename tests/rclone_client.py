"""rclone as a client of a door, as people use it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any


class Rclone:
    """rclone, with one remote."""

    def __init__(self, rclone: str, name: str, **remote: str) -> None:
        """`rclone` is the command, `name:` the remote, and `remote` what rclone's own configuration says of it."""
        self._command = [rclone, "--retries", "1", "--low-level-retries", "1"]
        self._environment = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
        self._environment |= {f"RCLONE_CONFIG_{name}_{key}".upper(): value for key, value in remote.items()}

    def attempt(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run it to its end, however that is."""
        command = [*self._command, *map(str, arguments)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)

    def __call__(self, *arguments: str | Path) -> str:
        """Run it and return what it prints; fails with what it says."""
        done = self.attempt(*arguments)
        assert done.returncode == 0, f"rclone {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, *arguments: str | Path, **streams: Any) -> subprocess.Popen[bytes]:
        """Start it; the caller ends it."""
        return subprocess.Popen([*self._command, *map(str, arguments)], env=self._environment, **streams)


class RcloneClient(Rclone):
    """rclone, to which `dav:` is the collection at `url`; it proves itself by a password, or by a token."""

    def __init__(self, rclone: str, url: str, user: str = "", password: str = "", *, token: str = "") -> None:
        """`rclone` is the command."""
        proof = {"bearer_token": token}
        if not token:
            obscured = subprocess.run([rclone, "obscure", password], capture_output=True, text=True, check=True).stdout
            proof = {"user": user, "pass": obscured.strip()}
        super().__init__(rclone, "dav", type="webdav", url=url, vendor="other", **proof)
