"""The SSH door against OpenSSH's internal-sftp and `rclone serve sftp`, with OpenSSH's sftp as the client of each, and
many sessions at once.

The files lie in memory. Client and cipher are the same for all, the log-in is not measured.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
from bench.lister import lister
from bench.servers import AUTHORIZATION, USER, Gateway, rclone_command
from bench.sftp import Sftp, sftp
from bench.work import MIB, Work
from memory import resident
from sftp_servers import Server, make_key, rclone_sftp, sshd, user

COLUMNS = ("OpenSSH", "rclone")
CIPHERS = {"aes128-gcm": "aes128-gcm@openssh.com", "aes128-ctr": "aes128-ctr"}
MANY = 10_000

# How many times as long the other has to take at least.
GET_TARGETS = {"OpenSSH": 0.9, "rclone": 1.25}
PUT_TARGETS = {"OpenSSH": 0.8, "rclone": 1.25}
LIST_TARGETS = {"OpenSSH": 1 / 1.5}

SESSIONS = 200
EACH = 10 * MIB  # bytes that each of them reads
SESSION_MEMORY = 6 * MIB  # at most
LISTED_IN = 0.2  # seconds at most, for 99 of 100 listings meanwhile
LOOK_EVERY = 0.05  # seconds between two looks at the memory


@dataclass(frozen=True)
class Side:
    """A server with a session of each cipher, all on the same files."""

    name: str
    process: Any
    sessions: dict[str, Sftp]


class Sides:
    """The gateway and its peers, and what is measured on them."""

    def __init__(self, stack: ExitStack, directory: Path, memory: Path, large: Path) -> None:
        """Start them on files in `memory`, of which `large` is to be read and written."""
        for place in (directory, memory):
            place.mkdir()
        self._stack = stack
        self._place = memory
        self._large = large
        self.key = make_key(directory / "key")
        data = memory / "data"
        (data / "many").mkdir(parents=True)
        shutil.copy(large, data / large.name)
        (data / "short.bin").write_bytes(bytes(EACH))
        for number in range(MANY):
            (data / "many" / f"{number}.bin").write_bytes(b"x")
        self.gateway = stack.enter_context(Gateway(directory / "own", data, has_ssh=True))
        self.gateway.site.cli("user", "key", "add", USER, "--key-file", f"{self.key}.pub")
        self.port = self.gateway.site.ssh_port or 0
        self.own = self._side("own", self.gateway.process, self.port, self.key, f"{USER}@127.0.0.1:home")
        self.openssh = self._openssh(directory / "openssh", data)
        self.rclone = self._rclone(directory / "rclone", data)

    def _openssh(self, place: Path, data: Path) -> Side:
        place.mkdir()
        server = self._stack.enter_context(sshd(place, "internal-sftp"))
        return self._side("OpenSSH", server, server.port, place / "key", f"{user()}@127.0.0.1:{data}")

    def _rclone(self, place: Path, data: Path) -> Side:
        place.mkdir()
        server: Server = self._stack.enter_context(rclone_sftp(rclone_command(), place, data, self.key))
        return self._side("rclone", server, server.port, self.key, "alice@127.0.0.1")

    def _side(self, name: str, process: Any, port: int, key: Path, target: str) -> Side:
        sessions = {
            shown: self._stack.enter_context(sftp(self._place, name, port, key, target, "-c", cipher))
            for shown, cipher in CIPHERS.items()
        }
        return Side(name, process, sessions)

    def works(self) -> list[Work]:
        """Return what is measured in rounds."""
        peers = [self.openssh, self.rclone]
        large = self._large
        works = []
        for cipher in CIPHERS:

            def get(side: Side, cipher: str = cipher) -> float:
                return side.sessions[cipher].get(large.name)

            def put(side: Side, cipher: str = cipher) -> float:
                return side.sessions[cipher].put(large)

            bounded = cipher == "aes128-gcm"
            works.append(Work(f"sftp get 1 GiB, {cipher}", get, self.own, peers, GET_TARGETS, bounded=bounded))
            works.append(Work(f"sftp put 1 GiB, {cipher}", put, self.own, peers, PUT_TARGETS, bounded=bounded))

        def listed(side: Side) -> float:
            return side.sessions["aes128-gcm"].listed("many")

        return [*works, Work("sftp ls of 10,000", listed, self.own, [self.openssh], LIST_TARGETS)]


@dataclass(frozen=True)
class Together:
    """What was seen of many sessions: bytes for each, seconds until all had read, and those of 99 of 100 listings."""

    memory: int
    seconds: float
    listing: float

    def told(self) -> str:
        return (
            f"{SESSIONS} sessions at once, each reading {EACH // MIB} MiB, had all read after {self.seconds:.1f} s, "
            f"with {self.memory / MIB:.1f} MiB for each; 99 of 100 listings by WebDAV took at most "
            f"{self.listing * 1000:.0f} ms meanwhile."
        )

    def missed(self) -> list[str]:
        """Return a sentence for each target that was not reached."""
        found = []
        if self.memory > SESSION_MEMORY:
            found.append(f"memory of an SSH session: {self.memory / MIB:.1f} MiB, has to be at most 6 MiB")
        if self.listing > LISTED_IN:
            found.append(f"a listing beside SSH sessions: {self.listing:.3f} s, has to be at most {LISTED_IN} s")
        return found


def together(sides: Sides) -> Together:
    """Let SESSIONS clients log in and read, while a folder is listed by WebDAV."""
    return asyncio.run(_together(sides))


async def _together(sides: Sides) -> Together:
    pid, url = sides.gateway.process.pid, sides.gateway.url
    before, most = resident(pid), 0
    with lister(url, AUTHORIZATION) as listings:
        begun = time.monotonic()
        reading = asyncio.gather(*(_read(sides) for _ in range(SESSIONS)))
        while not reading.done():
            most = max(most, resident(pid))
            await asyncio.sleep(LOOK_EVERY)
        await reading
        seconds = time.monotonic() - begun
    return Together((most - before) // SESSIONS, seconds, listings.slowest)


async def _read(sides: Sides) -> None:
    options = {"known_hosts": None, "client_keys": [str(sides.key)], "username": USER, "login_timeout": 300}
    async with (
        asyncssh.connect("127.0.0.1", sides.port, config=None, agent_path=None, **options) as connection,
        connection.start_sftp_client() as client,
        client.open("home/short.bin", "rb") as file,
    ):
        read = await file.read()
    assert len(read) == EACH, f"{len(read)} bytes were read"
