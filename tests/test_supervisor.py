"""The supervisor with real processes: who is started when, what becomes of those that die or hang, and how it ends."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sites import children, eventually, logged

from gateway.supervisor import Supervisor
from gateway.team import Team

PROGRAM = Path(__file__).with_name("supervised.py")
WAIT = 20.0  # seconds


class Supervised:
    """A running supervisor and what its workers say."""

    def __init__(self, directory: Path, size: int, **patience: Any) -> None:
        self.directory = directory
        self.said: list[dict[str, Any]] = []
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM), str(directory), str(size), json.dumps(patience)],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))

    def all(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.said if line["what"] == what]

    def wait_until(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until something was said so often, and return those lines."""
        eventually(lambda: len(self.all(what)) >= count, True, WAIT)
        return self.all(what)

    def logged(self, event: str) -> list[dict[str, Any]]:
        return logged(self.log, event)

    def order(self, number: int, what: str) -> None:
        """Have the worker `number` do this from its next start on."""
        (self.directory / str(number)).write_text(what)

    def kill(self, number: int) -> None:
        pid = [line["pid"] for line in self.all("started") if line["worker"] == number][-1]
        os.kill(pid, signal.SIGKILL)

    def end(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.status()

    def status(self) -> int:
        status = self.process.wait(WAIT)
        self.close()
        return status

    def close(self) -> None:
        self._reading.join(WAIT)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    started: list[Supervised] = []

    def begin(size: int, **patience: Any) -> Supervised:
        started.append(Supervised(tmp_path, size, **patience))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            workers = children(each.process.pid)
            each.process.kill()
            each.process.wait(WAIT)
            for pid in workers:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        each.close()


def test_the_first_serves_before_the_others_start_and_ready_is_said_once(run: Any) -> None:
    supervised = run(3)
    (ready,) = supervised.wait_until("ready")
    started = supervised.all("started")
    assert [(line["worker"], line["first"]) for line in started[:1]] == [(0, True)]
    assert {(line["worker"], line["first"]) for line in started[1:]} == {(1, False), (2, False)}
    assert ready["missing"] == []
    assert supervised.end() == 0
    assert [len(supervised.all(what)) for what in ("ready", "started", "stopping", "stopped")] == [1, 3, 1, 3]


def test_a_worker_that_is_killed_is_replaced_at_once_and_the_others_live_on(run: Any) -> None:
    supervised = run(2)
    supervised.wait_until("ready")
    killed = time.monotonic()
    supervised.kill(0)
    replacement = supervised.wait_until("started", 3)[2]
    assert (replacement["worker"], replacement["first"]) == (0, False)
    assert replacement["at"] - killed < 1
    (ended,) = supervised.logged("a worker has ended")
    assert (ended["worker"], ended["how"]) == (0, "killed by SIGKILL")
    assert supervised.end() == 0
    assert [line["worker"] for line in supervised.all("started")].count(1) == 1


@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_that_never_comes_up_is_the_end_and_said(run: Any, tmp_path: Path, number: int) -> None:
    (tmp_path / str(number)).write_text("die")
    supervised = run(2)
    assert supervised.status() == 1
    (ended,) = supervised.logged("a worker has ended")
    assert (ended["worker"], ended["how"]) == (number, "exit status 3")
    (why,) = supervised.logged("the gateway cannot run, and ends")
    assert "before all were ready" in why["reason"]
    assert supervised.all("ready") == []


def test_one_that_dies_again_and_again_is_tried_ever_later_while_another_serves(run: Any) -> None:
    supervised = run(2, back_off=[0, 0, 0.2, 0.4, 0.8])
    supervised.wait_until("ready")
    supervised.order(1, "die")
    supervised.kill(1)
    attempts = [line["at"] for line in supervised.wait_until("started", 8)[2:]]
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    for pause, wanted in zip(pauses, (0.2, 0.4, 0.8, 0.8, 0.8), strict=False):
        assert wanted <= pause + 0.05
        assert pause < wanted + 1
    supervised.order(1, "serve")
    eventually(lambda: len(supervised.logged("a worker serves")), 3)
    assert supervised.process.poll() is None
    assert supervised.end() == 0


def test_when_none_can_be_kept_alive_it_ends_and_says_so(run: Any) -> None:
    supervised = run(2, back_off=[0, 0.01])
    supervised.wait_until("ready")
    for number in (0, 1):
        supervised.order(number, "die")
    for number in (0, 1):
        supervised.kill(number)
    assert supervised.status() == 1
    (why,) = supervised.logged("the gateway cannot run, and ends")
    assert "every worker has ended 5 times" in why["reason"]


def test_a_worker_that_hangs_is_killed_and_replaced(run: Any, tmp_path: Path) -> None:
    (tmp_path / "1").write_text("hang")
    supervised = run(2, silent=2.0)
    supervised.wait_until("ready")
    supervised.order(1, "serve")
    assert supervised.wait_until("started", 3)[2]["worker"] == 1
    assert supervised.logged("a worker gives no sign of life and is killed")[0]["worker"] == 1
    assert supervised.end() == 0


def test_a_worker_that_does_not_stop_is_killed(run: Any, tmp_path: Path) -> None:
    (tmp_path / "1").write_text("deaf")
    supervised = run(2, stop_limit=0.5)
    supervised.wait_until("ready")
    begun = time.monotonic()
    assert supervised.end() == 0
    assert time.monotonic() - begun < 5
    assert [line["worker"] for line in supervised.all("stopped")] == [0]
    assert {line["worker"] for line in supervised.logged("a worker does not stop and is killed")} == {1}


def test_workers_end_with_their_supervisor(run: Any) -> None:
    supervised = run(2)
    supervised.wait_until("ready")
    supervised.process.kill()
    assert {line["worker"] for line in supervised.wait_until("stopped", 2)} == {0, 1}
    for line in supervised.all("started"):
        eventually(lambda pid=line["pid"]: Path(f"/proc/{pid}").exists(), False)


def test_the_watchdog_is_fed_only_while_all_workers_live(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "300000")
        supervised = run(2, heard=2.0, silent=60.0)
        assert manager.recv(100) == b"READY=1"
        assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        stopped = supervised.all("started")[1]["pid"]
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(2.5)
        manager.setblocking(False)
        while select.select([manager], [], [], 0)[0]:
            manager.recv(100)
        time.sleep(0.5)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        manager.settimeout(WAIT)
        os.kill(stopped, signal.SIGCONT)
        assert manager.recv(100) == b"WATCHDOG=1"
        assert supervised.end() == 0
        said = [manager.recv(100)]
        while said[-1] != b"STOPPING=1":
            said.append(manager.recv(100))


def test_a_process_with_threads_is_not_forked() -> None:
    """The forked one would have the others' locks, and nobody to free them."""
    hold = threading.Event()
    thread = threading.Thread(target=hold.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="one thread"):
            Supervisor(Team(1), lambda *_: 0).run()
    finally:
        hold.set()
        thread.join()
