"""A link with latency in a process of its own, so that passing the data on takes no time of what is measured.

Usage: slow_link.py PORT SECONDS; it prints its own port and passes connections on until it is killed.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from faulty_link import FaultyLink


@contextmanager
def slow_link(target: int, latency: float) -> Iterator[int]:
    """Run one to the port `target` with `latency` seconds each way, and yield its port."""
    command = [sys.executable, __file__, str(target), str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


def main(target: str, latency: str) -> None:
    with FaultyLink(int(target)) as link:
        link.latency = float(latency)
        print(link.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
