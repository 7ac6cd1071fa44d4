"""What it costs to stand in front of a bucket, or of an SSH server: the gateway's WebDAV door against boto3 and
OpenSSH's sftp, alone on the same server.

The files lie in memory, so that no disk is measured. Each tool keeps its connections, as the gateway does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from bench import door
from bench.link import link_to
from bench.servers import Gateway, rclone_command
from bench.sftp import Sftp, sftp
from bench.work import MIB, Work
from s3_servers import ACCESS_KEY, BUCKET, SECRET_KEY, key_files, rclone_s3
from s3_servers import Server as Bucket
from sftp_servers import Server as Sshd
from sftp_servers import sshd

LARGE, FAR = 1024 * MIB, 256 * MIB  # bytes of the files
MANY = 10_000
LATENCY = 0.05  # seconds each way, 0.1 for question and answer
COLUMNS = ("boto3", "sftp")

# How many times as long a tool has to take at least, for what it and the gateway do.
S3_TARGETS = {"get": 0.9, "put": 0.7, "list": 1 / 1.5, "get from afar": 0.8}
SFTP_TARGETS = {"get": 0.5, "put": 0.5, "list": 1 / 1.5, "get from afar": 0.8}


class Client(Protocol):
    """Reads and writes the storage; each call returns the seconds that it took."""

    name: str

    def get(self, name: str) -> float: ...

    def put(self, file: Path) -> float: ...

    def listed(self, name: str) -> float: ...


class Door:
    """The gateway in front of the storage, asked by curl."""

    def __init__(self, gateway: Gateway) -> None:
        self.name = gateway.name
        self.process = gateway.process
        self._gateway = gateway

    def get(self, name: str) -> float:
        return door.get(self._gateway, name)

    def put(self, file: Path) -> float:
        return door.put(self._gateway, f"written-{file.name}", file)

    def listed(self, name: str) -> float:
        return door.propfind(self._gateway, f"{name}/")


class Boto3:
    """boto3 in a process of its own."""

    name = "boto3"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def get(self, name: str) -> float:
        return self._do("get", name)

    def put(self, file: Path) -> float:
        return self._do("put", f"alone-{file.name}", str(file))

    def listed(self, name: str) -> float:
        return self._do("list", f"{name}/")

    def _do(self, *what: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())


def works(stack: ExitStack, directory: Path, memory: Path) -> list[Work]:
    """Start the servers, with files in `memory`, and return what is to be measured on them."""
    for place in (directory, memory):
        place.mkdir()
    local = memory / "local"
    local.mkdir()
    files = [_file(local / "large.bin", LARGE), _file(local / "far.bin", FAR)]
    return [*_s3(stack, directory, memory / "s3", files), *_sftp(stack, directory, memory / "sftp", files)]


def _s3(stack: ExitStack, directory: Path, place: Path, files: Sequence[Path]) -> list[Work]:
    """The server makes no hash of a whole object for its ETag, but for one measurement.

    rclone does by default, at every first look at an object: it reads all of it again.
    """
    place.mkdir()
    server, hashing = (
        stack.enter_context(rclone_s3(rclone_command(), place, *more)).server for more in (["--etag-hash="], [])
    )
    _fill(place / "data" / BUCKET, files)
    near, far, again = (
        (_gateway(stack, directory / f"s3-{bucket.port}", _section(bucket, place)), stack.enter_context(_boto3(bucket)))
        for bucket in (server, Bucket(stack.enter_context(link_to(server.port, LATENCY)).port), hashing)
    )
    put = Work("S3 PUT 1 GiB, which the server reads again", lambda side: side.put(files[0]), again[0], [again[1]], {})
    return [*_of("S3", (near, far), S3_TARGETS, files), put]


def _sftp(stack: ExitStack, directory: Path, place: Path, files: Sequence[Path]) -> list[Work]:
    place.mkdir()
    server = stack.enter_context(sshd(place))
    _fill(server.data, files)
    near, far = server.port, stack.enter_context(link_to(server.port, LATENCY)).port
    sides = []
    for port in (near, far):
        account = server.account(port)
        section = {
            "type": "sftp",
            "host": account.host,
            "port": port,
            "user": account.user,
            "key_file": str(account.key_file),
            "known_hosts_file": str(account.known_hosts_file),
            "root": str(server.data),
        }
        own = _gateway(stack, directory / f"sftp-{port}", section)
        sides.append((own, stack.enter_context(_session(server, port, place))))
    return list(_of("SFTP", sides, SFTP_TARGETS, files))


def _of(
    kind: str, sides: Sequence[tuple[Door, Client]], targets: dict[str, float], files: Sequence[Path]
) -> Iterator[Work]:
    (near, near_tool), (far, far_tool) = sides
    large, distant = files

    def work(name: str, act: str, measure: Any, own: Door, tool: Client, *, bounded: bool = False) -> Work:
        targets_of = {tool.name: targets[act]} if act in targets else {}
        return Work(f"{kind} {name}", measure, own, [tool], targets_of, bounded=bounded)

    away = f"{2 * LATENCY * 1000:.0f} ms away"
    yield work("GET 1 GiB", "get", lambda side: side.get(large.name), near, near_tool, bounded=True)
    yield work("PUT 1 GiB", "put", lambda side: side.put(large), near, near_tool, bounded=True)
    yield work("listing of 10,000", "list", lambda side: side.listed("many"), near, near_tool)
    yield work(f"GET 256 MiB, {away}", "get from afar", lambda side: side.get(distant.name), far, far_tool)
    yield work(f"PUT 256 MiB, {away}", "put from afar", lambda side: side.put(distant), far, far_tool)


# --- what it is measured on -----------------------------------------------------------------------------------------


def _file(path: Path, size: int) -> Path:
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    return path


def _fill(data: Path, files: Sequence[Path]) -> None:
    for file in files:
        shutil.copy(file, data / file.name)
    (data / "many").mkdir()
    for number in range(MANY):
        (data / "many" / f"{number}.bin").write_bytes(b"x")


def _gateway(stack: ExitStack, directory: Path, section: dict[str, Any]) -> Door:
    return Door(stack.enter_context(Gateway(directory, directory, backend=section)))


def _section(bucket: Bucket, place: Path) -> dict[str, Any]:
    keys = key_files(place)
    section = {"type": "s3", "endpoint": bucket.endpoint, "bucket": BUCKET}
    return {**section, "access_key_file": str(keys.access_key), "secret_key_file": str(keys.secret_key)}


@contextmanager
def _boto3(bucket: Bucket) -> Iterator[Boto3]:
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    command = [sys.executable, str(Path(__file__).with_name("alone.py")), bucket.endpoint, BUCKET]
    with _running(command, **keys) as process:
        yield Boto3(process)


def _session(server: Sshd, port: int, place: Path) -> AbstractContextManager[Sftp]:
    """Run sftp as it comes, with the cipher that it chooses itself."""
    account = server.account(port)
    assert account.key_file is not None
    return sftp(place, "sftp", port, account.key_file, f"{account.user}@127.0.0.1:{server.data}")


@contextmanager
def _running(command: Sequence[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    channels = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=os.environ | environment, **channels) as process:
        yield process
        process.kill()
