"""The gateway stops, or is killed, while clients transfer: what can end ends well, and nothing is half there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.host_keys import HostKeys
from gateway.ssh import door

from ..dav.served import WRITE
from ..sites import Site
from .clients import paramiko_sftp, running, until
from .served import Clients, SshServed, make_key

CONTENT = os.urandom(3 << 20)
SLOWLY = "50000"  # kbit/s that a client is told to transfer at most: it takes half a second
CRAWLING = "3000"  # and more than a stop waits for
ARRIVED = 256 << 10  # bytes; when so many are there, the gateway stops


@pytest.fixture
def served(tmp_path: Path) -> Iterator[SshServed]:
    (tmp_path / "up").write_bytes(CONTENT)
    with SshServed(tmp_path / "ssh") as served:
        for name in ("old", "down"):
            (served.data / name).write_bytes(CONTENT)
        yield served


def stop(served: SshServed) -> Callable[[], None]:
    """Stop the door as the gateway does, and return what waits for that."""
    served.loop.call_soon_threadsafe(served.ssh.stop_listening)
    stack = served._stack.pop_all()
    return lambda: served.run(stack.aclose())


def test_what_runs_is_waited_for_and_nobody_else_comes_in(served: SshServed, tmp_path: Path) -> None:
    login = served.login("", WRITE)
    put = running(served.sftp_command(login, "-l", SLOWLY), f"put {tmp_path}/up old\nput {tmp_path}/up new\n")
    get = running(served.scp_command("-l", SLOWLY, f"{login}:down", f"{tmp_path}/down"))
    with put as putting, get as getting, paramiko_sftp(served, login) as idle:
        idle.listdir()
        until(lambda: any(writer.written >= ARRIVED for writer in served.writers))
        until((tmp_path / "down").exists)
        ended = stop(served)
        until(lambda: not idle.get_channel().get_transport().is_active(), 5)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", served.ssh_port), timeout=2)
        ended()
        assert putting.wait(5) == 0
        assert getting.wait(5) == 0
    assert (served.data / "old").read_bytes() == (served.data / "new").read_bytes() == CONTENT
    assert (tmp_path / "down").read_bytes() == CONTENT


def test_what_takes_too_long_is_cut_and_never_was(
    served: SshServed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "STOP_TIME", 0.5)
    login = served.login("", WRITE)
    (served.data / "old").write_bytes(b"old content")
    commands = [
        running(served.sftp_command(login, "-l", CRAWLING), f"put {tmp_path}/up new\n"),
        running(served.scp_command("-O", "-l", CRAWLING, f"{tmp_path}/up", f"{login}:old")),
    ]
    with commands[0] as putting, commands[1] as replacing:
        until(lambda: sum(writer.written >= ARRIVED for writer in served.writers) == 2)
        begun = time.monotonic()
        stop(served)()
        assert time.monotonic() - begun < 5
        assert served.writers == []
        assert putting.wait(5) != 0
        assert replacing.wait(5) != 0
    left = {path.name for path in served.data.iterdir() if path not in served.temporaries()}
    assert left == {"old", "down"}
    assert (served.data / "old").read_bytes() == b"old content"


class SshSite(Site, Clients):
    """A gateway as a process, and alice's key."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, has_ssh=True)
        self.user = self.guest = make_key(directory / "user")
        self.known_hosts = directory / "known_hosts"

    def add_alice(self) -> None:
        self.add_user("alice", "a-good-password")
        self.cli("user", "key", "add", "alice", "--key-file", f"{self.user}.pub")
        keys = HostKeys(self.directory / "state/keys").public()
        self.known_hosts.write_text("".join(f"[127.0.0.1]:{self.ssh_port} {key.line}\n" for key in keys))

    def arrived(self) -> int:
        """Return the bytes of the largest file that the gateway has open in its storage, also of one without a name."""
        assert self.process is not None
        sizes = [0]
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(descriptor).startswith(str(self.data)):
                    sizes.append(descriptor.stat().st_size)
        return max(sizes)


def test_a_gateway_that_is_killed_leaves_the_old_content_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(CONTENT)
    site = SshSite(tmp_path / "site")
    (site.data / "old").write_bytes(b"old content")
    with site:
        site.add_alice()
        put = running(site.sftp_command("alice", "-l", CRAWLING), f"put {tmp_path}/up home/old\n")
        with put as putting:
            until(lambda: site.arrived() >= ARRIVED)
            site.kill()
            assert putting.wait(10) != 0
        assert (site.data / "old").read_bytes() == b"old content"
        site.start()
        done = site.sftp("ls -1 home\n")
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[4:5] == [b"home/old"]
        assert site.sftp(f"put {tmp_path}/up home/old\n").returncode == 0
        assert (site.data / "old").read_bytes() == CONTENT
        site.stop()
        assert site.process is not None
        assert site.process.returncode == 0
    assert "Traceback" not in site.log.read_text()
