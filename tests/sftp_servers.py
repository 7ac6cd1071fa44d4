"""SSH servers to be a client of: OpenSSH's sshd as it is or with less of its extensions, and rclone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sites import children, free_port

from backends.errors import Unavailable
from backends.sftp import Account, SFTPBackend

START_TIME = 20.0  # seconds
PASSWORD = "wonderland"

# Writes a little, sees that it is on the server, and waits for its end
CRASHING = """
import sys
from pathlib import Path
from backends.paths import StoragePath
from backends.sftp import Account, SFTPBackend
port, user, known, key, root, journals, begin, name = sys.argv[1:]
account = Account("lab", "127.0.0.1", int(port), user, Path(known), key_file=Path(key))
writer = getattr(SFTPBackend(account, root, Path(journals)), begin)(StoragePath.parse(name))
writer.write(b"x" * 1000000)
writer.prepare()
print("prepared", flush=True)
sys.stdin.read()
"""

T = TypeVar("T")

SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {place}/host_key
PidFile none
AuthorizedKeysFile {place}/authorized_keys
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 100
LogLevel ERROR
Subsystem sftp {sftp_server}
"""
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
PLAIN = f"{SFTP_SERVER} -P posix-rename,statvfs,fstatvfs,hardlink,fsync,lsetstat,limits,expand-path,copy-data"


def user() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def make_key(file: Path, kind: str = "ed25519") -> Path:
    """Make a private key without pass phrase, and the public one beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", str(file)], check=True)
    return file


def known_hosts_line(port: int, key: Path) -> str:
    kind, data, *_ = key.with_name(key.name + ".pub").read_text().split()
    return f"[127.0.0.1]:{port} {kind} {data}\n"


@dataclass
class Server:
    """A server of one's own: its files are in `place`, what it serves in `place/data`."""

    place: Path
    port: int
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.place / "data"

    def start(self) -> None:
        """Start and wait until the port answers."""
        with (self.place / "output").open("ab") as output:
            self.process = subprocess.Popen(self.command, stdout=output, stderr=output)
        deadline = time.monotonic() + START_TIME
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"{self.command[0]} did not start:\n{(self.place / 'output').read_text()}")

    def stop(self) -> None:
        """End the server, with the sessions that it has forked for its clients."""
        if self.process is not None:
            children = descendants(self.process.pid)
            self.process.terminate()
            self.process.wait(START_TIME)
            for child in children:
                _end(child)
            self.process = None

    def account(self, port: int | None = None) -> Account:
        """Return the account that the server lets in, reached by another port if that is given."""
        port = port or self.port
        known = self.place / f"known_hosts-{port}"
        known.write_text(known_hosts_line(port, self.place / "host_key"))
        return Account("lab", "127.0.0.1", port, user(), known, key_file=self.place / "key", patience=10)

    def backend(self, root: Path, account: Account | None = None, *, connections: int = 4) -> SFTPBackend:
        """Return the directory `root` as a backend; its journals are beside the server's files."""
        return SFTPBackend(account or self.account(), str(root), self.place / "journals", connections=connections)


@contextmanager
def sshd(place: Path, sftp_server: str = SFTP_SERVER) -> Iterator[Server]:
    """OpenSSH's server on loopback, with host key, client's key and configuration of its own."""
    command = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert command, "sshd is not installed: `make tools`"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks its children in
    (place / "data").mkdir()
    make_key(place / "host_key")
    make_key(place / "key")
    shutil.copy(place / "key.pub", place / "authorized_keys")
    port = free_port()
    (place / "config").write_text(SSHD.format(place=place, port=port, sftp_server=sftp_server))
    server = Server(place, port, [command, "-D", "-e", "-f", str(place / "config")])
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def rclone_sftp(command: str, place: Path, data: Path | None = None, key: Path | None = None) -> Iterator[Server]:
    """`rclone serve sftp` over `data`, or a directory of its own, which lets alice in by her password, or by `key`."""
    (place / "data").mkdir()
    make_key(place / "host_key")
    (place / "password").write_text(PASSWORD + "\n")
    port = free_port()
    arguments = [command, "serve", "sftp", str(data or place / "data"), "--addr", f"127.0.0.1:{port}"]
    arguments += ["--config", "/dev/null", "--key", str(place / "host_key")]
    arguments += ["--authorized-keys", f"{key}.pub"] if key else ["--user", "alice", "--pass", PASSWORD]
    server = Server(place, port, arguments)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def soon(call: Callable[[], T]) -> T:
    """Return what `call` returns as soon as the server is back: after a failure it is not asked for a second."""
    deadline = time.monotonic() + START_TIME
    while True:
        try:
            return call()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def by_password(server: Server, password: str = PASSWORD) -> Account:
    """Return alice's account, with her password or another in a file."""
    file = server.place / f"password-{password}"
    file.write_text(password + "\n")
    return replace(server.account(), user="alice", key_file=None, password_file=file)


def crash(server: Server, root: Path, begin: str, name: str) -> None:
    """Kill a process in the middle of what it has begun with the method `begin` of a backend, for the file `name`."""
    account = server.account()
    places = account.known_hosts_file, account.key_file, root, server.place / "journals"
    command = [sys.executable, "-c", CRASHING, str(account.port), account.user, *map(str, places), begin, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"prepared\n"
        process.kill()


def descendants(parent: int) -> list[int]:
    """Return the processes below one, as far as they have not ended meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return [one for child in children(parent) for one in (child, *descendants(child))]
    return []


def _end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.kill(process, signal.SIGTERM)
