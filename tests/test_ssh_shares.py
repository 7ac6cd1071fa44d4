"""Received Shares by SSH, on OpenSSH's sshd: which keys are told, which host key is believed, and what opens."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from parts import NOW, READ, WRITE, Clock, new_store, offer
from peer_servers import LOOPBACK, SERVER, PeerServer, client, peer_server
from sftp_servers import Server, make_key, sshd, user
from sites import free_port
from sqlalchemy import Connection

from backends.errors import PermissionDenied, Unavailable, Unreachable
from backends.interface import Entry, Kind
from backends.paths import StoragePath
from gateway.admitting import Admitting
from gateway.errors import Conflict, Invalid, PeerFailed
from gateway.key_pairs import KeyPairs
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.shares import ShareCreated, parse_share
from gateway.ocm.ssh_keys import parse_public_key
from gateway.ocm.states import ReceivedState
from gateway.outbound import Guard, SyncOutbound
from gateway.outbox import Outbox
from gateway.proof import Evidence, Peer
from gateway.receiving import ReceivedShareView, Receiving
from gateway.remote import Remote
from gateway.ssh_shares import SSHShares
from gateway.store import events, key_pairs, received_shares, user_keys, users
from gateway.store.engine import Store
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer
from gateway.store.user_keys import UserKey
from gateway.tree import Storage
from gateway.turns import Turns

SECRET = "shared-secret-of-a-share"
ROOT = StoragePath()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("sshd")) as started:
        yield started


class Place:
    """The Receiving Server over a real state; the sender's web server does as the test says, its SSH server is real."""

    def __init__(self, store: Store, directory: Path, peer: PeerServer, server: Server, peers: Any) -> None:
        self.store = store
        self.directory = directory
        self.peer = peer
        self.server = server
        self.clock = Clock()
        self.sealer = Sealer(b"k" * 32)
        self.key_pairs = KeyPairs(store, self.sealer, self.clock)
        self.outbound = SyncOutbound(Guard(LOOPBACK, lambda _host: True), user_agent="test")
        self.turns = Turns(directory / "turns")
        self.ssh = SSHShares(self.outbound, peers.breakers, self.key_pairs, directory / "journals")
        self.remote = Remote(
            *(store, peers, self.outbound, self.sealer, self.turns, self.ssh), server=SERVER, clock=self.clock
        )
        self.outbox = Outbox(store, self.clock)
        self.receiving = Receiving(
            *(store, peers, self.outbox, self.remote, self.sealer, self.key_pairs),
            server=SERVER,
            policy=Admitting((), auto_accept=(peer.server,)),
            groups={"staff": ("alice", "bob")},
            clock=self.clock,
        )
        self.outbox.start()
        self.root = directory / "shared"
        self.root.mkdir()
        (self.root / "table.csv").write_bytes(b"1,2")
        self.let_in()

    async def close(self) -> None:
        await self.outbox.stop()
        self.remote.close()
        self.outbound.close()
        self.turns.close()

    def let_in(self, *keys: str) -> None:
        """Authorise these keys at the SSH server, and no others."""
        (self.server.place / "authorized_keys").write_text("".join(f"{key}\n" for key in keys))

    def uri(self, path: str | None = None, port: int | None = None) -> str:
        return f"{user()}@127.0.0.1:{port or self.server.port}{self.root if path is None else path}"

    async def admit(
        self,
        *,
        ssh: dict[str, Any] | None = None,
        webdav: bool = False,
        evidence: Evidence = Evidence.RFC9421,
        **more: Any,
    ) -> ShareCreated:
        """Let the sender share the folder, by SSH and perhaps by WebDAV."""
        protocols: dict[str, Any] = {"ssh": {"uri": self.uri()} | (ssh or {})}
        if webdav:
            protocols["webdav"] = {"uri": "remote-1", "sharedSecret": SECRET, "permissions": ["read", "write"]}
        body = offer(protocols, f"carol@{self.peer.server}", **more)
        answer = await self.receiving.admit(Peer(self.peer.server, evidence), parse_share(body))
        self.let_in(*answer.recipient_public_keys)
        return answer

    def all(self) -> list[ReceivedShare]:
        return self.store.read_sync(lambda tx: received_shares.of_user(tx, None))

    @property
    def share(self) -> ReceivedShare:
        return next(share for share in self.all() if share.user == "alice")

    @property
    def fingerprint(self) -> str:
        return parse_public_key((self.server.place / "host_key.pub").read_text()).fingerprint

    async def accept(self, host_key: str | None = None) -> tuple[ReceivedShareView, str | None]:
        return await self.receiving.accept("alice", self.share.id, "alice", host_key)

    async def storage(self) -> Storage:
        return await self.remote.storage(self.share)

    async def get(self, path: str) -> bytes:
        storage = await self.storage()

        def work() -> bytes:
            with storage.backend.open_read(StoragePath.parse(path)) as reader:
                return reader.read_at(0, 1000)

        return await storage.pool.run(work)

    async def put(self, path: str, content: bytes) -> None:
        storage = await self.storage()

        def work() -> None:
            with storage.backend.open_write(StoragePath.parse(path)) as writer:
                writer.write(content)
                writer.commit()

        await storage.pool.run(work)


@pytest.fixture
async def place(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr("gateway.ssh_shares.PATIENCE", 30.0)  # a machine that is busy with tests is no silent server
    monkeypatch.setattr("gateway.receiving.PROBE_TIME", 30.0)
    store, clock = new_store(tmp_path), Clock()
    store.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "bob")])
    async with peer_server(tmp_path / "peer", clock) as peer, client(store, tmp_path / "gateway", clock) as peers:
        peer.serve("/ocm/notifications", {}, status=201)
        place = Place(store, tmp_path, peer, server, peers)
        yield place
        await place.close()
    store.close()


def own_key(directory: Path, name: str = "own") -> str:
    return parse_public_key(make_key(directory / name).with_name(f"{name}.pub").read_text()).line


# --- the answer -----------------------------------------------------------------------------------------------------


async def test_a_share_by_ssh_is_answered_with_the_users_keys(place: Place, tmp_path: Path) -> None:
    """MUST (draft-07, Response): recipientPublicKeys when the protocol was ssh. Ours comes first, then the user's."""
    mine = own_key(tmp_path)
    place.store.run_sync(lambda tx: user_keys.add(tx, "alice", UserKey(parse_public_key(mine), "laptop", NOW)))
    answer = await place.admit()
    ours = place.store.read_sync(lambda tx: key_pairs.public(tx, "alice"))
    assert answer == ShareCreated("alice", (ours, mine))
    assert parse_public_key(ours or "").algorithm == "ssh-ed25519"
    assert await place.admit() == answer, "the same Share again is answered the same"
    assert len(place.all()) == 1


async def test_without_ssh_no_key_is_told_and_none_is_made(place: Place) -> None:
    protocol = {"name": "multi", "webdav": {"uri": "remote-1", "sharedSecret": SECRET}}
    assert (await place.admit(protocol=protocol)).recipient_public_keys == ()
    assert place.store.read_sync(lambda tx: key_pairs.public(tx, "alice")) is None


async def test_a_key_is_told_for_every_member_of_a_group(place: Place) -> None:
    answer = await place.admit(shareWith=f"staff@{SERVER}", shareType="group")
    pairs = {place.store.read_sync(lambda tx, name=name: key_pairs.public(tx, name)) for name in ("alice", "bob")}
    assert set(answer.recipient_public_keys) == pairs
    assert len(pairs) == 2
    assert [share.state for share in place.all()] == ["pending", "pending"]


async def test_a_private_key_is_sealed_and_for_its_user_alone(place: Place) -> None:
    await place.admit()
    sealed = place.store.read_sync(lambda tx: key_pairs.sealed_private(tx, "alice"))
    assert sealed is not None
    assert b"PRIVATE KEY" not in sealed
    assert "PRIVATE KEY" in place.key_pairs.private("alice")
    place.store.run_sync(lambda tx: key_pairs.add(tx, "bob", "line", sealed, NOW))
    for name in ("bob", "nobody"):  # sealed for another, and none at all
        with pytest.raises(Unavailable):
            place.key_pairs.private(name)


async def test_no_private_key_comes_into_the_log(place: Place, server: Server) -> None:
    with structlog.testing.capture_logs() as lines:
        await place.admit()
        await place.accept(place.fingerprint)
        place.let_in()
        place.remote.forget(place.share.id)
        await place.remote.probe(place.share.id, 30)
    said = str(lines) + str(place.store.read_sync(lambda tx: events.about(tx, place.share.id)))
    assert not [line for line in place.key_pairs.private("alice").splitlines() if line in said]


# --- the host key ---------------------------------------------------------------------------------------------------


async def test_what_is_offered_by_ssh_alone_is_accepted_with_its_host_key_alone(place: Place) -> None:
    """Also where the user takes everything of this sender at once: nobody has seen that key."""
    await place.admit()
    assert place.share.state == "pending"
    with pytest.raises(Conflict) as refused:
        await place.accept()
    assert refused.value.code == "HOST_KEY_UNCONFIRMED"
    assert place.fingerprint in str(refused.value)
    assert place.share.state == "pending"
    assert (await place.receiving.host_key("alice", place.share.id)).fingerprint == place.fingerprint
    view, problem = await place.accept(place.fingerprint)
    assert (problem, view.state, view.share.mount, view.share.access) == (None, "accepted", "data", "ssh")
    assert parse_public_key(view.share.host_key or "").fingerprint == place.fingerprint
    assert view.share.permissions == READ
    assert await place.get("table.csv") == b"1,2"
    assert place.peer.count("/ocm/notifications") == 1, "SHARE_ACCEPTED"
    assert await place.accept() == (view, None) or place.share.state == "accepted", "once more changes nothing"


async def test_another_fingerprint_accepts_nothing(place: Place) -> None:
    await place.admit()
    for wrong in ("SHA256:AAAA", place.fingerprint.lower(), "*"):
        with pytest.raises(Conflict) as refused:
            await place.accept(wrong)
        assert refused.value.code == "OTHER_HOST_KEY"
        assert place.fingerprint in str(refused.value)
    assert (place.share.state, place.share.host_key) == ("pending", None)


async def test_a_changed_host_key_is_refused_until_it_is_accepted_too(place: Place, tmp_path: Path) -> None:
    await place.admit()
    await place.accept(place.fingerprint)
    before, (key, public) = place.fingerprint, (place.server.place / name for name in ("host_key", "host_key.pub"))
    old = key.read_bytes(), public.read_bytes()
    make_key(tmp_path / "new")
    try:
        place.server.stop()
        key.write_bytes((tmp_path / "new").read_bytes())
        public.write_bytes((tmp_path / "new.pub").read_bytes())
        place.server.start()
        place.ssh.close()
        problem = await place.remote.probe(place.share.id, 30)
        assert problem is not None
        assert "REFUSED" in problem
        assert place.fingerprint in problem
        view, problem = await place.accept()  # not silently
        assert problem is not None
        with pytest.raises(Conflict):
            await place.accept(before)
        view, problem = await place.accept(place.fingerprint)
        assert (problem, view.state) == (None, "accepted")
        assert await place.get("table.csv") == b"1,2"
        changes = [event.detail for event in view.history if event.action == "share.host-key"]
        assert changes[-1] == {"fingerprint": place.fingerprint, "before": before}
    finally:
        place.server.stop()
        key.write_bytes(old[0])
        public.write_bytes(old[1])
        place.server.start()


async def test_an_accepted_host_key_of_any_kind_is_found(place: Place, tmp_path: Path) -> None:
    """The sender may have told the fingerprint of another key of his server than the one that is shown first."""
    await place.admit()
    rsa = make_key(tmp_path / "rsa", "rsa")
    config = place.server.place / "config"
    before = config.read_text()
    try:
        place.server.stop()
        config.write_text(f"HostKey {rsa}\n{before}")
        place.server.start()
        told = parse_public_key(rsa.with_name("rsa.pub").read_text()).fingerprint
        assert (await place.receiving.host_key("alice", place.share.id)).fingerprint == place.fingerprint != told
        view, problem = await place.accept(told)
        assert (problem, parse_public_key(view.share.host_key or "").fingerprint) == (None, told)
    finally:
        place.server.stop()
        config.write_text(before)
        place.server.start()


async def test_a_server_that_is_down_is_accepted_from_nobody(place: Place) -> None:
    await place.admit(ssh={"uri": place.uri(port=free_port())})
    with pytest.raises(PeerFailed) as refused:
        await place.accept(place.fingerprint)
    assert refused.value.code == "PEER_UNREACHABLE"
    assert place.share.state == "pending"


# --- access ---------------------------------------------------------------------------------------------------------


async def test_what_the_server_no_longer_permits_is_refused(place: Place) -> None:
    """A revoked Share: the server does not know the key any more."""
    await place.admit()
    await place.accept(place.fingerprint)
    place.let_in()
    place.ssh.close()
    place.remote.forget(place.share.id)
    with pytest.raises(PermissionDenied, match="does not let our key in"):
        await place.get("table.csv")
    assert place.share.state == "accepted", "only its sender's word, or its user's, ends it"


async def test_the_sender_says_more_by_a_notification_alone(place: Place) -> None:
    """The draft has no permissions for ssh, so it is `read` until SHARE_CHANGE_PERMISSION says more."""
    await place.admit()
    await place.accept(place.fingerprint)
    assert place.share.permissions == READ
    notification = Notification(
        type=NotificationType.SHARE_CHANGE_PERMISSION,
        provider_id="provided-1",
        resource_type="folder",
        permissions=WRITE,
    )
    await place.receiving.notified(Peer(place.peer.server, Evidence.RFC9421), notification)
    assert place.share.permissions == WRITE
    await place.put("new.txt", b"new")
    assert (place.root / "new.txt").read_bytes() == b"new"


async def test_a_place_with_a_long_name_can_be_written_to(place: Place) -> None:
    root = place.root.joinpath(*("d" * 200 for _ in range(5)))
    root.mkdir(parents=True)
    await place.admit(ssh={"uri": place.uri(str(root))}, webdav=True)
    for path in ("/dav/ocm/remote-1", "/dav/ocm/"):
        place.peer.serve(path, {}, status=401)
    _, problem = await place.accept(place.fingerprint)
    assert problem is None
    await place.put("new.txt", b"new")
    assert (root / "new.txt").read_bytes() == b"new"


@pytest.mark.parametrize("path", ["/table.csv", ""], ids=["the file itself", "a folder with the file in it"])
async def test_a_shared_file_is_a_file(place: Place, path: str) -> None:
    await place.admit(ssh={"uri": place.uri(f"{place.root}{path}")}, resourceType="file", name="table.csv")
    view, problem = await place.accept(place.fingerprint)
    assert (problem, view.share.root_kind, view.share.root_size) == (None, Kind.FILE.value, 3)
    assert await place.get("") == b"1,2"


@pytest.mark.parametrize("path", ["", "/"], ids=["where the log-in leads", "the server's root"])
async def test_an_address_may_have_no_path_or_the_root(place: Place, path: str) -> None:
    await place.admit(ssh={"uri": place.uri(path)})
    view, problem = await place.accept(place.fingerprint)
    assert (problem, view.share.root_kind) == (None, Kind.DIRECTORY.value)


async def test_webdav_comes_first_where_it_works(place: Place) -> None:
    answer = await place.admit(webdav=True)
    assert place.share.state == "accepted", "at once, as its user has said"
    assert len(answer.recipient_public_keys) == 1
    place.peer.serve("/dav/ocm/remote-1", DOCUMENT, status=207)
    place.peer.serve("/ocm/token", {"access_token": "token", "token_type": "Bearer", "expires_in": 300})
    view, problem = await place.accept(place.fingerprint)
    assert (problem, view.share.access, view.share.permissions) == (None, "token", WRITE)


async def test_ssh_takes_the_place_of_a_webdav_that_does_not_work(place: Place) -> None:
    """With the rights that WebDAV was offered with; and never with a host key that nobody has accepted."""
    await place.admit(webdav=True)
    for path in ("/dav/ocm/remote-1", "/dav/ocm/"):
        place.peer.serve(path, {}, status=401)
    view, problem = await place.accept()
    assert problem is not None
    assert view.share.access is None
    view, problem = await place.accept(place.fingerprint)
    assert (problem, view.share.access, view.share.permissions) == (None, "ssh", WRITE)
    assert await place.get("table.csv") == b"1,2"
    await place.peer.stop()  # what is known of the sender is enough
    place.remote.forget(place.share.id)
    assert await place.get("table.csv") == b"1,2"
    await place.peer.start()


async def test_what_is_only_for_fetching_is_not_mounted(place: Place) -> None:
    """accessTypes (draft-07, Fields): `datatx` alone is for scp, with the user's own key; that is not `remote`."""
    answer = await place.admit(ssh={"accessTypes": ["datatx"]})
    assert answer.recipient_public_keys
    view, problem = await place.accept()
    assert (view.state, view.share.mount, problem) == ("accepted", None, None)
    assert view.share.ssh_uri == place.uri()
    assert place.store.read_sync(lambda tx: received_shares.accepted(tx, "alice", NOW)) == {}
    await place.remote._refresh_all()
    with pytest.raises(Invalid) as refused:
        await place.accept(place.fingerprint)
    assert refused.value.code == "NOT_BY_SSH"


async def test_a_share_that_is_left_frees_its_name_and_its_connections(place: Place) -> None:
    await place.admit()
    await place.accept(place.fingerprint)
    storage = await place.storage()
    await place.receiving.leave("alice", place.share.id, "alice")
    assert (place.share.state, place.share.mount) == (ReceivedState.LEFT, None)
    assert await place.remote.named(place.share.storage) is None
    await place.ssh.tidy()
    assert storage.backend is not None


# --- addresses ------------------------------------------------------------------------------------------------------

ELSEWHERE = "eve@127.0.0.2:{port}/x"


@pytest.mark.parametrize(
    ("evidence", "named", "is_tried"),
    [(Evidence.NONE, False, False), (Evidence.NONE, True, True), (Evidence.CAVAGE, False, True)],
    ids=["unsigned", "named in discovery", "signed"],
)
async def test_only_a_proven_sender_points_elsewhere(
    place: Place, evidence: Evidence, named: bool, is_tried: bool
) -> None:
    """An unsigned Share is met at the host of its sender, or at the SSH server that its sender's discovery names."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        other.settimeout(0.5)
        port = other.getsockname()[1]
        if named:
            for entry in place.peer.document["resourceTypes"]:
                entry["protocols"]["ssh"] = f"127.0.0.2:{port}"
        place.ssh._outbound = Dialled(place.outbound)
        await place.admit(ssh={"uri": ELSEWHERE.format(port=port)}, evidence=evidence)
        with pytest.raises(PeerFailed) as refused:
            await place.receiving.host_key("alice", place.share.id)
    assert place.ssh._outbound.dialled == ([f"127.0.0.2:{port}"] if is_tried else [])
    assert (refused.value.code == "FOREIGN_URI") is not is_tried


class Dialled:
    """Notes where a connection would go, and makes none."""

    def __init__(self, _outbound: SyncOutbound) -> None:
        self.dialled: list[str] = []

    def dial(self, server: str) -> socket.socket:
        self.dialled.append(server)
        raise Unreachable("not now")


async def test_an_address_that_may_not_be_contacted_is_not(place: Place) -> None:
    """Private addresses are for the operator to list (federation.allow_networks), by SSH as by HTTP."""
    strict = SyncOutbound(Guard((), lambda _host: True), user_agent="test")
    place.ssh._outbound = strict
    await place.admit()
    with pytest.raises(PeerFailed, match="allow_networks") as refused:
        await place.receiving.host_key("alice", place.share.id)
    assert refused.value.code == "ADDRESS_REFUSED"
    strict.close()


async def test_the_silence_of_an_ssh_server_is_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request does not wait; the sender's web server is asked as ever."""
    monkeypatch.setattr("gateway.ssh_shares.PATIENCE", 0.3)
    monkeypatch.setattr("gateway.breaker.HANG", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        await place.admit(ssh={"uri": place.uri(port=silent.getsockname()[1])})
        breakers, share = place.ssh._breakers, place.share
        for _ in range(2):
            with pytest.raises(PeerFailed):
                await place.receiving.host_key("alice", share.id)
    assert share.origin == f"ssh://127.0.0.1:{silent_port(share)}"
    assert breakers.standing(share.origin).state == "open"
    assert breakers.standing(share.server).state == "closed"
    (view,) = await place.receiving.list("alice")
    assert view.unreachable_since is not None


async def test_an_ssh_server_that_is_down_speaks_for_no_other_share_of_its_sender(place: Place) -> None:
    await place.admit(ssh={"uri": place.uri(port=free_port())})
    by_ssh = place.share
    await place.admit(webdav=True, providerId="provided-2", name="other", evidence=Evidence.CAVAGE)
    (other,) = [share for share in place.all() if share.provider_id == "provided-2"]
    place.peer.serve("/dav/ocm/remote-1", DOCUMENT, status=207)
    place.peer.serve("/ocm/token", {"access_token": "token", "token_type": "Bearer", "expires_in": 300})

    def accepted_before(tx: Connection) -> None:
        for share in (by_ssh, other):
            received_shares.set_state(tx, share.id, "accepted", NOW)
            received_shares.set_mount(tx, share.id, share.name)
        received_shares.set_host_key(tx, by_ssh.id, parse_public_key(own_key(place.directory)).line)
        received_shares.set_root(tx, by_ssh.id, Entry(b"", Kind.DIRECTORY, 0, 0, "e"), NOW)  # so that it comes first

    place.store.run_sync(accepted_before)
    await place.remote._refresh_all()
    looked_at = place.store.read_sync(lambda tx: received_shares.get(tx, other.id))
    assert looked_at is not None
    assert looked_at.access == "token"


def silent_port(share: ReceivedShare) -> int:
    assert share.ssh is not None
    return share.ssh.port


DOCUMENT = b"""<d:multistatus xmlns:d="DAV:"><d:response><d:href>/dav/ocm/remote-1</d:href><d:propstat><d:prop>
<d:resourcetype><d:collection/></d:resourcetype><d:getetag>"e1"</d:getetag>
<d:getlastmodified>Fri, 15 Jan 2027 08:00:00 GMT</d:getlastmodified></d:prop><d:status>HTTP/1.1 200 OK</d:status>
</d:propstat></d:response></d:multistatus>"""
