"""Run by a test: park an upload, say under which token, and be killed at the moment when somebody notes that."""

import os
import signal
import sys
from pathlib import Path

from backends.interface import Parked
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.paths import StoragePath


def die(parked: Parked) -> None:
    os.write(1, parked.token.encode())
    os.kill(os.getpid(), signal.SIGKILL)


def main(root: str, journals: str, modern: str) -> None:
    backend = LocalBackend(root, Path(journals), abilities=Abilities(*[modern == "1"] * 3))
    with backend.open_write(StoragePath.parse("file")) as writer:
        writer.write(b"half")
        writer.park(die)


main(*sys.argv[1:])
