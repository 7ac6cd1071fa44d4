"""A process of its own that lists a folder by WebDAV again and again, and tells how long each listing took.

In the process of many other clients it would wait for those, and not for the server.
"""

from __future__ import annotations

import http.client
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

EVERY = 0.02  # seconds


class Lister:
    """What a running lister has seen; `seconds` is complete after the block."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    @property
    def slowest(self) -> float:
        """The seconds that 99 of 100 took at most."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


@contextmanager
def lister(url: str, authorization: str) -> Iterator[Lister]:
    """List the folder at `url` while the block runs."""
    found = Lister()
    command = [sys.executable, __file__, url, authorization]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield found
        found.seconds = json.loads(process.communicate()[0])


def _main(url: str, authorization: str) -> None:
    parts, seconds = urlsplit(url), []
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        begun = time.monotonic()
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        connection.request("PROPFIND", parts.path, headers={"Depth": "1", "Authorization": authorization})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 207, answer.status
        connection.close()
        seconds.append(time.monotonic() - begun)
    print(json.dumps(seconds))


if __name__ == "__main__":
    _main(*sys.argv[1:])
