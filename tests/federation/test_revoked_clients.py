"""curl, rclone and cadaver work in a Share, at the sender's door and through the receiver's, until it is revoked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pairs import BOB, Pair, sealed_values
from rclone_client import RcloneClient
from sites import eventually

REFUSED_AFTER = 1.0  # seconds from the end of `share revoke`
CUT_AFTER = 5.0
SIZE = 2 * 1024**3
RATE = "16M"  # bytes per second, of transfers that then take two minutes; what lies in buffers takes less than 1 s
REFUSED = re.compile(r"\b(401|403|404)\b|not found|Could not authenticate")


@dataclass(frozen=True)
class Door:
    """A Share's root as one party reaches it: an address that ends with a slash, with Basic unless there is a token."""

    url: str
    user: str = ""
    password: str = "-"
    token: str = ""


class Client(ABC):
    """A program at a door."""

    def __init__(self, door: Door, home: Path, rclone: str) -> None:
        self.door = door
        self.home = home
        self.rclone = rclone
        home.mkdir()

    @abstractmethod
    def get(self, name: str, file: Path) -> str:
        """Fetch `name` into a file; returns what the program said."""

    @abstractmethod
    def put(self, file: Path, name: str) -> str:
        """Store a file as `name`; returns what the program said."""

    def read(self, name: str) -> tuple[bytes | None, str]:
        """Return the content, if it was given, and what was said."""
        file = self.home / "down"
        said = self.get(name, file)
        content = file.read_bytes() if file.exists() else None
        file.unlink(missing_ok=True)
        return content, said

    def write(self, name: str, content: bytes) -> str:
        file = self.home / "up"
        file.write_bytes(content)
        return self.put(file, name)

    def run(self, *command: str, stdin: str = "") -> str:
        environment = os.environ | {"HOME": str(self.home)}
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=environment)
        return done.stdout + done.stderr


def curl(door: Door) -> list[str]:
    credential = ["--oauth2-bearer", door.token] if door.token else ["--user", f"{door.user}:{door.password}"]
    return ["curl", "--silent", "--show-error", "--fail", *credential]


class Curl(Client):
    def get(self, name: str, file: Path) -> str:
        return self.run(*curl(self.door), "--output", str(file), self.door.url + name)

    def put(self, file: Path, name: str) -> str:
        return self.run(*curl(self.door), "--upload-file", str(file), self.door.url + name)


def rclone_at(door: Door, rclone: str) -> RcloneClient:
    return RcloneClient(rclone, door.url, door.user, door.password, token=door.token)


class Rclone(Client):
    def get(self, name: str, file: Path) -> str:
        return self._rclone(f"dav:{name}", file)

    def put(self, file: Path, name: str) -> str:
        return self._rclone(file, f"dav:{name}")

    def _rclone(self, source: str | Path, target: str | Path) -> str:
        done = rclone_at(self.door, self.rclone).attempt("copyto", source, target)
        return done.stdout + done.stderr


class Cadaver(Client):
    def get(self, name: str, file: Path) -> str:
        return self._cadaver(f"get {name} {file}")

    def put(self, file: Path, name: str) -> str:
        return self._cadaver(f"put {file} {name}")

    def _cadaver(self, command: str) -> str:
        netrc = self.home / ".netrc"
        netrc.touch(mode=0o600)
        netrc.write_text(f"machine localhost\nlogin {self.door.user}\npassword {self.door.password}\n")
        return self.run("cadaver", self.door.url, stdin=f"{command}\nquit\n")


@pytest.fixture(scope="module")
def old_peer() -> Iterator[str]:
    """The host[:port] of a server of API 1.0 that takes every Share: it gets a secret that opens the door as Basic."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            protocols = {"webdav": "/public.php/webdav/"}
            file = {"name": "file", "shareTypes": ["user"], "protocols": protocols}
            url = f"http://localhost:{server.server_port}/ocm"
            self.answer(200, {"enabled": True, "apiVersion": "1.0", "endPoint": url, "resourceTypes": [file]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201, {})

        def answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def check_works_until_revoked(pair: Pair, share: str, folder: Path, clients: dict[str, Client]) -> None:
    """Read and write at each door; after `share revoke`, be refused at each, and find what was there before."""
    for name, client in clients.items():
        assert client.read("a.txt")[0] == b"alpha", name
        said = client.write("a.txt", name.encode())
        assert (folder / "a.txt").read_bytes() == name.encode(), said
        (folder / "a.txt").write_bytes(b"alpha")
    revoked = pair.alice.cli("share", "revoke", share, "--as", "alice")
    assert revoked.returncode == 0, revoked.stderr
    time.sleep(REFUSED_AFTER)
    refused = {}
    threads = [threading.Thread(target=_try, args=(client, name, refused)) for name, client in clients.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused.keys() == clients.keys()
    for name, (content, *said) in refused.items():
        assert content is None, name
        assert all(REFUSED.search(words) for words in said), (name, said)
    assert [(path.name, path.read_bytes()) for path in folder.iterdir()] == [("a.txt", b"alpha")]


def _try(client: Client, name: str, refused: dict[str, tuple[bytes | None, str, str]]) -> None:
    refused[name] = (*client.read("a.txt"), client.write("late.txt", b"late"))


def test_with_a_token_at_the_sender_and_through_the_receiver(pair: Pair, tmp_path: Path, rclone: str) -> None:
    folder = pair.folder("both-doors", a_txt=b"alpha")
    share = pair.share("both-doors", "read,write")
    received = pair.accept(share)
    sender = Door(f"{pair.alice.url}/dav/ocm/{share['id']}/", token=pair.bobs_token(received))
    receiver = Door(pair.bob.url + pair.bobs_url(received), user="bob", password=BOB)
    kinds = [("curl", Curl, sender), ("rclone", Rclone, sender)]  # cadaver has no Bearer
    kinds += [(f"{kind.__name__}-of-bob", kind, receiver) for kind in (Curl, Rclone, Cadaver)]
    clients = {name: kind(door, tmp_path / name, rclone) for name, kind, door in kinds}
    check_works_until_revoked(pair, share["id"], folder, clients)


def test_with_the_secret_at_the_sender(pair: Pair, tmp_path: Path, rclone: str, old_peer: str) -> None:
    folder = pair.folder("by-secret", a_txt=b"alpha")
    arguments = ("--as", "alice", "--with", f"carol@{old_peer}", "--permissions", "read,write")
    share = pair.alice.json("share", "create", "/home/by-secret", *arguments)
    assert share["state"] == "sent", share
    secret = sealed_values(pair.alice)["sent_shares", share["id"]]
    door = Door(f"{pair.alice.url}/dav/ocm/", user=secret)
    kinds = (Curl, Rclone, Cadaver)
    clients: dict[str, Client] = {kind.__name__: kind(door, tmp_path / kind.__name__, rclone) for kind in kinds}
    check_works_until_revoked(pair, share["id"], folder, clients)


def test_running_transfers_through_the_receiver_are_cut(pair: Pair, tmp_path: Path, rclone: str) -> None:
    """Two downloads and an upload, each of which would last two minutes, end in time and leave what was there."""
    folder = pair.folder("running-through-bob", old_txt=b"old")
    for file in (folder / "big", tmp_path / "up"):
        with file.open("wb") as sparse:
            sparse.truncate(SIZE)
    share = pair.share("running-through-bob", "read,write")
    received = pair.accept(share)
    door = Door(pair.bob.url + pair.bobs_url(received), user="bob", password=BOB)
    unbuffered = ("--bwlimit", RATE, "--buffer-size", "0", "--multi-thread-streams", "0")
    limited = [*curl(door), "--limit-rate", RATE]
    commands = (
        [*limited, "--output", str(tmp_path / "curl"), f"{door.url}big"],
        [*limited, "--upload-file", str(tmp_path / "up"), f"{door.url}old.txt"],
    )
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, **silent) for command in commands]
    running.append(rclone_at(door, rclone).begin(*unbuffered, "copyto", "dav:big", tmp_path / "rclone", **silent))
    try:
        eventually(lambda: _size(tmp_path / "curl") > 0 and _uploading(pair, folder), True)
        time.sleep(1)  # rclone writes under another name, if at all
        assert [process.poll() for process in running] == [None, None, None]
        pair.alice.json("share", "revoke", share["id"], "--as", "alice")
        deadline = time.monotonic() + CUT_AFTER
        statuses = [process.wait(max(0, deadline - time.monotonic())) for process in running]
        assert all(statuses), statuses
    finally:
        for process in running:
            process.kill()
            process.wait()
    eventually(lambda: _uploading(pair, folder), False)
    assert (folder / "old.txt").read_bytes() == b"old"
    assert sorted(path.name for path in folder.iterdir()) == ["big", "old.txt"]


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _uploading(pair: Pair, folder: Path) -> bool:
    """Tell whether alice's gateway holds an unnamed file in the folder that has something in it."""
    assert pair.alice.process is not None
    descriptors = Path(f"/proc/{pair.alice.process.pid}/fd")
    for descriptor in descriptors.iterdir():
        try:
            target = os.readlink(descriptor)
            if target.startswith(f"{folder}/#") and descriptor.stat().st_size > 0:
                return True
        except FileNotFoundError:  # closed meanwhile
            continue
    return False
