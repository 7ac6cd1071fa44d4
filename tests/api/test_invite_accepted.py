"""POST /invite-accepted: who becomes a contact of whom, in every dialect, and how everything else is refused."""

from __future__ import annotations

import json
import secrets
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.inviting import NewInvite
from gateway.ocm.invites import InviteString
from gateway.store import contacts
from gateway.store import users as users_table
from gateway.store.contacts import Contact

from .served import BASE, FORM, ORIGIN, SERVER, Served


def made(served: Served, expires: int | None = None) -> NewInvite:
    """Return a new invite of alice's."""
    invite: NewInvite = served.run(served.inviting.create("alice", None, expires, "alice"))
    return invite


def token_of(invite: NewInvite) -> str:
    return InviteString.decode(invite.invite_string.reveal()).token.reveal()


def invited(served: Served, expires: int | None = None) -> str:
    """Return the token of a new invite of alice's."""
    return token_of(made(served, expires))


def body(served: Served, token: str, **changes: Any) -> dict[str, Any]:
    whole = {
        "recipientProvider": served.peer.server,
        "token": token,
        "userID": f"bob-{secrets.token_hex(4)}",
        "email": "bob@uni.example",
        "name": "Bob Cat",
    } | changes
    return {name: value for name, value in whole.items() if value is not None}


def post(served: Served, payload: dict[str, Any], **how: Any) -> Any:
    served.clock.advance(1)  # a signature of its own
    return served.post("invite-accepted", payload, **how)


def met(served: Served) -> dict[str, Contact]:
    """Return alice's contacts by the ids that came."""
    return {one.user_id: one for one in served.store.read_sync(lambda tx: contacts.of_user(tx, "alice"))}


def refused(served: Served, payload: dict[str, Any], **how: Any) -> tuple[int, str]:
    """Return how it was refused, which made nobody a contact."""
    before = met(served)
    reply = post(served, payload, **how)
    assert met(served) == before
    assert set(reply.json) <= {"message", "validationErrors"}
    return reply.status, reply.code


def test_a_signed_acceptance_makes_a_verified_contact(fresh: Served) -> None:
    token = invited(fresh)
    payload = body(fresh, token)
    reply = post(fresh, payload)
    assert (reply.status, reply.json) == (200, {"userID": "alice", "email": f"alice@{SERVER}", "name": "alice"})
    contact = met(fresh)[payload["userID"]]
    assert (contact.name, contact.email, contact.source) == ("Bob Cat", "bob@uni.example", "invite sent")
    assert contact.verified
    assert contact.address == f"{payload['userID']}@{fresh.peer.server}"


def test_the_inviter_is_shown_under_the_name_that_the_operator_has_given(fresh: Served) -> None:
    identity = {"email": "alice@uni.example", "display_name": "Alice A."}
    fresh.store.run_sync(lambda tx: users_table.set_identity(tx, "alice", **identity))
    reply = post(fresh, body(fresh, invited(fresh)))
    fresh.store.run_sync(lambda tx: users_table.set_identity(tx, "alice", email=None, display_name=None))
    assert reply.json == {"userID": "alice", "email": "alice@uni.example", "name": "Alice A."}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"userID": None, "userId": "bob-nextcloud"},
        {"email": None, "name": None},
        {"recipientProvider": "http://{peer}/"},
        {"userID": "bob-opencloud@https://{peer}"},
        {"userID": "bob-ocis@{peer}"},
    ],
    ids=["reva", "Nextcloud 32", "no informational fields", "a provider as URL", "OpenCloud", "oCIS"],
)
@pytest.mark.parametrize("kind", ["application/json", FORM])
def test_every_dialect_of_servers_that_sign_nothing_makes_an_unverified_contact(
    fresh: Served, kind: str, changes: dict[str, Any]
) -> None:
    fresh.peer.document = fresh.peer.describe("notifications")
    wanted = {name: value and value.format(peer=fresh.peer.server) for name, value in changes.items()}
    payload = body(fresh, invited(fresh), **wanted)
    given = urlencode(payload).encode() if kind == FORM else payload
    reply = post(fresh, given, signed=False, kind=kind)
    assert reply.status == 200, reply
    contact = met(fresh)[payload.get("userID") or payload["userId"]]
    assert not contact.verified
    assert contact.address == f"{contact.user_id.partition('@')[0]}@{fresh.peer.server}"


def test_what_a_server_has_said_of_somebody_is_not_replaced_by_what_nobody_proves(fresh: Served) -> None:
    """Whoever holds an invite can claim to be anybody at a server that signs nothing."""
    address = f"carol-verified@{fresh.peer.server}"
    carol = Contact(
        user="alice",
        address=address,
        user_id="carol-verified",
        name="Carol Dee",
        email="carol@uni.example",
        source="invite accepted",
        verified=True,
        auto_accept=False,
        created=int(fresh.clock()),
    )
    fresh.store.run_sync(lambda tx: contacts.add(tx, carol))
    fresh.peer.document = fresh.peer.describe("notifications")
    claimed = body(fresh, invited(fresh), userID=f"carol-verified@https://{fresh.peer.server}", name="Your bank")
    assert post(fresh, claimed, signed=False).status == 200
    assert fresh.store.read_sync(lambda tx: contacts.get(tx, "alice", address)) == carol


def test_whoever_has_accepted_is_told_again_and_nobody_else(fresh: Served) -> None:
    token = invited(fresh)
    payload = body(fresh, token)
    first, again = post(fresh, payload), post(fresh, payload)
    assert again.status == 409
    assert again.json == {"message": "INVITE_ALREADY_ACCEPTED", **first.json}
    assert refused(fresh, payload | {"userID": "mallory"}) == (409, "INVITE_ALREADY_ACCEPTED")


def test_a_signature_counts_once(fresh: Served) -> None:
    """wire.md, Verifying: replay protection is mandatory for invites."""
    payload = json.dumps(body(fresh, invited(fresh))).encode()
    message = fresh.peer.message(f"{BASE}/ocm/invite-accepted", payload, to=ORIGIN)
    assert fresh.send(message).status == 200
    assert (fresh.send(message).status, fresh.send(message).code) == (401, "SIGNATURE_REPLAYED")


def test_no_server_is_asked_for_a_token_that_is_none_of_ours(fresh: Served) -> None:
    """Otherwise anybody could let us fire requests at a victim."""
    assert refused(fresh, body(fresh, "x" * 43), signed=False) == (400, "TOKEN_INVALID")
    assert fresh.peer.asked == []


def test_what_has_ended_is_refused(fresh: Served, now: Any) -> None:
    revoked, expired = made(fresh), invited(fresh, expires=int(now()) + 60)
    fresh.run(fresh.inviting.revoke("alice", revoked.view.invite.id, "alice"))
    assert refused(fresh, body(fresh, token_of(revoked))) == (400, "TOKEN_INVALID")
    now.advance(60)
    assert refused(fresh, body(fresh, expired)) == (400, "TOKEN_EXPIRED")


def test_the_invites_of_a_disabled_user_open_nothing(fresh: Served) -> None:
    token = invited(fresh)
    fresh.store.run_sync(lambda tx: users_table.set_disabled(tx, "alice", True))
    answer = refused(fresh, body(fresh, token))
    fresh.store.run_sync(lambda tx: users_table.set_disabled(tx, "alice", False))
    assert answer == (400, "TOKEN_INVALID")


def test_who_may_not_or_cannot_be_verified_is_refused(fresh: Served) -> None:
    token = invited(fresh)
    assert refused(fresh, body(fresh, token), signed=False) == (401, "SIGNATURE_REQUIRED")
    fresh.run(fresh.trust.set(fresh.peer.server, "blocked", "operator"))
    assert refused(fresh, body(fresh, token)) == (403, "UNTRUSTED_PROVIDER")
    fresh.run(fresh.trust.set(fresh.peer.server, "trusted", "operator"))
    nobody = body(fresh, token, recipientProvider="nobody.example")
    assert refused(fresh, nobody, signed=False) == (503, "SENDER_UNREACHABLE")
    assert refused(fresh, body(fresh, token, recipientProvider=SERVER)) == (400, "SAME_SERVER")
    assert post(fresh, body(fresh, token)).status == 200, "none of these has used it up"


def test_neither_the_state_nor_the_log_holds_a_token(fresh: Served, log: list[Any]) -> None:
    token = invited(fresh)
    post(fresh, body(fresh, token))
    post(fresh, body(fresh, token, userID="mallory"))
    post(fresh, body(fresh, "y" + token[1:]))
    assert token not in repr(log)
    dump = fresh.store.read_sync(lambda tx: tx.exec_driver_sql("SELECT * FROM invites").all())
    events = fresh.store.read_sync(lambda tx: tx.exec_driver_sql("SELECT * FROM events").all())
    assert dump
    assert token not in repr((dump, events))
