"""A Share by SSH between two gateways of ours, both with an SSH door, and with peers that know but one protocol.

Bob meets it in his own tree, where his gateway logs in with the key that it has for him, and with OpenSSH's sftp and a
key of his own, at the address that his gateway shows him.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pairs import Pair, two_sites
from peer_servers import peer_server
from sites import eventually

from gateway.ocm.ssh_keys import parse_public_key
from gateway.peersim import PRODUCTS

Request = Callable[..., Any]

REFUSED_AFTER = 1.0  # seconds from the end of `share revoke`
CUT_AFTER = 5.0
BOTH = ("--protocols", "webdav,ssh")
BY_SSH = ("--protocols", "ssh")
HOST_KEYS = ("ssh_host_ed25519", "ssh_host_ecdsa", "ssh_host_rsa")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    federation = {"allow_http": ["localhost", "127.0.0.1"], "allow_networks": ["127.0.0.0/8", "::1/128"]}
    with two_sites(tmp_path_factory.mktemp("both"), has_ssh=True, federation=federation) as pair:
        yield pair


class Sftp:
    """OpenSSH's sftp with a key; it believes the host key that it meets first, and keeps that."""

    def __init__(self, directory: Path) -> None:
        self.key = directory / "id"
        self.known_hosts = directory / "known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.public = parse_public_key(self.key.with_name("id.pub").read_text())

    def command(self, typed: list[str]) -> list[str]:
        """Return the command that somebody was told to type, with the key, and reading what to do from stdin."""
        given = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self.known_hosts),
        }
        options = [word for name, value in given.items() for word in ("-o", f"{name}={value}")]
        return [typed[0], "-F", "/dev/null", "-i", str(self.key), *options, "-b", "-", *typed[1:]]

    def __call__(self, typed: list[str], commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(typed), input=commands, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def sftp(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Sftp:
    """Bob's, whose key he has added at his own gateway."""
    sftp = Sftp(tmp_path_factory.mktemp("key"))
    pair.bob.json("user", "key", "add", "bob", "--key-file", f"{sftp.key}.pub")
    return sftp


def shown(pair: Pair, received: dict[str, Any], word: str) -> list[str]:
    """Return the words of the line that begins with `word`, of what bob's gateway shows him of a Share."""
    text = pair.bob.cli("received", "show", received["id"], "--as", "bob").stdout
    (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{word} ")]
    return shlex.split(line)


def typed(received: dict[str, Any]) -> list[str]:
    """Return the words of that line, from what the Share says in JSON."""
    login, _, door = received["ssh"].partition("@")
    host, _, port = door.rstrip("/").rpartition(":")
    return ["sftp", "-P", port, f"{login}@{host}:/"]


def logins(pair: Pair, share: dict[str, Any]) -> set[str]:
    """Return the fingerprints of the keys that have come into a Share by alice's SSH door, by her log."""
    lines = [line for line in pair.alice.log.read_text().splitlines() if f"principal=share:{share['id']}" in line]
    words = [word for line in lines if "ssh.login" in line for word in line.split()]
    return {word.removeprefix("key=") for word in words if word.startswith("key=")}


def host_key(pair: Pair) -> str:
    """Return the fingerprint that alice tells whoever asks: that of her server's Ed25519 key."""
    (key,) = [key for key in pair.alice.json("keys", "list") if key["kid"] == HOST_KEYS[0]]
    return str(key["fingerprint"])


@pytest.fixture(scope="module")
def told(pair: Pair) -> str:
    """The host key of alice's door, as she tells it to bob."""
    return host_key(pair)


def accept(pair: Pair, share: dict[str, Any], told: str) -> dict[str, Any]:
    """Let bob accept what is offered by SSH alone, with the host key that alice has told him."""
    words = ("received", "accept", pair.received(share)["id"], "--as", "bob", "--host-key", told)
    accepted = pair.bob.json(*words)
    assert (accepted["state"], accepted["problem"]) == ("accepted", None)
    return dict(accepted)


# --- both protocols -------------------------------------------------------------------------------------------------


def test_by_both_protocols_it_is_read_and_written_both_ways(
    pair: Pair, as_bob: Request, sftp: Sftp, tmp_path: Path
) -> None:
    folder = pair.folder("both", a_txt=b"alpha")
    share = pair.share("both", "read,write", *BOTH)
    assert share["protocols"] == ["webdav", "ssh"]
    received = pair.accept(share)
    assert as_bob("GET", pair.bobs_url(received, "a.txt")).body == b"alpha"
    assert as_bob("PUT", pair.bobs_url(received, "b.txt"), b"beta").status == 201
    assert logins(pair, share) == set(), "bob's gateway has come by WebDAV"

    assert shown(pair, received, "sftp") == typed(received)
    done = sftp(typed(received), f"get b.txt {tmp_path}/\nput {tmp_path}/b.txt c.txt\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.txt").read_bytes() == b"beta"
    assert as_bob("GET", pair.bobs_url(received, "c.txt")).body == b"beta"
    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", "c.txt"}
    assert logins(pair, share) == {sftp.public.fingerprint}


def test_both_keys_of_the_receiver_open_this_share_and_no_other(pair: Pair, sftp: Sftp, tmp_path: Path) -> None:
    pair.folder("mine", a_txt=b"alpha")
    pair.folder("others", b_txt=b"beta")
    share = pair.share("mine", "read", *BOTH)
    keys = {key["fingerprint"] for key in pair.sent(share)["keys"]}
    assert len(keys) == 2, "the gateway's for bob, and bob's own"
    assert sftp.public.fingerprint in keys
    received = pair.accept(share)
    listed = sftp(typed(received), "ls -1 /\nls /../others\n").stdout.splitlines()
    assert [line for line in listed if not line.startswith("sftp>")] == ["/a.txt"]

    stranger = Sftp(tmp_path)
    assert "Permission denied" in stranger(typed(received), "ls\n").stderr


# --- SSH alone ------------------------------------------------------------------------------------------------------


def test_by_ssh_alone_it_is_accepted_with_the_host_key_that_is_shown_before(
    pair: Pair, as_bob: Request, sftp: Sftp, told: str
) -> None:
    pair.folder("alone", a_txt=b"alpha")
    share = pair.share("alone", "read", *BY_SSH)
    assert share["protocols"] == ["ssh"]
    received = pair.received(share)
    assert shown(pair, received, "host key:")[2] == told
    refused = pair.bob.cli("received", "accept", received["id"], "--as", "bob")
    assert refused.returncode == 1
    assert f"--host-key {told}" in refused.stderr
    assert pair.received(share)["state"] == "pending"
    assert logins(pair, share) == set()

    accepted = accept(pair, share, told)
    assert accepted["mount"] == "/received/alone"
    pair.alice_sees(share, "accepted")
    assert as_bob("GET", pair.bobs_url(accepted, "a.txt")).body == b"alpha"
    assert b"/received/alone/a.txt" in as_bob("PROPFIND", pair.bobs_url(accepted), Depth="1").body
    keys = {key["fingerprint"] for key in pair.sent(share)["keys"]}
    assert logins(pair, share) == keys - {sftp.public.fingerprint}

    assert sftp(typed(accepted), "ls\n").returncode == 0
    scanned = subprocess.run(["ssh-keygen", "-lf", sftp.known_hosts], capture_output=True, text=True, check=True)
    assert told in scanned.stdout, "that is the key which sftp has met"


def test_by_ssh_alone_the_permissions_are_the_senders(
    pair: Pair, as_bob: Request, sftp: Sftp, told: str, tmp_path: Path
) -> None:
    folder = pair.folder("granted", a_txt=b"alpha")
    share = pair.share("granted", "read", *BY_SSH)
    received = accept(pair, share, told)
    (tmp_path / "up").write_bytes(b"new")
    for verb, name in (("PUT", "new"), ("MKCOL", "d"), ("DELETE", "a.txt")):
        assert as_bob(verb, pair.bobs_url(received, name), b"x" if verb == "PUT" else None).status == 403
    for command in (f"put {tmp_path}/up new", "rm a.txt", "mkdir d"):
        assert "denied" in sftp(typed(received), f"{command}\n").stderr
    assert [path.name for path in folder.iterdir()] == ["a.txt"]

    pair.alice.json("share", "update", share["id"], "--permissions", "read,write", "--as", "alice")
    eventually(lambda: pair.received(share)["permissions"], ["read", "write"])
    content = os.urandom(300_000)
    assert as_bob("PUT", pair.bobs_url(received, "b"), content).status == 201
    assert as_bob("PUT", pair.bobs_url(received, "b"), content[::-1]).status == 204
    assert (folder / "b").read_bytes() == content[::-1]
    assert as_bob("MKCOL", pair.bobs_url(received, "d")).status == 201
    destination = pair.bob.url + pair.bobs_url(received, "d/b")
    assert as_bob("MOVE", pair.bobs_url(received, "b"), Destination=destination).status == 201
    assert as_bob("DELETE", pair.bobs_url(received, "a.txt")).status == 204
    done = sftp(typed(received), f"put {tmp_path}/up new\nrm d/b\n")
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["d", "new"]


def test_by_his_own_door_bob_works_in_what_he_has_received_by_ssh(
    pair: Pair, sftp: Sftp, told: str, tmp_path: Path
) -> None:
    """sftp at bob's gateway, which does the same at alice's."""
    content = os.urandom(300_000)
    folder = pair.folder("through", a_txt=content)
    share = pair.share("through", "read,write", *BY_SSH)
    accept(pair, share, told)
    eventually(lambda: pair.received(share)["permissions"], ["read", "write"])
    (tmp_path / "up").write_bytes(content + b"more")
    bobs = ["sftp", "-P", str(pair.bob.ssh_port), "bob@localhost:/received/through"]
    done = sftp(
        bobs,
        f"get a.txt {tmp_path}/down\nput {tmp_path}/up b\nput {tmp_path}/up a.txt\ncp b c\n"
        f"mkdir d\nrename b d/b\nrm c\nls d\n",
    )
    assert done.returncode == 0, done.stderr
    assert "d/b" in done.stdout
    assert (tmp_path / "down").read_bytes() == content
    assert (folder / "a.txt").read_bytes() == (folder / "d" / "b").read_bytes() == content + b"more"
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "d"]


def test_a_file_by_ssh_alone_is_a_file(pair: Pair, as_bob: Request, told: str) -> None:
    (pair.alice.data / "single.csv").write_bytes(b"1,2,3")
    share = pair.share("single.csv", "read", *BY_SSH)
    received = accept(pair, share, told)
    assert (share["resource_type"], received["mount"]) == ("file", "/received/single.csv")
    assert as_bob("GET", pair.bobs_url(received).rstrip("/")).body == b"1,2,3"


# --- the end --------------------------------------------------------------------------------------------------------


def test_what_is_revoked_is_gone_for_both_keys_in_time(
    pair: Pair, as_bob: Request, sftp: Sftp, told: str, tmp_path: Path
) -> None:
    """New requests after one second, and a download that would take minutes within five."""
    folder = pair.folder("revoked", a_txt=b"alpha")
    with (folder / "big").open("wb") as file:
        file.truncate(64 << 20)
    share = pair.share("revoked", "read", *BY_SSH)
    received = accept(pair, share, told)
    assert as_bob("GET", pair.bobs_url(received, "a.txt")).status == 200
    program, *words = sftp.command(typed(received))
    slow = [program, "-l", "2000", *words]  # Kbit/s
    with subprocess.Popen(slow, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdin is not None
        running.stdin.write(f"get big {tmp_path}/\n".encode())
        running.stdin.close()
        try:
            eventually(lambda: (tmp_path / "big").exists() and (tmp_path / "big").stat().st_size > 0, True)
            pair.alice.json("share", "revoke", share["id"], "--as", "alice")
            revoked = time.monotonic()
            time.sleep(REFUSED_AFTER)
            assert "Permission denied" in sftp(typed(received), "ls\n").stderr
            assert as_bob("GET", pair.bobs_url(received, "a.txt")).status in (403, 404)
            assert running.wait(max(0.1, revoked + CUT_AFTER - time.monotonic())) != 0
        finally:
            running.kill()
    assert (tmp_path / "big").stat().st_size < 64 << 20
    pair.bob_sees(share, "revoked")
    assert pair.sent(share)["keys"] == []


def test_another_host_key_of_the_sender_is_refused_until_bob_accepts_it(
    pair: Pair, as_bob: Request, told: str, tmp_path: Path
) -> None:
    pair.folder("changed", a_txt=b"alpha")
    share = pair.share("changed", "read", *BY_SSH)
    received = accept(pair, share, told)
    with alices_host_keys(pair, pair.bob.directory / "state" / "keys", tmp_path):
        after = host_key(pair)
        assert as_bob("GET", pair.bobs_url(received, "a.txt")).status == 503
        problem = pair.bob.json("received", "accept", received["id"], "--as", "bob")["problem"]
        assert "REFUSED" in problem
        assert after in problem
        assert accept(pair, share, after)["host_key"]["fingerprint"] == after != told
        assert as_bob("GET", pair.bobs_url(received, "a.txt")).body == b"alpha"


@contextmanager
def alices_host_keys(pair: Pair, others: Path, before: Path) -> Iterator[None]:
    """Run alice's gateway with the host keys that lie in `others`; hers are in `before` meanwhile."""
    hers = pair.alice.directory / "state" / "keys"
    for source, target in ((hers, before), (others, hers)):
        for name in HOST_KEYS:
            shutil.copy2(source / name, target / name)
    pair.alice.stop()
    pair.alice.start()
    try:
        yield
    finally:
        for name in HOST_KEYS:
            shutil.copy2(before / name, hers / name)
        pair.alice.stop()
        pair.alice.start()


# --- peers that know one protocol -----------------------------------------------------------------------------------


@pytest.mark.parametrize("product", ["nextcloud-33", "reva"])
async def test_who_knows_webdav_alone_is_offered_nothing_else_and_works(pair: Pair, product: str) -> None:
    """reva refuses a Share as a whole for a protocol that it does not know (peers.md, section 9)."""
    folder = pair.folder(f"for-{product}", a_txt=b"alpha")
    fake = PRODUCTS[product]()
    await fake.start()
    try:
        (user,) = fake.users
        fake.befriend(user, f"alice@{pair.alice.server}")
        words = ("--as", "alice", "--with", fake.address(user), "--permissions", "read,write", *BOTH)
        made = await asyncio.to_thread(pair.alice.cli, "share", "create", f"/home/{folder.name}", *words)
        assert made.returncode == 0, made.stderr
        assert "it is not offered by SSH" in made.stderr
        (received,) = fake.received
        reached = await fake.accept(received)
        assert await reached.read("a.txt") == b"alpha"
        await reached.write("b.txt", b"beta")
        assert (folder / "b.txt").read_bytes() == b"beta"
        assert fake.journal.complaints == []
    finally:
        await fake.stop()


async def test_who_receives_by_ssh_alone_is_offered_that_alone(pair: Pair, tmp_path: Path) -> None:
    pair.folder("for-ssh", a_txt=b"alpha")
    carols = Sftp(tmp_path)
    async with peer_server(tmp_path / "peer", time.time) as peer:
        for entry in peer.document["resourceTypes"]:
            entry["protocols"] = {"ssh-receive": {}}
        answer = {"recipientDisplayName": "Carol", "recipientPublicKeys": [carols.public.line]}
        peer.serve("/ocm/shares", answer, status=201)
        words = ("--as", "alice", "--with", f"carol@{peer.server}", *BOTH)
        share = await asyncio.to_thread(pair.alice.json, "share", "create", "/home/for-ssh", *words)
        (asked,) = [json.loads(asked.body) for asked in peer.asked if asked.path == "/ocm/shares"]
    assert (share["state"], share["protocols"]) == ("sent", ["ssh"])
    assert asked["protocol"] == {"name": "multi", "ssh": {"uri": share["ssh"]}}
    done = carols(typed(share), f"get a.txt {tmp_path}/\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.txt").read_bytes() == b"alpha"
