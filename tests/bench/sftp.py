"""OpenSSH's sftp as a client that is measured, in one session."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Sftp:
    """OpenSSH's client in one session, without the time for its log-in; it writes what it reads into `place`."""

    def __init__(self, process: subprocess.Popen[str], place: Path, name: str = "sftp") -> None:
        self.name = name
        self._process = process
        self._place = place
        self._do("pwd")

    def get(self, name: str) -> float:
        return self._do(f"get {name} {self._place}/read")

    def put(self, file: Path) -> float:
        return self._do(f"put {file} alone-{file.name}")

    def listed(self, name: str) -> float:
        return self._do(f"ls -ln {name}")

    def _do(self, command: str) -> float:
        """Give a command, and wait for what the next one prints."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        begun = time.monotonic()
        print(f"{command}\n!echo done", file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line == "done\n":
                return time.monotonic() - begun
        raise RuntimeError(f"sftp has ended with {command}")


@contextmanager
def sftp(place: Path, name: str, port: int, key: Path, target: str, *options: str) -> Iterator[Sftp]:
    """Begin a session with the server on `port`, whatever its host key is, at `target` (user@host[:folder])."""
    trusting = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "LogLevel=ERROR"]
    command = ["sftp", "-q", "-F", "/dev/null", "-P", str(port), "-i", str(key), "-b", "-", *options]
    command += [word for option in trusting for word in ("-o", option)]
    with _running([*command, target]) as process:
        yield Sftp(process, place, name)


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    channels = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **channels) as process:
        yield process
        process.kill()
