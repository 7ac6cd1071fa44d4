"""SIGKILL at any moment: what was acknowledged is there, whole, and nothing else is to be seen.

This does not test fsync: the page cache survives the process. It tests names, temporaries and the journal.
"""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from backends.local import LocalBackend

from ..conformance.actions import get, names, put
from .place import Place

WRITER = Path(__file__).with_name("killed_writer.py")
KILLS = 30


class CrashTests:
    def test_acknowledged_writes_survive_kills(self, place: Place) -> None:
        """A writer says which content it begins and which is committed; after each kill the disk must agree."""
        pauses = random.Random(42)
        possible: dict[str, set[str]] = {}  # name -> digests that may be there now
        with _writer(place, "loop") as writer:
            for _ in range(KILLS):
                _one_life(writer, pauses.uniform(0.001, 0.03), possible)
                backend = place.open()
                _check(place, backend, possible)
                backend.close()
            assert writer.stdin is not None
            writer.stdin.close()
        assert len(possible) > 1

    def test_a_kill_between_link_and_rename_leaves_no_debris(self, place: Place) -> None:
        """The one moment at which a hidden name exists: swept at the next start, the old content in place."""
        backend = place.open()
        put(backend, "file", b"old")
        backend.close()
        with _writer(place, "between") as writer:
            assert writer.wait(timeout=30) == -signal.SIGKILL
        debris = place.everything()
        assert len(debris) == 2
        assert debris[0].startswith(".ocm-gateway-")
        again = place.open()
        assert place.everything() == ["file"]
        assert get(again, "file") == b"old"
        again.close()
        assert list(place.journals.iterdir()) == []


def _writer(place: Place, mode: str) -> subprocess.Popen[str]:
    arguments = [str(place.root), str(place.journals), str(int(place.abilities.openat2)), mode]
    return subprocess.Popen(
        [sys.executable, str(WRITER), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _one_life(writer: subprocess.Popen[str], pause: float, possible: dict[str, set[str]]) -> None:
    """Let one process write for `pause` seconds, kill it, and take down what it said."""
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write("live\n")
    writer.stdin.flush()
    writer.stdout.readline()  # it writes
    time.sleep(pause)
    writer.stdin.write("die\n")
    writer.stdin.flush()
    for line in writer.stdout:
        match line.split():
            case ["begin", name, digest]:
                possible.setdefault(name, {"nothing"}).add(digest)
            case ["done", name, digest]:
                possible[name] = {digest}
            case ["dead"]:
                return


def _check(place: Place, backend: LocalBackend, possible: dict[str, set[str]]) -> None:
    visible = {name.decode() for name in names(backend)}
    assert place.everything() == sorted(visible)
    assert visible <= possible.keys()
    for name, digests in possible.items():
        found = hashlib.sha256(get(backend, name)).hexdigest() if name in visible else "nothing"
        assert found in digests
        possible[name] = {found}  # what has survived once must go on doing so
