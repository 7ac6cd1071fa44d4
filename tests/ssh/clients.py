"""Clients of an SSH door, beside `sftp` and `scp` that `served.py` runs: paramiko, sshfs, rclone; and how they die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko

from ..rclone_client import Rclone
from .served import ENVIRONMENT, SshServed

PATIENCE = 20.0  # seconds


def until(condition: Callable[[], object], within: float = PATIENCE) -> float:
    """Wait until `condition` holds, and return how many seconds that took; fails when it does not."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < within, f"not within {within} s"
        time.sleep(0.005)
    return time.monotonic() - begun


# --- paramiko: an SSH and an SFTP of its own ------------------------------------------------------------------------


@contextmanager
def transport(served: SshServed, login: str = "alice", port: int | None = None) -> Iterator[paramiko.Transport]:
    """Log in with paramiko."""
    connected = socket.create_connection(("127.0.0.1", port or served.ssh_port), timeout=PATIENCE)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each write waits 40 ms for an ACK
    connection = paramiko.Transport(connected)
    try:
        connection.connect(username=login, pkey=paramiko.Ed25519Key.from_private_key_file(str(served.key_of(login))))
        yield connection
    finally:
        connection.close()


@contextmanager
def paramiko_sftp(served: SshServed, login: str = "alice", port: int | None = None) -> Iterator[paramiko.SFTPClient]:
    """Log in with paramiko, and begin SFTP; its errors have the door's own sentences."""
    with transport(served, login, port) as connection:
        client = paramiko.SFTPClient.from_transport(connection)
        assert client is not None
        client.get_channel().settimeout(PATIENCE)
        yield client


def fsync(file: paramiko.SFTPFile) -> None:
    """Ask for `fsync@openssh.com`, which paramiko does not know."""
    file.sftp._request(paramiko.sftp.CMD_EXTENDED, "fsync@openssh.com", file.handle)


# --- rclone and sshfs -----------------------------------------------------------------------------------------------


def rclone_sftp(command: str, served: SshServed, login: str, port: int | None = None) -> Rclone:
    """Return rclone, to which `door:` is what the log-in sees; it is told no more than people tell it."""
    where = {"host": "127.0.0.1", "port": str(port or served.ssh_port)}
    return Rclone(command, "door", type="sftp", user=login, key_file=str(served.key_of(login)), **where)


@contextmanager
def sshfs(served: SshServed, login: str, where: Path, *options: str) -> Iterator[Path]:
    """Mount what the log-in sees at `where`; it takes FUSE, and without that tests fail."""
    assert os.access("/dev/fuse", os.R_OK | os.W_OK), "there is no FUSE here: sshfs cannot be tested"
    where.mkdir()
    command = ["sshfs", *served.options[2:], "-F", "/dev/null", "-p", str(served.ssh_port), "-f", *options]
    command += ["-o", f"IdentityFile={served.key_of(login)}", f"{login}@127.0.0.1:/", str(where)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        try:
            until(lambda: process.poll() is not None or os.path.ismount(where))
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield where
        finally:
            subprocess.run(["fusermount3", "-u", "-z", where], capture_output=True, timeout=20)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


# --- clients that die -----------------------------------------------------------------------------------------------


@contextmanager
def running(command: list[str], commands: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Have a client run, fed with `commands`; it and its ssh are gone after the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT) as process:
        mine: list[int] = []  # as descriptors, which stay with a process when its number goes to another
        try:
            assert process.stdin is not None
            process.stdin.write(commands.encode())
            process.stdin.close()
            until(lambda: process.poll() is not None or children(process.pid))
            mine = [os.pidfd_open(pid) for pid in children(process.pid)]
            yield process
        finally:
            process.kill()
            for descriptor in mine:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.close(descriptor)


def children(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that live."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
