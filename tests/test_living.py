"""The sign of life of a process: it ends with the process, and with nothing else."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backends.errors import Unavailable
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


def dead(directory: Path) -> Living:
    """Leave what a process leaves that ends without a farewell."""
    living = Living(directory)
    living.in_doubt = True
    living.close()
    return living


def test_the_dead_are_forgotten_and_nobody_is_not_alive(tmp_path: Path) -> None:
    gone, mine = dead(tmp_path), Living(tmp_path)
    assert not mine.is_alive(gone.name)
    assert mine.bury(lambda: None) == 1
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
    assert not mine.is_alive(gone.name)
    assert not mine.is_alive(None)
    mine.close()
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


def test_the_dead_are_remembered_until_they_are_mourned(tmp_path: Path) -> None:
    gone, mine = dead(tmp_path), Living(tmp_path)

    def fail() -> None:
        raise Unavailable("the state is away")

    with pytest.raises(Unavailable):
        mine.bury(fail)
    seen: list[bool] = []
    other = Living(tmp_path)
    assert mine.bury(lambda: seen.append(other.is_alive(gone.name))) == 1
    assert seen == [False], "who mourns does not hold up who looks"
    assert mine.bury(lambda: seen.append(True)) == 0
    assert seen == [False]
    mine.close()
    other.close()


def test_one_who_is_just_beginning_is_not_taken_for_dead_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process looks between the creation of the sign and its lock: the sign it buries is given anew."""
    other = Living(tmp_path)
    lock = fcntl.flock
    buried: list[int] = []

    def late(descriptor: int, kind: int) -> None:
        if kind == fcntl.LOCK_EX and not buried:
            buried.append(other.bury(lambda: None))
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    mine = Living(tmp_path)
    assert buried == [1]
    assert other.is_alive(mine.name)
    assert other.bury(lambda: None) == 0, "it lives"
    mine.in_doubt = True
    mine.close()
    assert other.bury(lambda: None) == 1, "and its death is noticed"
    other.close()


def test_the_dead_of_an_earlier_version_are_mourned_and_leave_nothing(tmp_path: Path) -> None:
    earlier, directory = tmp_path / "alive", tmp_path / "processes"
    for sign in (earlier / f"{'1' * 32}.alive", directory / ("2" * 32)):
        sign.parent.mkdir()
        sign.touch()
    mine = Living(directory)
    mine.adopt(earlier)
    assert not earlier.exists()
    assert mine.bury(lambda: None) == 2
    mine.adopt(earlier)
    mine.close()
    assert list(directory.iterdir()) == []
