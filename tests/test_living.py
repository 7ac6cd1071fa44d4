"""The sign of life of a process: it ends with the process, and with nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from gateway.living import Living

HOLDER = """
import sys, time
from pathlib import Path
from gateway.living import Living
print(Living(Path(sys.argv[1])).name, flush=True)
time.sleep(60)
"""


def test_a_process_is_alive_until_it_is_killed(tmp_path: Path) -> None:
    mine = Living(tmp_path / "processes")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(mine.directory)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        theirs = holder.stdout.readline().decode().strip()
        assert mine.is_alive(mine.name)
        assert mine.is_alive(theirs)
        assert Living(mine.directory).is_alive(theirs)
        holder.send_signal(signal.SIGKILL)
    assert not mine.is_alive(theirs)
    mine.close()


def test_the_dead_are_forgotten_and_nobody_is_not_alive(tmp_path: Path) -> None:
    (tmp_path / "dead").write_bytes(b"")
    living = Living(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [living.name]
    assert not living.is_alive("dead")
    assert not living.is_alive(None)
    living.close()
    assert list(tmp_path.iterdir()) == []


def test_work_is_alive_until_it_ends_and_to_others_until_its_process_does(tmp_path: Path) -> None:
    mine, other = Living(tmp_path), Living(tmp_path)
    with mine.at_work() as first, mine.at_work() as second:
        assert first != second
        assert mine.is_alive(first)
        assert other.is_alive(first)
    assert not mine.is_alive(first)
    assert other.is_alive(first)
    mine.close()
    assert not other.is_alive(first)
    other.close()
