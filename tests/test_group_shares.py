"""Shares with a group of ours: one row per member, one Share to the sender; and the group follows the configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_peers import FakePeers
from parts import NOW, WRITE, Clock, new_store, offer, until
from sqlalchemy import Connection

from gateway.admitting import Admitting
from gateway.departing import Departing
from gateway.errors import Conflict, Invalid, NotAllowed, NotBuilt
from gateway.group_shares import GroupShares
from gateway.key_pairs import KeyPairs
from gateway.ocm.notifications import Notification, NotificationType
from gateway.ocm.secret import Secret
from gateway.ocm.shares import ShareCreationNotification, parse_share
from gateway.outbox import Outbox
from gateway.proof import Evidence, Peer
from gateway.receiving import PENDING_FROM_SERVER, Receiving
from gateway.store import contacts, outbox, received_shares, users
from gateway.store.contacts import Contact
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer, secret_hash

SERVER = "gateway.example"
SECRET = "shared-secret-of-a-share"
SIGNED = Peer("peer.example", Evidence.RFC9421)
T = NotificationType


class SeenRemote:
    """Every Remote Resource is there; keeps which were looked at."""

    def __init__(self) -> None:
        self.probed: list[str] = []

    async def probe(self, share_id: str, _timeout: float) -> str | None:
        self.probed.append(share_id)
        return None

    def forget(self, _share_id: str) -> None:
        return


class Place:
    """The group `staff` of alice and bob, with everything that is shared with it; carol is in no group yet."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: [users.add(tx, name, "hash", 0) for name in ("alice", "bob", "carol")])
        self.peers = FakePeers()
        self.sealer = Sealer(b"k" * 32)
        self.outbox = Outbox(self.store, self.clock)
        self.groups: dict[str, tuple[str, ...]] = {"staff": ("alice", "bob", "nobody-yet")}
        self.remote = SeenRemote()
        self.receiving = Receiving(
            *(self.store, self.peers, self.outbox, self.remote, self.sealer),
            KeyPairs(self.store, self.sealer, self.clock),
            server=SERVER,
            groups=self.groups,
            clock=self.clock,
        )
        departing = Departing(
            *(self.store, None, self.receiving, SeenRemote(), None, self.peers, self.outbox),
            server=SERVER,
            clock=self.clock,
        )
        self.group_shares = GroupShares(*(self.store, self.receiving, departing, self.sealer), self.groups, self.clock)
        self.outbox.start()

    async def admit(self, **changes: object) -> str | None:
        return (await self.receiving.admit(SIGNED, offered(**changes))).recipient_display_name

    def demand(self, *accept: str, auto: tuple[str, ...] = ()) -> None:
        """Let the operator demand something of senders, and take the Shares of `auto` at once."""
        self.receiving._policy = Admitting(accept, auto)

    def know(self, user: str, *, auto_accept: bool = False) -> None:
        """Make the sender a contact of `user`."""
        contact = Contact(user, "dave@peer.example", "dave", None, None, "by hand", False, auto_accept, NOW)
        self.store.run_sync(lambda tx: contacts.add(tx, contact))

    def rows(self) -> dict[str, ReceivedShare]:
        return {share.user: share for share in self.store.read_sync(lambda tx: received_shares.of_user(tx, None))}

    def states(self) -> dict[str, str]:
        return {user: share.state for user, share in self.rows().items()}

    async def accept(self, user: str) -> None:
        await self.receiving.accept(user, self.rows()[user].id, user)

    def said(self) -> list[str]:
        return [message.kind for message in self.store.read_sync(outbox.everything)]

    async def close(self) -> None:
        await self.outbox.stop()
        self.store.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    yield place
    await place.close()


def offered(**changes: object) -> ShareCreationNotification:
    webdav = {"uri": "1", "sharedSecret": SECRET, "permissions": ["read"]}
    to_staff = {"shareWith": f"staff@{SERVER}", "shareType": "group"}
    return parse_share(offer({"webdav": webdav}, "dave@peer.example", **(to_staff | changes)))


async def test_each_member_gets_the_share_and_accepts_for_himself(place: Place) -> None:
    assert await place.admit() == "staff"
    assert place.states() == {"alice": "pending", "bob": "pending"}
    ids = {share.id for share in place.rows().values()}
    assert len(ids) == 2
    for share in place.rows().values():
        sealed = place.store.read_sync(lambda tx, share=share: received_shares.sealed_secret(tx, share.id))
        assert sealed is not None
        assert place.sealer.open(sealed, share.id) == SECRET
    await place.accept("alice")
    assert place.states() == {"alice": "accepted", "bob": "pending"}


async def test_the_same_again_changes_nothing_and_another_under_its_id_is_refused(place: Place) -> None:
    await place.admit()
    await place.admit()
    assert len(place.rows()) == 2
    with pytest.raises(Conflict):
        await place.admit(name="other")
    assert {share.name for share in place.rows().values()} == {"data"}


async def test_the_sender_hears_of_the_first_who_accepts_and_of_the_last_who_leaves(place: Place) -> None:
    await place.admit()
    await place.accept("alice")
    await place.accept("bob")
    assert place.said() == ["SHARE_ACCEPTED"]
    await place.receiving.leave("alice", place.rows()["alice"].id, "alice")
    assert place.said() == ["SHARE_ACCEPTED"]
    await place.receiving.leave("bob", place.rows()["bob"].id, "bob")
    assert place.said() == ["SHARE_ACCEPTED", "SHARE_DECLINED"]


async def test_who_accepts_after_the_first_has_left_tells_nothing_new(place: Place) -> None:
    await place.admit()
    await place.accept("alice")
    await place.receiving.leave("alice", place.rows()["alice"].id, "alice")
    await place.accept("bob")
    assert place.said() == ["SHARE_ACCEPTED"]


@pytest.mark.parametrize("proved", ["signed", "by the secret"])
async def test_the_sender_speaks_to_all_of_them(place: Place, proved: str) -> None:
    await place.admit()
    await place.accept("alice")
    peer, secret = (SIGNED, None) if proved == "signed" else (Peer("peer.example", Evidence.NONE), Secret(SECRET))

    async def tell(kind: NotificationType) -> None:
        about = {"provider_id": "provided-1", "permissions": WRITE, "resource_type": "folder"}
        await place.receiving.notified(peer, Notification(type=kind, shared_secret=secret, **about))

    await tell(T.SHARE_CHANGE_PERMISSION)
    assert {share.permissions for share in place.rows().values()} == {WRITE}
    await tell(T.SHARE_UNSHARED)
    assert place.states() == {"alice": "revoked", "bob": "revoked"}


async def test_a_change_passes_over_the_member_who_has_declined(place: Place) -> None:
    await place.admit()
    await place.receiving.decline("bob", place.rows()["bob"].id, "bob")
    about = {"provider_id": "provided-1", "permissions": WRITE, "resource_type": "folder"}
    await place.receiving.notified(SIGNED, Notification(type=T.SHARE_CHANGE_PERMISSION, **about))
    assert place.rows()["alice"].permissions == WRITE
    assert place.states() == {"alice": "pending", "bob": "declined"}


async def test_who_speaks_of_a_group_share_is_found_by_its_id_alone(place: Place) -> None:
    await place.admit()
    notification = Notification(type=T.SHARE_UNSHARED, provider_id="provided-1", resource_type="folder")
    assert await place.receiving.server_of(notification) == "peer.example"


async def test_an_unknown_group_and_one_without_users_are_refused(place: Place) -> None:
    place.groups["empty"] = ("nobody-yet",)
    for name in ("unknown", "empty", "alice"):
        with pytest.raises(Invalid) as error:
            await place.admit(shareWith=f"{name}@{SERVER}")
        assert (error.value.code, error.value.field) == ("RECIPIENT_NOT_FOUND", "shareWith")
    with pytest.raises(Invalid):
        await place.admit(shareWith=f"staff@{SERVER}", shareType="user")
    assert place.rows() == {}


async def test_a_gateway_without_groups_does_not_know_the_type(place: Place) -> None:
    place.groups.clear()
    with pytest.raises(NotBuilt) as error:
        await place.admit()
    assert error.value.code == "SHARE_TYPE_NOT_SUPPORTED"


# --- whose Shares are taken -----------------------------------------------------------------------------------------


async def test_where_contacts_alone_may_send_each_member_needs_the_contact(place: Place) -> None:
    place.demand("contacts")
    place.know("alice")
    await place.admit()
    assert place.states() == {"alice": "pending"}
    await place.group_shares.follow()
    assert place.states() == {"alice": "pending"}
    place.know("bob")
    await place.group_shares.follow()
    assert place.states() == {"alice": "pending", "bob": "pending"}


@pytest.mark.parametrize(
    ("accept", "refusal", "code"),
    [((), Invalid, "RECIPIENT_NOT_FOUND"), (("contacts",), NotAllowed, "NOT_A_CONTACT")],
    ids=["anybody", "contacts"],
)
async def test_who_gets_no_share_is_refused_alike(
    place: Place, accept: tuple[str, ...], refusal: type[Invalid | NotAllowed], code: str
) -> None:
    """A group that there is not, one of nobody who is here, one of nobody who may log in; and users likewise."""
    place.demand(*accept)
    place.know("bob")
    place.groups |= {"empty": ("nobody-yet",), "away": ("bob",)}
    place.store.run_sync(lambda tx: users.set_disabled(tx, "bob", True))
    recipients = [("unknown", "group"), ("empty", "group"), ("away", "group"), ("unknown", "user"), ("bob", "user")]
    if accept:
        recipients += [("alice", "user"), ("staff", "group")]
    for name, kind in recipients:
        with pytest.raises(refusal) as error:
            await place.admit(shareWith=f"{name}@{SERVER}", shareType=kind)
        assert error.value.code == code, (name, kind)
    assert place.rows() == {}


async def test_it_is_accepted_at_once_for_the_member_who_has_said_so(place: Place) -> None:
    place.know("bob", auto_accept=True)
    await place.admit()
    assert place.states() == {"alice": "pending", "bob": "accepted"}
    assert place.said() == ["SHARE_ACCEPTED"]
    await until(lambda: place.remote.probed == [place.rows()["bob"].id])


async def test_what_the_operator_accepts_at_once_is_said_once_for_the_group_and_newcomers(place: Place) -> None:
    place.demand(auto=("peer.example",))
    await place.admit()
    place.groups["staff"] = ("alice", "bob", "carol")
    await place.group_shares.follow()
    assert place.states() == {"alice": "accepted", "bob": "accepted", "carol": "accepted"}
    assert place.said() == ["SHARE_ACCEPTED"]
    await until(lambda: place.rows()["carol"].id in place.remote.probed)


# --- the group follows the configuration ----------------------------------------------------------------------------


async def test_who_comes_into_the_group_gets_what_it_has(place: Place) -> None:
    await place.admit()
    await place.accept("alice")
    place.groups["staff"] = ("alice", "bob", "carol")
    place.clock.advance(60)
    await place.group_shares.follow()
    carols = place.rows()["carol"]
    assert (carols.state, carols.mount, carols.created) == ("pending", None, NOW + 60)
    await place.accept("carol")
    assert place.said() == ["SHARE_ACCEPTED"], "the group had accepted before"


async def test_a_user_who_is_added_later_gets_it_too_and_only_once(place: Place) -> None:
    await place.admit()
    place.store.run_sync(lambda tx: users.add(tx, "nobody-yet", "hash", 0))
    for _ in range(2):
        await place.group_shares.follow()
    assert place.states() == {"alice": "pending", "bob": "pending", "nobody-yet": "pending"}
    await place.receiving.decline("bob", place.rows()["bob"].id, "bob")
    await place.group_shares.follow()
    assert place.states()["bob"] == "declined"


async def test_who_comes_into_the_group_accepts_the_host_key_of_its_ssh_server_himself(place: Place) -> None:
    """What is offered by SSH alone has no secret that could be given on, and what another has seen is not his word."""
    await place.admit(protocol={"name": "ssh", "ssh": {"uri": "u@peer.example:22/x"}})
    mine = place.rows()["alice"]
    place.store.run_sync(lambda tx: received_shares.set_host_key(tx, mine.id, "ssh-ed25519 AAAA"))
    place.groups["staff"] = ("alice", "bob", "carol")
    await place.group_shares.follow()
    later = place.rows()["carol"]
    assert (later.state, later.protocols, later.ssh_uri) == ("pending", ("ssh",), "u@peer.example:22/x")
    assert later.host_key is None


async def test_who_goes_out_of_the_group_loses_it(place: Place) -> None:
    await place.admit()
    await place.accept("bob")
    place.groups["staff"] = ("alice",)
    await place.group_shares.follow()
    assert place.states() == {"alice": "pending", "bob": "left"}
    assert place.said() == ["SHARE_ACCEPTED"], "the group still has it"
    place.groups["staff"] = ()
    await place.group_shares.follow()
    assert place.states() == {"alice": "declined", "bob": "left"}
    assert place.said() == ["SHARE_ACCEPTED", "SHARE_DECLINED"]


async def test_who_comes_back_into_the_group_gets_it_again_unless_he_gave_it_back(place: Place) -> None:
    await place.admit()
    await place.accept("bob")
    place.groups["staff"] = ("alice",)
    await place.group_shares.follow()
    assert place.states() == {"alice": "pending", "bob": "left"}
    place.groups["staff"] = ("alice", "bob")
    for _ in range(2):
        place.clock.advance(60)
        await place.group_shares.follow()
        assert place.states() == {"alice": "pending", "bob": "pending"}
    await place.receiving.decline("bob", place.rows()["bob"].id, "bob")
    await place.group_shares.follow()
    assert place.states() == {"alice": "pending", "bob": "declined"}


async def test_a_group_that_is_no_more_has_nothing_and_its_senders_are_told_once(place: Place) -> None:
    await place.admit()
    await place.admit(providerId="provided-2")
    del place.groups["staff"]
    place.groups["other"] = ("alice",)
    for _ in range(2):
        await place.group_shares.follow()
    assert set(place.states().values()) == {"declined"}
    assert sorted(place.said()) == ["GROUP_REMOVED", "SHARE_DECLINED", "SHARE_DECLINED"]
    place.outbox.kick()
    await until(lambda: "GROUP_REMOVED" in place.peers.types)
    (told,) = [told for told in place.peers.told() if told["notificationType"] == "GROUP_REMOVED"]
    assert told["notification"] == {"group": {"groupId": f"staff@{SERVER}"}}


async def test_a_look_that_finds_nothing_to_do_holds_up_nobody_who_writes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.admit()
    await place.receiving.decline("bob", place.rows()["bob"].id, "bob")
    written: list[object] = []
    monkeypatch.setattr(place.store, "run", written.append)
    await place.group_shares.follow()
    assert written == []


async def test_a_share_that_has_ended_or_expired_is_given_to_nobody(place: Place) -> None:
    await place.admit(expiration=NOW + 100)
    place.groups["staff"] = ("alice", "bob", "carol")
    place.clock.advance(100)
    await place.group_shares.follow()
    assert "carol" not in place.rows()


async def test_a_member_without_room_gets_it_when_there_is_some(place: Place) -> None:
    await place.admit()

    def fill(tx: Connection) -> None:
        alices = received_shares.of_user(tx, "alice")[0]
        for number in range(PENDING_FROM_SERVER):
            received_shares.add(tx, copy(alices, number), secret_hash(str(number)), b"")

    place.store.run_sync(fill)
    await place.admit(providerId="provided-2")
    assert {share.user for share in by_id(place, "provided-2")} == {"bob"}
    place.store.run_sync(lambda tx: [received_shares.set_state(tx, f"full-{n}", "declined", NOW) for n in range(9)])
    await place.group_shares.follow()
    assert {share.user for share in by_id(place, "provided-2")} == {"alice", "bob"}


def by_id(place: Place, provider_id: str) -> list[ReceivedShare]:
    return place.store.read_sync(lambda tx: received_shares.by_provider_id(tx, "peer.example", provider_id))


def copy(share: ReceivedShare, number: int) -> ReceivedShare:
    return replace(share, id=f"full-{number}", provider_id=f"full-{number}", share_type="user")
