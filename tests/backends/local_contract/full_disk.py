"""Run by a test: write more than this process may, and see that it is refused as a full disk."""

import resource
import sys
from pathlib import Path

from backends.errors import OutOfSpace
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.paths import StoragePath

LIMIT = 1024 * 1024  # bytes


def main(root: str, journals: str, modern: str) -> None:
    backend = LocalBackend(root, Path(journals), abilities=Abilities(*[modern == "1"] * 3))
    with backend.open_write(StoragePath((b"file",))) as writer:
        writer.write(b"old")
        writer.commit()
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))  # Python ignores SIGXFSZ: the call fails with EFBIG
    for name in (b"file", b"new"):
        with backend.open_write(StoragePath((name,))) as writer:
            try:
                writer.write(b"x" * (LIMIT - 10))
                writer.write(b"x" * 1000)
            except OutOfSpace:
                continue
            sys.exit("the disk took more than it holds")
    for change in (lambda writer: writer.write_at(LIMIT - 1, b"xx"), lambda writer: writer.truncate(LIMIT + 1)):
        with backend.open_update(StoragePath((b"file",))) as writer:
            try:
                change(writer)
            except OutOfSpace:
                continue
            sys.exit("the disk took more than it holds")
    backend.close()


main(*sys.argv[1:])
