"""A secret that the operator keeps in a file: read at each use, so that a new one holds at once."""

from __future__ import annotations

import os
from pathlib import Path

from backends.errors import Unavailable

SIZE_MAX = 64 * 1024  # bytes


class SecretFile:
    """The one line of a file; `setting` is the key of the configuration that names it, and all that errors show."""

    def __init__(self, path: Path, setting: str) -> None:
        self._path = path
        self.setting = setting

    def read(self) -> str:
        """Return the line without its end; raises Unavailable for a file that cannot be read or holds anything else."""
        try:
            with self._path.open("rb") as file:
                line = file.read(SIZE_MAX + 1).decode().rstrip("\r\n")
        except OSError as error:
            raise Unavailable(f"{self.setting}: {self._path}: {os.strerror(error.errno or 0)}") from None
        except UnicodeDecodeError:
            line = ""
        if not line or not line.isprintable() or len(line) > SIZE_MAX:
            raise Unavailable(f"{self.setting}: {self._path} does not hold one line of text")
        return line
