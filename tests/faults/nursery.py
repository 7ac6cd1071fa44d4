"""Processes that are there to be killed, forked from one that has imported everything: each takes milliseconds.

The tests' own process has threads and must not fork. Run as a program, this is the one that forks.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_DEAD = "@dead"


def say(*words: str) -> None:
    """Say one line to the test, in one write that a kill cannot tear."""
    os.write(1, (" ".join(words) + "\n").encode())


class Nursery:
    """Forks one child at a time; a line that a child says begins with no `@`."""

    def __init__(self, function: str) -> None:
        """Children run `function`, given as `module:name`, with the arguments of `fork`."""
        self._command = [sys.executable, "-m", "tests.faults.nursery", function]
        self.was_killed = False

    def __enter__(self) -> Nursery:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._pipe = self._process.stdin, self._process.stdout
        self._heard = b""
        return self

    def __exit__(self, *exception: object) -> None:
        self._orders.close()
        self._process.wait(30)
        self._pipe.close()

    def fork(self, **arguments: Any) -> int:
        """Start a child and return its number; it begins at once."""
        self._orders.write(json.dumps(arguments).encode() + b"\n")
        self._orders.flush()
        return int(self.line())

    def line(self) -> str:
        """Wait for the next line; fails when the nursery itself has ended."""
        while b"\n" not in self._heard:
            self._listen()
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def said(self) -> list[str]:
        """Return the lines that are there already, without waiting for more."""
        while select.select([self._pipe], [], [], 0)[0]:
            self._listen()
        return [self.line() for _ in range(self._heard.count(b"\n"))]

    def _listen(self) -> None:
        more = os.read(self._pipe.fileno(), 65_536)
        assert more, "the nursery has ended"
        self._heard += more

    def last_words(self) -> Iterator[str]:
        """Yield the rest of what the child says, until it is dead; fails if it ended by an error of its own.

        Afterwards `was_killed` tells whether it had not come to its end.
        """
        while not (line := self.line()).startswith(_DEAD):
            yield line
        assert line.split()[1] in ("0", str(-signal.SIGKILL)), line
        self.was_killed = line.split()[1] != "0"

    def kill(self, child: int, after: float) -> list[str]:
        """Kill the child after so many seconds and return what it has said since the last line read."""
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        return list(self.last_words())


def _raise_children(function: str) -> None:
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    for order in sys.stdin.buffer:
        child = os.fork()
        if not child:
            _live(call, json.loads(order))
        _, status = os.waitpid(child, 0)
        say(_DEAD, str(os.waitstatus_to_exitcode(status)))


def _live(call: Any, arguments: dict[str, Any]) -> None:
    say(str(os.getpid()))
    status = 1
    try:
        call(**arguments)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


if __name__ == "__main__":
    _raise_children(*sys.argv[1:])
