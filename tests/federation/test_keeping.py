"""Received Shares kept as files, between two gateways with a link between them that may fail."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faulty_link import FaultyLink
from memory import memory_growth
from pairs import BOB, Pair
from sites import Site, eventually, free_port

MIB = 1 << 20
SLOW = 0.05  # seconds each way: of forty files, some have come and some have not when the test looks
FLAT = 64 * MIB


@pytest.fixture(scope="module")
def link() -> Iterator[FaultyLink]:
    """What bob's gateway meets under the name of alice's."""
    with FaultyLink(free_port()) as link:
        yield link


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, link: FaultyLink) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("keeping")
    alice = Site(directory / "alice", port=link.port, listen={"http": f"127.0.0.1:{link.target}", "metrics": None})
    with alice, Site(directory / "bob") as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        yield pair
        for site in (alice, bob):
            assert "Traceback" not in site.log.read_text(), site.log.read_text()


@dataclass(frozen=True)
class Shared:
    """A folder of alice's, and bob's name for it: the id of the Share, and what lies in it."""

    folder: Path
    name: str

    @property
    def id(self) -> str:
        return self.name.partition("/")[0]

    def sub(self, name: str) -> Shared:
        """Make a folder in this one."""
        (self.folder / name).mkdir()
        return Shared(self.folder / name, f"{self.name}/{name}")


@pytest.fixture(scope="module")
def shared(pair: Pair) -> Shared:
    return Shared(pair.folder("shared"), accepted(pair, "shared")[1])


@pytest.fixture(scope="module")
def forty(shared: Shared) -> Shared:
    """Forty files, of which a copy over a slow link takes a second or two."""
    forty = shared.sub("forty")
    for number in range(40):
        (forty.folder / f"{number}").write_bytes(os.urandom(50_000))
    return forty


@pytest.fixture(autouse=True)
def well_again(link: FaultyLink) -> Iterator[None]:
    yield
    link.latency = 0.0


def accepted(pair: Pair, name: str) -> tuple[dict[str, Any], str]:
    """Let bob accept a folder of alice's; return the Share as she has it, and his id of it."""
    share = pair.share(name)
    return share, str(pair.accept(share)["id"])


def cp(pair: Pair, source: str, target: str, *more: str) -> tuple[int, dict[str, Any]]:
    done = pair.bob.cli("received", "cp", source, target, "--as", "bob", "--json", *more)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def shown(pair: Pair, share_id: str) -> dict[str, str]:
    """Return where a Share was kept, and how that has ended."""
    kept = pair.bob.json("received", "show", share_id, "--as", "bob")["kept"]
    return {copy["path"]: copy["state"] for copy in kept}


@contextmanager
def copying(pair: Pair, source: str, target: str, least: int) -> Iterator[subprocess.Popen[str]]:
    """Run a copy into `target` below bob's /home beside the block, which begins when `least` files have come."""
    command = [*pair.bob.command, "received", "cp", source, f"/home/{target}", "--as", "bob"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = pair.bob.data / target
    eventually(lambda: folder.is_dir() and len(os.listdir(folder)) >= least, True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_share_is_accepted_into_a_mount_and_the_file_server_beside_has_it(pair: Pair) -> None:
    folder = pair.folder("story", a_txt=b"alpha")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.bin").write_bytes(os.urandom(3 * MIB))
    os.utime(folder / "a.txt", (1_700_000_000, 1_700_000_000))
    received = pair.received(pair.share("story"))
    result = pair.bob.json("received", "accept", received["id"], "--as", "bob", "--into", "/home/story")
    assert (result["mount"], result["copy"]["state"], result["copy"]["files"]) == ("/received/story", "done", 2)
    kept = pair.bob.data / "story"
    assert contents(kept) == contents(folder)
    assert (kept / "a.txt").stat().st_mtime == 1_700_000_000
    assert pair.bob.http("GET", "/dav/files/bob/home/story/a.txt", user="bob", password=BOB).body == b"alpha"

    (folder / "a.txt").write_bytes(b"ALPHA")
    status, again = cp(pair, received["id"], "/home/story")
    assert (status, again["files"], again["skipped"]) == (0, 1, 1)
    assert (kept / "a.txt").read_bytes() == b"ALPHA"
    (kept / "a.txt").write_bytes(b"mine!")
    status, again = cp(pair, received["id"], "/home/story")
    assert (status, again["state"], [one["path"] for one in again["failures"]]) == (1, "incomplete", ["a.txt"])
    assert (kept / "a.txt").read_bytes() == b"mine!"
    status, again = cp(pair, received["id"], "/home/story", "--overwrite")
    assert (status, (kept / "a.txt").read_bytes()) == (0, b"ALPHA")

    status, part = cp(pair, f"{received['id']}/sub/b.bin", "/home/b.bin")
    assert (status, part["files"]) == (0, 1)
    assert shown(pair, received["id"]) == {"/home/story": "done", "/home/b.bin": "done"}
    text = pair.bob.cli("received", "show", received["id"], "--as", "bob").stdout
    assert "kept as files:" in text
    assert text.count("share.copied") == 5


def test_a_thousand_small_files(pair: Pair, shared: Shared) -> None:
    many = shared.sub("many")
    for number in range(1000):
        file = many.folder / f"{number % 7}" / f"{number}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"%d" % number)
    status, result = cp(pair, many.name, "/home/many")
    assert (status, result["files"], result["failed"]) == (0, 1000, 0)
    assert contents(pair.bob.data / "many") == contents(many.folder)
    status, result = cp(pair, many.name, "/home/many")
    assert (status, result["files"], result["skipped"]) == (0, 0, 1000)


def test_memory_does_not_grow_with_the_file(pair: Pair, shared: Shared) -> None:
    large = shared.sub("large")
    (large.folder / "warm").write_bytes(b"warm")
    assert cp(pair, large.name, "/home/large")[0] == 0
    size = 256 * MIB
    with (large.folder / "large").open("wb") as file:
        file.truncate(size)
    results: list[tuple[int, dict[str, Any]]] = []
    assert pair.bob.process is not None
    (growth,) = memory_growth([pair.bob.process.pid], lambda: results.append(cp(pair, large.name, "/home/large")))
    assert results[0][0] == 0
    assert results[0][1]["bytes"] == size
    assert (pair.bob.data / "large" / "large").stat().st_size == size
    assert growth < FLAT, f"{growth / MIB:.0f} MiB"


def test_sigkill_in_the_middle_leaves_whole_files_and_the_same_copy_goes_on(
    pair: Pair, link: FaultyLink, forty: Shared
) -> None:
    link.latency = SLOW
    with copying(pair, forty.name, "killed", 5) as process:
        pair.bob.kill()
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "safe to repeat" in error
    link.latency = 0.0
    pair.bob.start()
    kept, wanted = pair.bob.data / "killed", contents(forty.folder)
    before = contents(kept)
    assert 5 <= len(before) < 40
    assert before.items() <= wanted.items(), "each is whole"
    assert shown(pair, forty.id)["/home/killed"] == "interrupted"
    status, result = cp(pair, forty.name, "/home/killed")
    assert (status, result["files"] + result["skipped"]) == (0, 40)
    assert result["skipped"] >= len(before)
    assert contents(kept) == wanted, "and no debris"
    assert shown(pair, forty.id)["/home/killed"] == "done"


def test_a_cut_in_the_middle_of_a_file_leaves_it_whole_or_absent(pair: Pair, link: FaultyLink, shared: Shared) -> None:
    """It is read on where the connection broke, unless that was in its first piece."""
    cut = shared.sub("cut")
    (cut.folder / "file").write_bytes(os.urandom(8 * MIB))
    link.cut_after(3 * MIB)
    _, result = cp(pair, cut.name, "/home/cut")
    wanted = contents(cut.folder)
    assert contents(pair.bob.data / "cut") == (wanted if result["state"] == "done" else {}), result
    assert cp(pair, cut.name, "/home/cut")[0] == 0
    assert contents(pair.bob.data / "cut") == wanted


def test_a_sender_that_goes_away_ends_the_copy_and_its_return_lets_it_go_on(
    pair: Pair, link: FaultyLink, forty: Shared
) -> None:
    link.latency = SLOW
    with copying(pair, forty.name, "away", 5) as process:
        link.down()
        out, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped: the sender's storage" in error
    assert pair.alice.server in error
    assert "(stopped)" in out
    before, wanted = contents(pair.bob.data / "away"), contents(forty.folder)
    assert 5 <= len(before) < 40
    assert before.items() <= wanted.items()
    link.latency = 0.0
    link.up()
    received = "/dav/files/bob/received/shared/forty/0"  # asked again when the breaker says so
    eventually(lambda: pair.bob.http("GET", received, user="bob", password=BOB).status, 200, 60)
    assert cp(pair, forty.name, "/home/away")[0] == 0
    assert contents(pair.bob.data / "away") == wanted


def test_a_share_that_is_revoked_ends_the_copy_and_what_was_copied_stays(pair: Pair, link: FaultyLink) -> None:
    folder = pair.folder("revoked")
    for number in range(40):
        (folder / f"{number}").write_bytes(b"%d" % number)
    share, share_id = accepted(pair, "revoked")
    link.latency = SLOW
    with copying(pair, share_id, "revoked", 5) as process:
        pair.alice.json("share", "revoke", share["id"], "--as", "alice")
        _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "stopped: " in error
    assert 5 <= len(contents(pair.bob.data / "revoked")) < 40
    assert shown(pair, share_id) == {"/home/revoked": "stopped"}
    again = pair.bob.cli("received", "cp", share_id, "/home/revoked", "--as", "bob")
    assert (again.returncode, "revoked" in again.stderr) == (1, True)


def test_a_command_that_is_interrupted_leaves_the_copy_to_the_gateway(
    pair: Pair, link: FaultyLink, forty: Shared
) -> None:
    link.latency = SLOW
    with copying(pair, forty.name, "left", 2) as process:
        link.latency = 0.3  # so slow that the next command has started before its end, however busy the machine is
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "goes on" in error
    status, result = cp(pair, forty.name, "/home/left")  # joins it
    assert (status, result["files"], result["skipped"]) == (0, 40, 0)


def test_a_copy_is_stopped_by_command(pair: Pair, link: FaultyLink, forty: Shared) -> None:
    link.latency = SLOW
    with copying(pair, forty.name, "stopped", 2) as process:
        status, result = cp(pair, forty.name, "/home/stopped", "--stop")
        _, error = process.communicate(timeout=20)
    assert (status, process.returncode) == (0, 1)
    assert result["reason"] == "(operator) has stopped it"
    assert "(operator) has stopped it" in error
    assert len(contents(pair.bob.data / "stopped")) < 40


def test_a_terminal_shows_how_far_it_is(pair: Pair, link: FaultyLink, forty: Shared) -> None:
    link.latency = SLOW
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed (pty(7))
                return
            if not piece:
                return
            seen.extend(piece)

    reading = threading.Thread(target=read)
    reading.start()
    command = [*pair.bob.command, "received", "cp", forty.name, "/home/watched", "--as", "bob"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=60, check=True)
    os.close(theirs)
    reading.join(10)
    os.close(ours)
    assert done.stdout == "/home/watched: 40 files copied, 0 there already, 1.9 MiB (done).\n"
    assert b" files copied, 0 there already, " in seen
