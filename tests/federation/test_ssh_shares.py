"""A Share that is offered by SSH alone, at a gateway of its own process: OpenSSH's sshd is the sender's storage."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from parts import offer
from peer_servers import PeerServer, peer_server
from sftp_servers import Server, sshd, user
from sites import Site

from gateway.ocm.ssh_keys import parse_public_key

PASSWORD = "battery staple"
LISTING = "/dav/files/bob/received/data/"
FILE = f"{LISTING}table.csv"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    federation = {"allow_http": ["localhost", "127.0.0.1"], "allow_networks": ["127.0.0.0/8", "::1/128"]}
    with Site(tmp_path_factory.mktemp("bob"), federation=federation) as started:
        started.add_user("bob", PASSWORD)
        yield started


@pytest.fixture
async def sender(tmp_path: Path, site: Site) -> AsyncIterator[PeerServer]:
    async with peer_server(tmp_path / "sender", time.time) as peer:
        peer.serve("/ocm/notifications", {}, status=201)
        yield peer


async def say(sender: PeerServer, site: Site, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Send a signed message of the sender to bob's gateway."""
    message = sender.message(path, json.dumps(body).encode(), to=site.url)
    headers = {"Content-Type": "application/json", **dict(message.headers)}

    def post() -> tuple[int, Any]:
        with closing(http.client.HTTPConnection(urlsplit(site.url).netloc, timeout=30)) as connection:
            connection.request("POST", path, message.body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    return await asyncio.to_thread(post)


async def bob(site: Site, method: str, target: str, body: bytes | None = None, **headers: str) -> Any:
    return await asyncio.to_thread(site.http, method, target, body, headers, user="bob", password=PASSWORD)


async def test_the_life_of_a_share_by_ssh(site: Site, server: Server, sender: PeerServer) -> None:
    (server.data / "table.csv").write_bytes(b"1,2")
    ssh = {"uri": f"{user()}@127.0.0.1:{server.port}{server.data}"}
    share = offer({"ssh": ssh}, f"carol@{sender.server}", shareWith=f"bob@{site.server}")
    status, answer = await say(sender, site, "/ocm/shares", share)
    assert status == 201
    (line,) = answer["recipientPublicKeys"]
    authorized = server.place / "authorized_keys"
    authorized.write_text(f"{line}\n")

    (row,) = await asyncio.to_thread(site.json, "received", "list", "--as", "bob")
    refused = await asyncio.to_thread(site.cli, "received", "accept", row["id"], "--as", "bob")
    fingerprint = parse_public_key((server.place / "host_key.pub").read_text()).fingerprint
    assert (refused.returncode, fingerprint in refused.stderr) == (1, True)
    accept = ("received", "accept", row["id"], "--as", "bob", "--host-key", fingerprint)
    accepted = await asyncio.to_thread(site.json, *accept)
    assert (accepted["state"], accepted["problem"], accepted["permissions"]) == ("accepted", None, ["read"])

    assert (await bob(site, "GET", FILE)).body == b"1,2"
    assert b"table.csv" in (await bob(site, "PROPFIND", LISTING, Depth="1")).body
    assert (await bob(site, "PUT", f"{LISTING}new", b"x")).status == 403
    change = {
        "notificationType": "SHARE_CHANGE_PERMISSION",
        "senderDomain": sender.server,
        "resourceType": "folder",
        "providerId": "provided-1",
        "notification": {"file": {"providerId": "provided-1", "permissions": ["read", "write"]}},
    }
    assert (await say(sender, site, "/ocm/notifications", change))[0] == 201
    assert (await bob(site, "PUT", f"{LISTING}new", b"x" * 100_000)).status == 201
    assert (server.data / "new").read_bytes() == b"x" * 100_000

    server.stop()
    assert (await bob(site, "GET", FILE)).status == 503
    stale = await bob(site, "PROPFIND", LISTING, Depth="1")
    assert (stale.status, b"table.csv" in stale.body) == (207, True), "what was there is shown"
    authorized.write_text("")
    server.start()
    deadline = time.monotonic() + 20
    while (again := await bob(site, "GET", FILE)).status == 503:  # until its silence is over
        assert time.monotonic() < deadline
    assert again.status == 403, "the server does not know the key any more"

    private = b"OPENSSH PRIVATE KEY"
    kept = [path for path in (site.directory / "state").rglob("*") if path.is_file()]
    assert [path for path in (*kept, site.log) if private in path.read_bytes()] == []
