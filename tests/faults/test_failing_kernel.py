"""The kernel itself fails a whole gateway: strace injects errors into its system calls while it runs."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sites import Site

from .clients import Client, running

NEW = b"new" * 50_000
# system calls and the error that each gives, the request that meets it, and how that is answered
CASES = [
    ("fsync", "EIO", ("PUT", "new", NEW), 503),
    ("fsync", "ENOSPC", ("PUT", "new", NEW), 507),
    ("fsync", "EIO", ("PUT", "old", NEW), 503),
    ("linkat", "EIO", ("PUT", "new", NEW), 503),
    ("linkat", "ENOSPC", ("PUT", "old", NEW), 507),
    ("renameat", "EIO", ("PUT", "old", NEW), 503),
    ("copy_file_range", "EIO", ("COPY", "old", None, "new"), 503),
    ("copy_file_range", "ENOSPC", ("COPY", "old", None, "other"), 507),
    ("renameat", "EIO", ("MOVE", "old", None, "new"), 503),
    ("renameat", "EIO", ("MOVE", "old", None, "other"), 503),
    ("renameat2", "EIO", ("MOVE", "folder", None, "other"), 503),
    ("renameat2", "EIO", ("COPY", "folder", None, "other"), 503),
    ("unlinkat", "EIO", ("DELETE", "old", None), 503),
    ("mkdirat", "ENOSPC", ("MKCOL", "made", None), 507),
]


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(Site(tmp_path_factory.mktemp("kernel"))) as alice:
        yield alice


@contextmanager
def injecting(process: int, calls: str, error: str) -> Iterator[None]:
    """Let every one of these system calls of the process fail until the block ends."""
    strace = shutil.which("strace")
    assert strace, "strace is not installed: `make tools`"
    command = [strace, "-f", "-p", str(process), "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        assert "attached" in said, said
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            said = tracer.communicate(timeout=30)[1]
        assert "(INJECTED)" in said, said


def on_the_disk(root: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


@pytest.mark.parametrize(("calls", "error", "request_", "status"), CASES)
def test_what_the_kernel_refuses_is_not_acknowledged(alice, calls, error, request_, status):
    root = alice.site.data
    for path in root.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (root / "folder").mkdir()
    for name in ("old", "other", "folder/file"):
        (root / name).write_bytes(name.encode())
    before = on_the_disk(root)
    method, path, body, *destination = request_
    headers = {"Destination": destination[0]} if destination else {}
    with injecting(alice.site.process.pid, calls, error):
        reply = alice(method, path, body, **headers)
    assert reply.status == status, reply
    assert on_the_disk(root) == before
    assert alice(method, path, body, **headers).status in (201, 204)
