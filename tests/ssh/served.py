"""An SSH door on a real socket, beside the WebDAV door of `tests/dav/served.py` and on the same storage and state."""

from __future__ import annotations

import functools
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from gateway.admin.tally import Tally
from gateway.belongings import Belongings
from gateway.config import Address, SSHConfig
from gateway.host_keys import HostKeys
from gateway.limits import Limits
from gateway.listening import bind
from gateway.logins import Logins
from gateway.ocm.shares import Permission
from gateway.ocm.ssh_keys import PublicKey, parse_public_key
from gateway.ssh.door import SshDoor
from gateway.ssh.workspace import Site
from gateway.store import share_keys, user_keys
from gateway.store.user_keys import UserKey

from ..dav.served import READ, Served, Shared

ENVIRONMENT = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}  # of clients, whose texts are read here
BOUNDS = {"logins": (60, 0.5), "repeats": (10, 0.05)}


def make_key(path: Path, *options: str) -> Path:
    """Make a key pair with ssh-keygen; returns the private key's file."""
    kind = options or ("-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", "-N", "", *kind, "-f", path], check=True)
    return path


def public_key(path: Path) -> PublicKey:
    return parse_public_key(path.with_name(path.name + ".pub").read_text())


class Clients:
    """OpenSSH's clients of one door, which logs in a user with the key `user`, and a Share with the key `guest`."""

    ssh_port: int
    known_hosts: Path
    user: Path
    guest: Path

    @property
    def options(self) -> list[str]:
        """What every client of OpenSSH is told, but the key; the door is known at any port, as behind a faulty link."""
        given = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": f"[127.0.0.1]:{self.ssh_port}",
            "ConnectTimeout": "10",
        }
        return ["-F", "/dev/null", *(word for name, value in given.items() for word in ("-o", f"{name}={value}"))]

    def sftp_command(self, login: str, *options: str, key: Path | None = None, port: int | None = None) -> list[str]:
        """Return the command that reads its commands from stdin; `port` is a link's to the door."""
        command = ["sftp", "-q", *self.options, "-i", str(key or self.key_of(login)), "-P", str(port or self.ssh_port)]
        return [*command, *options, "-b", "-", f"{login}@127.0.0.1"]

    def scp_command(self, *words: str, key: Path | None = None, port: int | None = None) -> list[str]:
        """Return `scp` with `words`, in which `LOGIN:` stands for a log-in at this door."""
        login = next(word.partition(":")[0] for word in words if ":" in word)
        turned = [word.replace(f"{login}:", f"{login}@127.0.0.1:", 1) for word in words]
        return [
            *("scp", "-q", *self.options, "-i", str(key or self.key_of(login)), "-P", str(port or self.ssh_port)),
            *turned,
        ]

    def sftp(
        self, commands: str | bytes, login: str = "alice", key: Path | None = None, *options: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `sftp -b` with `commands`."""
        text = commands.encode() if isinstance(commands, str) else commands
        command = self.sftp_command(login, *options, key=key)
        return subprocess.run(command, input=text, capture_output=True, timeout=60, env=ENVIRONMENT)

    def scp(self, *words: str, key: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run `scp` with `words`, in which `LOGIN:` stands for a log-in at this door."""
        return subprocess.run(self.scp_command(*words, key=key), capture_output=True, timeout=60, env=ENVIRONMENT)

    def key_of(self, login: str) -> Path:
        return self.guest if login.startswith("s-") else self.user


@functools.cache
def host_keys() -> HostKeys:
    """Return the host keys of every door in this process: an RSA key takes a second to make."""
    with tempfile.TemporaryDirectory() as directory:
        return HostKeys(Path(directory))  # which remembers them


class SshServed(Served, Clients):
    """Alice and bob log in with the key `user`; `share` gives a login for the key `guest`."""

    def __init__(
        self,
        directory: Path,
        *,
        ssh: Mapping[str, Any] | None = None,
        bounds: Mapping[str, tuple[int, float]] = BOUNDS,
        **options: Any,
    ) -> None:
        super().__init__(directory, **options)
        self.directory = directory
        self.shares: dict[str, Shared] = {}  # by log-in
        self.user, self.guest = make_key(directory / "user"), make_key(directory / "guest")
        self.host_keys = host_keys()
        for name in ("alice", "bob"):
            self.store.run_sync(partial(user_keys.add, user=name, key=UserKey(public_key(self.user), "", 0)))
        limits = Limits(bounds)
        self.tally = Tally()
        config = SSHConfig(**(ssh or {}))
        site = Site(self.access, self.tree, self.moves, self.changes, self.uploads, self.locks, Belongings(self.store))
        self.ssh = SshDoor(
            *(site, self.watch, limits, Logins(limits), self.host_keys.private(), config),
            count=self.tally.ssh.counter(0),
        )
        (listener,) = bind(Address("127.0.0.1", 0))
        self.ssh_port = listener.getsockname()[1]
        self._stack = AsyncExitStack()
        self.run(self.ssh.listen(self._stack, [listener]))
        self.known_hosts = directory / "known_hosts"
        lines = [f"[127.0.0.1]:{self.ssh_port} {key.line}\n" for key in self.host_keys.public()]
        self.known_hosts.write_text("".join(lines))

    def __exit__(self, *exception: object) -> None:
        self.loop.call_soon_threadsafe(self.ssh.stop_listening)
        self.run(self._stack.aclose())
        super().__exit__(*exception)

    def serving(self, client: socket.socket) -> Any:
        """Return the door's side of a client's connection; those of tests before may not have ended yet."""
        port = client.getsockname()[1]
        (found,) = [one for one in self.ssh._connections if one.get_extra_info("peername")[1] == port]
        return found

    def login(self, path: str, permissions: frozenset[Permission] = READ, **options: Any) -> str:
        """Share `path`, and return the log-in of that Share, which the key `guest` opens."""
        name = "s-" + secrets.token_urlsafe(16)
        share = self.share(path, permissions, ssh_login=name, **options)
        self.store.run_sync(lambda tx: share_keys.put(tx, share.id, [public_key(self.guest)]))
        self.shares[name] = share
        return name

    def end(self, login: str) -> None:
        """Revoke the Share of a log-in."""
        self.revoke(self.shares[login])


def logged(lines: list[Any], event: str) -> list[dict[str, Any]]:
    """Return the lines of an event, without its name and level."""
    return [
        {name: value for name, value in line.items() if name not in ("event", "log_level")}
        for line in lines
        if line["event"] == event
    ]


def wait_until(is_so: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until, "it has not come to that"
        time.sleep(0.005)
