"""A link that is slow or stalls, in a process of its own: what it carries costs those who measure nothing.

As a program it carries connections to the port that it is given, with the seconds that follow as latency each way, says
on which port, and does what each line says.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faulty_link import FaultyLink

STALL, FLOW = "stall", "flow"


class Link:
    """The other end of the program's two pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._heard())

    def stall(self) -> None:
        """Let nothing pass, of old connections or of new ones, and close nothing."""
        self._say(STALL)

    def flow(self) -> None:
        """Let pass again, also what has waited."""
        self._say(FLOW)

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        assert self._heard() == word

    def _heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def link_to(target: int, latency: float = 0.0) -> Iterator[Link]:
    """Carry connections to the port `target`, for `latency` seconds each way."""
    command = [sys.executable, __file__, str(target), str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Link(process)
        finally:
            process.kill()


def main(target: str, latency: str) -> None:
    with FaultyLink(int(target)) as link:
        link.latency = float(latency)
        print(link.port, flush=True)
        for line in sys.stdin:
            word = line.strip()
            {STALL: link.stall, FLOW: link.flow}[word]()
            print(word, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
