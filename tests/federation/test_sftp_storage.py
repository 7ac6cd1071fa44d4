"""A gateway in front of an SSH server: litmus and rclone are content, and a Share from it is read and written."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
from pairs import ALICE, BOB, Pair
from rclone_client import RcloneClient
from sftp_servers import Server, known_hosts_line, make_key, sshd
from sites import Site, eventually

SUITES = {"basic": 16, "copymove": 13, "props": 30, "locks": 41, "http": 4}  # as in tests/dav/test_litmus.py
CONTENT = os.urandom(2_000_003)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("ssh")) as started:
        yield started


def section(server: Server, root: str) -> dict[str, object]:
    account = server.account()
    return {
        "type": "sftp",
        "host": account.host,
        "port": account.port,
        "user": account.user,
        "root": root,
        "key_file": str(account.key_file),
        "known_hosts_file": str(account.known_hosts_file),
        "connections": 2,
    }


@pytest.fixture(scope="module")
def pair(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two sites, of which alice's has its files on the SSH server."""
    directory = tmp_path_factory.mktemp("sites")
    root = directory / "alice" / "data"
    with (
        Site(directory / "alice", backends={"storage": section(server, str(root))}) as alice,
        Site(directory / "bob") as bob,
    ):
        pair = Pair(alice, bob)
        pair.add_users()
        yield pair
        assert "Traceback" not in alice.log.read_text()


def test_litmus_passes_whole(pair: Pair, tmp_path: object) -> None:
    done = subprocess.run(
        ["litmus", "--keep-going", f"{pair.alice.url}/dav/files/alice/home/", "alice", ALICE],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=str(tmp_path),
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TESTS": " ".join(SUITES)},
    )
    assert done.returncode == 0, done.stdout
    summaries = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed, 0 failed. 100.0%", done.stdout)
    assert {suite: int(count) for suite, count, _ in summaries} == SUITES, done.stdout


def test_a_share_from_it_is_read_and_written_by_another_gateway(pair: Pair) -> None:
    """Bob reads what lies on the SSH server and puts a file there; a wrong digest leaves nothing."""
    folder = pair.folder("results", a_txt=CONTENT)
    received = pair.accept(pair.share("results", "read,write"))

    def as_bob(method: str, name: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        reply = pair.bob.http(method, pair.bobs_url(received, name), body, sent, user="bob", password=BOB)
        return reply.status, reply.body

    assert as_bob("GET", "a.txt") == (200, CONTENT)
    assert as_bob("GET", "a.txt", Range="bytes=1000000-1000009") == (206, CONTENT[1_000_000:1_000_010])
    assert as_bob("PUT", "b.txt", CONTENT[1:])[0] == 201
    assert (folder / "b.txt").read_bytes() == CONTENT[1:]
    assert as_bob("PUT", "c.txt", b"abc", Content_Digest=f"sha-256=:{'A' * 43}=:")[0] == 400
    assert as_bob("DELETE", "a.txt")[0] == 204
    assert os.listdir(folder) == ["b.txt"]


def test_rclone_copies_a_tree_into_a_share_of_it_and_back(
    pair: Pair, rclone: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At the other gateway."""
    folder = pair.folder("shared")
    received = pair.accept(pair.share("shared", "read,write"))
    place = tmp_path_factory.mktemp("rclone")
    (place / "there" / "folder").mkdir(parents=True)
    (place / "there" / "folder" / "file").write_bytes(CONTENT)
    (place / "there" / "ü €.txt").write_bytes(b"small")
    bobs = RcloneClient(rclone, f"{pair.bob.url}{pair.bobs_url(received)}", "bob", BOB)
    bobs("copy", place / "there", "dav:tree")
    assert (folder / "tree" / "folder" / "file").read_bytes() == CONTENT
    bobs("copy", "dav:tree", place / "back")
    assert (place / "back" / "folder" / "file").read_bytes() == CONTENT
    assert (place / "back" / "ü €.txt").read_bytes() == b"small"


def test_a_server_with_another_key_is_said_at_the_start_and_by_the_command(server: Server, tmp_path_factory) -> None:
    """Whoever uses it gets 503; the other backend of the same gateway is not concerned."""
    directory = tmp_path_factory.mktemp("changed")
    known = directory / "known_hosts"
    known.write_text(known_hosts_line(server.port, make_key(directory / "other")))
    backends = {
        "lab": section(server, str(server.data)) | {"known_hosts_file": str(known)},
        "storage": {"type": "local", "root": str(server.data)},
    }
    mounts = [{"name": name, "backend": name, "path": "", "rights": "write"} for name in backends]
    with Site(directory / "site", backends=backends, mounts=mounts) as site:
        site.add_user("alice", ALICE)
        eventually(lambda: "REFUSED" in site.log.read_text(), True)
        told = {row["name"]: row for row in site.json("backend", "list")}
        assert (told["lab"]["type"], told["storage"]["problem"]) == ("sftp", None)
        assert "REFUSED" in told["lab"]["problem"]
        assert str(known) in told["lab"]["problem"]
        for name, status in (("lab", 503), ("storage", 207)):
            reply = site.http(
                "PROPFIND", f"/dav/files/alice/{name}/", None, {"Depth": "1"}, user="alice", password=ALICE
            )
            assert reply.status == status
