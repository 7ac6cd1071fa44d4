"""Shares that are offered by SSH: to whom, beside what, and which of the answered keys open them."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dialects import PRODUCTS
from fake_peers import MODERN
from parts import CHEAP, WRITE, until
from test_sending import DAV, SERVER, SIGNED, Place, log, refused

from backends.paths import StoragePath
from gateway.errors import Invalid, NotAllowed, Unproven
from gateway.explaining import Explaining
from gateway.ocm.notifications import NotificationType
from gateway.ocm.shares import ShareType
from gateway.ocm.ssh_keys import parse_public_key
from gateway.sending import SentShareView, ShareRequest, protocols
from gateway.store import share_keys

DOOR = "gateway.example:2022"
URI = re.compile(r"s-[A-Za-z0-9_-]{22}@gateway\.example:2022/")
WITHOUT_EXCHANGE = ("http-sig", "notifications", "protocol-object")
BOTH, SSH, WEBDAV = ("webdav", "ssh"), ("ssh",), ("webdav",)

__all__ = ["log"]  # a fixture


def key(comment: str = "") -> str:
    public = Ed25519PrivateKey.generate().public_key()
    return f"{public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {comment}".strip()


def bare(line: str) -> str:
    return parse_public_key(line).line


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]) -> AsyncIterator[Place]:
    monkeypatch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
    place = Place(tmp_path, ssh=DOOR)
    yield place
    await place.close()


@pytest.fixture
async def doorless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: list[Any]) -> AsyncIterator[Place]:
    monkeypatch.setattr("gateway.users.PasswordHasher", lambda: CHEAP)
    place = Place(tmp_path)
    yield place
    await place.close()


def offers(place: Place) -> list[dict[str, Any]]:
    return [body["protocol"] for body in place.peers.told("/shares")]


def answer(place: Place, *keys: Any, **more: Any) -> None:
    place.peers.answers["/shares"] = (201, {"recipientDisplayName": "Bob", "recipientPublicKeys": [*keys]} | more)


def stored(place: Place, view: SentShareView) -> set[str]:
    return {one.line for one in place.store.read_sync(lambda tx: share_keys.of_share(tx, view.share.id))}


# --- what is offered ------------------------------------------------------------------------------------------------


async def test_by_both_the_token_exchange_is_not_required(place: Place) -> None:
    """wire.md: ssh has no requirements, and is never offered together with token exchange."""
    mine = key()
    answer(place, mine)
    view = await place.create(protocols=BOTH, permissions=WRITE)
    (protocol,) = offers(place)
    assert list(protocol) == ["name", "webdav", "ssh"]
    assert "requirements" not in protocol["webdav"]
    assert URI.fullmatch(protocol["ssh"]["uri"])
    assert protocol["ssh"] == {"uri": protocol["ssh"]["uri"]}
    assert (view.state, view.share.requires_exchange, view.share.offered_protocols) == ("sent", False, BOTH)
    assert (view.ssh, [one.line for one in view.keys]) == (protocol["ssh"]["uri"], [bare(mine)])
    (listed,) = await place.sending.list("alice")
    assert (listed.ssh, listed.keys) == (view.ssh, view.keys)
    assert place.peers.types == []


async def test_by_ssh_alone_there_is_no_secret_and_more_than_read_is_said_afterwards(place: Place) -> None:
    """The draft's ssh has neither; SHARE_CHANGE_PERMISSION says the rights, and names no secret that nobody knows."""
    answer(place, key())
    view = await place.create(protocols=SSH, permissions=WRITE)
    assert view.state == "sent"
    assert list(offers(place)[0]) == ["name", "ssh"]
    await place.settled()
    (told,) = place.peers.told()
    assert told["notificationType"] == "SHARE_CHANGE_PERMISSION"
    assert told["notification"]["file"]["permissions"] == ["read", "write"]
    assert "sharedSecret" not in str(told)


async def test_by_ssh_alone_reading_needs_no_further_word(place: Place) -> None:
    answer(place, key())
    await place.create(protocols=SSH)
    await place.settled()
    assert place.peers.told() == []


@pytest.mark.parametrize(
    ("capabilities", "offered"), [(MODERN, WEBDAV), (WITHOUT_EXCHANGE, BOTH)], ids=["exchange", "none"]
)
async def test_where_nobody_says_ssh_stands_beside_webdav_without_a_requirement(
    place: Place, capabilities: tuple[str, ...], offered: tuple[str, ...]
) -> None:
    place.peers.advertise(*capabilities)
    answer(place, key())
    view = await place.create()
    assert view.share.offered_protocols == offered
    assert view.share.requires_exchange is (offered == WEBDAV)


async def test_each_share_has_a_log_in_of_its_own_with_128_random_bits(place: Place) -> None:
    answer(place, key())
    logins = [(await place.create(protocols=BOTH)).share.ssh_login or "" for _ in range(20)]
    assert len(set(logins)) == 20
    assert all(len(base64.urlsafe_b64decode(login.removeprefix("s-") + "==")) == 16 for login in logins)


async def test_without_a_door_nothing_is_offered_by_ssh(doorless: Place) -> None:
    doorless.peers.advertise(*WITHOUT_EXCHANGE)
    view = await doorless.create()
    assert (view.share.offered_protocols, view.share.ssh_login, view.ssh) == (WEBDAV, None, None)
    for wanted in (SSH, BOTH):
        error = await refused(doorless.create(protocols=wanted))
        assert (type(error), error.code) == (NotAllowed, "NO_SSH_DOOR")


FILE = {"name": "file", "shareTypes": ["user"], "protocols": {"webdav": "/x", "webdav-receive": {}}}
NOT_TOLD = {
    "no word of it": {"resourceTypes": [FILE | {"name": "folder"}]},
    "the Sending role alone": {
        "resourceTypes": [FILE | {"name": "folder", "protocols": FILE["protocols"] | {"ssh": "h:22"}}]
    },
    "for files alone": {
        "resourceTypes": [FILE | {"protocols": {"webdav": "/x", "ssh-receive": {}}}, FILE | {"name": "folder"}]
    },
    "criteria": {"criteria": ["must-exchange-token"]},
    "criteria by their old name": {"criteria": ["token-exchange"]},
}


@pytest.mark.parametrize("why", NOT_TOLD)
async def test_who_does_not_receive_by_ssh_is_not_offered_it(place: Place, why: str) -> None:
    """wire.md: only to `ssh-receive`, never to criteria with must-exchange-token; WebDAV is offered alone then."""
    place.peers.advertise(*MODERN, **NOT_TOLD[why])
    view = await place.create(protocols=BOTH)
    assert (view.state, view.share.offered_protocols, view.ssh) == ("sent", WEBDAV, None)
    assert view.share.requires_exchange is True
    view = await place.create(protocols=SSH)
    assert view.state == "refused"
    assert "share it with `--protocols webdav`" in str(place.problem)
    assert len(offers(place)) == 1


@pytest.mark.parametrize("product", PRODUCTS)
async def test_no_product_of_today_is_sent_what_it_would_refuse_all_for(place: Place, product: str) -> None:
    """peers.md §9: none implements ssh, and reva, OpenCloud, oCIS and ocm-go refuse a Share that has it."""
    place.peers.be(product)
    path = "/home/data/table.csv" if product == "ocm-go" else "/home/data"
    view = await place.create(path, protocols=BOTH)
    assert view.state == "sent", place.problem
    assert all("ssh" not in protocol for protocol in offers(place))


@pytest.mark.parametrize(("wanted", "capabilities"), [(BOTH, MODERN), (None, WITHOUT_EXCHANGE)])
async def test_who_receives_by_ssh_alone_gets_it_by_ssh_alone(
    place: Place, wanted: tuple[str, ...] | None, capabilities: tuple[str, ...]
) -> None:
    types = [FILE | {"name": "folder", "protocols": {"webdav": "/x", "ssh-receive": {}}}]
    place.peers.advertise(*capabilities, resourceTypes=types)
    answer(place, key())
    view = await place.create(protocols=wanted)
    assert (view.state, view.share.offered_protocols) == ("sent", SSH)


@pytest.mark.parametrize("status", [400, 501])
async def test_who_refuses_all_for_ssh_is_offered_the_rest_and_the_door_is_shut(place: Place, status: int) -> None:
    place.peers.answers["/shares"] = [(status, {"message": "unknown protocol"}), (201, {"recipientDisplayName": "Bob"})]
    view = await place.create(protocols=BOTH)
    assert view.state == "sent"
    assert [list(protocol) for protocol in offers(place)] == [["name", "webdav", "ssh"], ["name", "webdav"]]
    assert (view.share.offered_protocols, view.share.ssh_login, view.share.requires_exchange) == (WEBDAV, None, True)


async def test_who_refuses_a_share_by_ssh_alone_has_refused_it(place: Place) -> None:
    place.peers.answers["/shares"] = (501, {"message": "unknown protocol"})
    view = await place.create(protocols=SSH)
    assert view.state == "refused"
    assert len(offers(place)) == 1


async def test_a_share_that_is_offered_again_is_the_same(place: Place) -> None:
    """The peer may have taken the first one: the log-in stays."""
    answer(place, key())
    place.put(state="pending", offered_type="folder", offered_form="modern", offered_protocols=SSH, ssh_login="s-x")
    place.offer_again()
    await place.settled()
    assert offers(place) == [{"name": "multi", "ssh": {"uri": f"s-x@{DOOR}/"}}]


async def test_what_is_no_protocol_is_refused() -> None:
    assert protocols(["ssh", "webdav", "ssh"]) == BOTH
    with pytest.raises(Invalid):
        protocols(["ssh", "webapp"])


async def test_explaining_shows_the_address_without_the_log_in(place: Place) -> None:
    explaining = Explaining(place.store, place.sending, place.peers, server=SERVER, dav_url=DAV, ssh=DOOR)
    request = ShareRequest(StoragePath.parse("home/data"), "bob@peer.example", protocols=BOTH)
    explained = await explaining.explain(await place.access.of_user("alice"), request)
    assert explained.body is not None
    assert explained.body["protocol"]["ssh"] == {"uri": f"s-***@{DOOR}/"}


# --- the keys that are answered -------------------------------------------------------------------------------------


async def test_of_a_key_nothing_but_the_key_is_kept(place: Place) -> None:
    mine = key()
    answer(place, f'command="id",no-pty {mine} bob@laptop')
    view = await place.create(protocols=BOTH)
    assert stored(place, view) == {bare(mine)}


ONE, OTHER = key("bob"), key("bob's telephone")
ANSWERED: dict[str, tuple[Any, set[str]]] = {
    "a list": ([ONE, OTHER], {ONE, OTHER}),
    "one string": (ONE, {ONE}),
    "one string of several lines": (f"{ONE}\n# a comment\n{OTHER}\n", {ONE, OTHER}),
    "a list with several lines in one": ([f"{ONE}\n{OTHER}", OTHER], {OTHER}),
    "the same twice": ([ONE, f"{ONE} again"], {ONE}),
    "an object, as PHP writes lists with gaps": ({"1": ONE, "3": OTHER}, {ONE, OTHER}),
    "rubbish beside a key": ([None, 7, {}, [], "", "x", "ssh-ed25519 AAAA", ONE, "ssh-rsa " + "A" * 20_000], {ONE}),
    "a certificate authority": ([f"cert-authority {ONE}"], set()),
    "a certificate": (["ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t"], set()),
    "DSA": (["ssh-dss AAAAB3NzaC1kc3MAAAAB"], set()),
    "a private key": (["-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"], set()),
    "no list": (7, set()),
    "nothing": ([], set()),
    "null": (None, set()),
}


@pytest.mark.parametrize("what", ANSWERED)
async def test_only_keys_become_keys_and_the_share_stands_whatever_is_answered(
    place: Place, log: list[Any], what: str
) -> None:
    answered, kept = ANSWERED[what]
    answer(place, recipientPublicKeys=answered)
    view = await place.create(protocols=BOTH)
    assert view.state == "sent"
    assert stored(place, view) == {bare(line) for line in kept}
    warned = [line for line in log if line["event"].startswith("not every key")]
    assert bool(warned) is (not kept or "rubbish" in what)


@pytest.mark.parametrize(("offered", "warned"), [(BOTH, True), (SSH, True), (WEBDAV, False)])
async def test_keys_whose_answer_was_lost_are_told_to_be_missing(
    place: Place, log: list[Any], offered: tuple[str, ...], warned: bool
) -> None:
    """The peer has the Share (409), and nothing tells its keys a second time."""
    place.put(state="pending", protocols=offered)
    place.peers.answers["/shares"] = (409, {"message": "SHARE_ALREADY_EXISTS"})
    place.offer_again()
    await place.settled()
    view = await place.sending.show("alice", "share-1")
    assert (view.state, view.keys) == ("sent", ())
    lines = [line for line in log if line["event"] == "a Share was taken, but not by which keys"]
    assert [(line["share"], line["peer"], "revoke it" in line["hint"]) for line in lines] == (
        [("share-1", "peer.example", True)] if warned else []
    )


async def test_no_more_than_20_keys_of_one_user_are_kept(place: Place, log: list[Any]) -> None:
    many = [key() for _ in range(30)]
    answer(place, *many)
    view = await place.create(protocols=BOTH)
    assert stored(place, view) == {bare(line) for line in many[:20]}
    assert [line["usable"] for line in log if line["event"].startswith("not every key")] == [30]


async def test_of_a_group_the_keys_of_every_member_are_kept(place: Place) -> None:
    many = [key() for _ in range(60)]
    folder = {"name": "folder", "shareTypes": ["user", "group"], "protocols": {"webdav": "/x", "ssh-receive": {}}}
    types = [FILE | folder]
    place.peers.advertise(*MODERN, resourceTypes=types)
    answer(place, *many)
    view = await place.create(share_with="staff@peer.example", share_type=ShareType.GROUP, protocols=SSH)
    assert stored(place, view) == {bare(line) for line in many}


async def test_keys_that_nobody_asked_for_open_nothing(place: Place) -> None:
    answer(place, key())
    view = await place.create(protocols=WEBDAV)
    assert stored(place, view) == set()


async def test_a_key_opens_its_share_until_that_ends(place: Place) -> None:
    mine = key()
    answer(place, mine)
    view = await place.create(protocols=BOTH, permissions=WRITE)
    login = view.share.ssh_login or ""
    grant = await place.access.by_key(login, parse_public_key(mine))
    assert (grant.principal, grant.permissions) == (f"share:{view.share.id}", WRITE)
    for name, other in ((login, key()), (login.lower(), mine), ("s-" + "A" * 22, mine)):
        with pytest.raises(Unproven):
            await place.access.by_key(name, parse_public_key(other))
    await place.sending.revoke("alice", view.share.id, "alice")
    with pytest.raises(Unproven):
        await place.access.by_key(login, parse_public_key(mine))
    await place.settled()
    assert stored(place, view) == set()
    assert place.get(view.share.id).ssh_login is None


async def test_an_answer_that_comes_after_the_end_opens_nothing(place: Place) -> None:
    """Revoked while the peer was still answering."""
    place.peers.let_go.clear()
    mine = key()
    answer(place, mine)
    place.put(state="pending", protocols=SSH)
    place.offer_again()
    await until(lambda: place.peers.told("/shares"))
    await place.sending.revoke("alice", "share-1", "alice")
    place.peers.let_go.set()
    await place.settled()
    assert place.store.read_sync(lambda tx: share_keys.of_share(tx, "share-1")) == []


async def test_who_declines_has_no_keys_any_more(place: Place) -> None:
    answer(place, key())
    view = await place.create(protocols=SSH)
    await place.notify(NotificationType.SHARE_DECLINED, SIGNED, provider_id=view.share.provider_id)
    assert stored(place, view) == set()
