"""The endpoints of the OCM API: each success, and each refusal with its status and its machine-readable code."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway import peers as peers_module
from gateway.api import door
from gateway.ocm.signatures import Message
from gateway.ocm.tokens import verify_access_token
from gateway.peers import DISCOVERY_LIFE
from gateway.trust import BLOCKED, TRUSTED

from .served import BASE, FORM, ORIGIN, SECRET, Served


def refusal(reply: Any) -> tuple[int, str]:
    return reply.status, reply.code


# --- POST /shares ---------------------------------------------------------------------------------------------------


def test_a_signed_share_is_taken(fresh: Served) -> None:
    reply = fresh.post("shares", fresh.share(providerId="taken"))
    assert (reply.status, reply.json) == (201, {"recipientDisplayName": "alice"})
    (share,) = [share for share in fresh.received() if share.provider_id == "taken"]
    assert (share.user, share.server, share.evidence, share.state) == ("alice", fresh.peer.server, "rfc9421", "pending")


@pytest.mark.parametrize("authority", [ORIGIN, "http://proxy.example:3128", "http://127.0.0.1"])
@pytest.mark.parametrize("kind", ["rfc9421", "cavage"])
def test_a_target_in_absolute_form_is_the_path_in_it(fresh: Served, kind: str, authority: str) -> None:
    """RFC 9112 section 3.2.2: every server takes that form. Whatever host it names, ours is the configured one."""
    sign = fresh.peer.message
    if kind == "cavage":
        fresh.peer.become_nextcloud()
        sign = fresh.peer.cavage_message
    share = fresh.share(providerId=f"absolute {kind} {authority}")
    message = sign(f"{BASE}/ocm/shares", json.dumps(share).encode(), to=ORIGIN)
    headers = {**dict(message.headers), "Content-Type": "application/json"}
    assert fresh.request("POST", f"{authority}{BASE}/ocm/shares", message.body, headers).status == 201
    assert {one.provider_id: one.evidence for one in fresh.received()}[share["providerId"]] == kind


def test_the_same_share_again_is_taken_again_and_another_one_is_a_conflict(fresh: Served) -> None:
    body = fresh.share(providerId="again")
    assert fresh.post("shares", body).status == 201
    assert fresh.post("shares", body).status == 201
    assert refusal(fresh.post("shares", body | {"name": "other"})) == (409, "SHARE_ALREADY_EXISTS")
    assert [share.name for share in fresh.received() if share.provider_id == "again"] == ["data"]


def test_an_unsigned_share_of_a_peer_that_cannot_sign_is_taken(fresh: Served) -> None:
    fresh.peer.document = fresh.peer.describe("notifications")
    assert fresh.post("shares", fresh.share(providerId="unsigned"), signed=False).status == 201
    (share,) = [share for share in fresh.received() if share.provider_id == "unsigned"]
    assert share.evidence == "none"


def changed(**changes: Any) -> Callable[[Served], Any]:
    return lambda served: served.share(**({"providerId": "refused"} | changes))


REFUSED_SHARES: dict[str, tuple[Callable[[Served], Any], int, str, list[dict[str, str]] | None]] = {
    "nothing": (lambda _: {}, 400, "INVALID_SHARE", None),
    "no providerId": (changed(providerId=None), 400, "INVALID_SHARE", None),
    "no sender": (
        lambda served: {**served.share(), "sender": None, "owner": None},
        400,
        "INVALID_SHARE",
        [{"name": "owner", "message": "REQUIRED"}, {"name": "sender", "message": "REQUIRED"}],
    ),
    "a name that is a number": (
        changed(name=7),
        400,
        "INVALID_SHARE",
        [{"name": "name", "message": "NOT_A_STRING"}],
    ),
    "a negative expiration": (
        changed(expiration=-1),
        400,
        "INVALID_SHARE",
        [{"name": "expiration", "message": "OUT_OF_RANGE"}],
    ),
    "an unknown requirement": (
        changed(webdav={"requirements": ["must-dance"]}),
        400,
        "UNKNOWN_REQUIREMENT",
        [{"name": "protocol.webdav.requirements", "message": "UNKNOWN_REQUIREMENT"}],
    ),
    "a second factor": (
        changed(webdav={"requirements": ["must-use-mfa"]}),
        400,
        "REQUIREMENT_NOT_SUPPORTED",
        [{"name": "protocol.webdav.requirements", "message": "REQUIREMENT_NOT_SUPPORTED"}],
    ),
    "an unknown user": (
        changed(shareWith="nobody@gateway.example"),
        400,
        "RECIPIENT_NOT_FOUND",
        [{"name": "shareWith", "message": "RECIPIENT_NOT_FOUND"}],
    ),
    "another server": (
        changed(shareWith="alice@other.example"),
        400,
        "WRONG_SERVER",
        [{"name": "shareWith", "message": "WRONG_SERVER"}],
    ),
    "an owner elsewhere": (changed(owner="carol@other.example"), 403, "OWNER_MISMATCH", None),
    "a group": (changed(shareType="group"), 501, "SHARE_TYPE_NOT_SUPPORTED", None),
    "an unknown type of share": (changed(shareType="planet"), 501, "SHARE_TYPE_NOT_SUPPORTED", None),
    "an unknown type of resource": (changed(resourceType="calendar"), 501, "RESOURCE_TYPE_NOT_SUPPORTED", None),
    "an unknown protocol": (
        changed(protocol={"name": "multi", "gopher": {"uri": "x"}}),
        501,
        "PROTOCOL_NOT_SUPPORTED",
        None,
    ),
    "an option for an ssh address": (
        changed(protocol={"name": "multi", "ssh": {"uri": "-oProxyCommand=id@peer.example:22/x"}}),
        400,
        "INVALID_SHARE",
        [{"name": "protocol.ssh.uri", "message": "INVALID_URI"}],
    ),
    "fetching alone": (changed(webdav={"accessTypes": ["datatx"]}), 501, "ACCESS_TYPE_NOT_SUPPORTED", None),
}


def test_a_share_by_ssh_is_answered_with_public_keys(fresh: Served) -> None:
    """MUST (draft-07, Response), also for one that has WebDAV beside it; the same again is answered the same."""
    for protocol in ({"name": "ssh", "ssh": {"uri": "u@peer.example:22/x"}}, {"name": "multi"} | BOTH_PROTOCOLS):
        body = changed(protocol=protocol, providerId=f"by-{len(protocol)}")(fresh)
        first, second = fresh.post("shares", body), fresh.post("shares", body)
        assert (first.status, second.status) == (201, 201)
        (key,) = first.json["recipientPublicKeys"]
        assert key.startswith("ssh-ed25519 AAAA")
        assert second.json == first.json


BOTH_PROTOCOLS = {
    "webdav": {"uri": "remote-1", "sharedSecret": "shared-secret"},
    "ssh": {"uri": "u@peer.example:22/x"},
}


@pytest.mark.parametrize("why", REFUSED_SHARES)
def test_a_share_that_cannot_be_taken_is_refused_with_its_code(fresh: Served, why: str) -> None:
    make, status, code, fields = REFUSED_SHARES[why]
    reply = fresh.post("shares", make(fresh))
    assert refusal(reply) == (status, code)
    assert set(reply.json) <= {"message", "validationErrors"}
    if fields is not None:
        assert reply.json["validationErrors"] == fields
    assert [share for share in fresh.received() if share.provider_id == "refused"] == []


def test_a_share_that_is_not_signed_as_its_sender_signs_is_refused(fresh: Served) -> None:
    body = fresh.share(providerId="forged")
    assert refusal(fresh.post("shares", body, signed=False)) == (401, "SIGNATURE_REQUIRED")
    message = fresh.peer.message(f"{BASE}/ocm/shares", b"{}", to=ORIGIN)
    other = Message(message.method, message.target_uri, message.headers, b"[]")
    assert refusal(fresh.send(other)) == (400, "NOT_AN_OBJECT")
    for target in (f"{ORIGIN}/ocm/shares", f"http://gateway.example{BASE}/ocm/shares", "https://127.0.0.1/x"):
        wrong = fresh.peer.message(f"{BASE}/ocm/shares", b"{}", to=ORIGIN)
        signed = fresh.peer.message("", _bytes(body), to=target)
        reply = fresh.send(Message(wrong.method, wrong.target_uri, signed.headers, _bytes(body)))
        assert refusal(reply) == (401, "SIGNATURE_INVALID")


def test_a_share_in_the_name_of_somebody_else_is_refused(fresh: Served) -> None:
    """The keys are those of the sender's own host, whoever signs (wire.md, Whose keys)."""
    body = fresh.share(providerId="stolen", sender="carol@nobody.example", owner="carol@nobody.example")
    assert refusal(fresh.post("shares", body)) == (503, "SENDER_UNREACHABLE")
    localhost = f"localhost:{fresh.peer.port}"
    body = fresh.share(providerId="stolen", sender=f"carol@{localhost}", owner=f"carol@{localhost}")
    assert fresh.post("shares", body).status == 201, "the same server by another of its names has the same keys"
    body = fresh.share(providerId="stolen", sender=f"carol@{fresh.peer.server}", owner=f"carol@{localhost}")
    assert refusal(fresh.post("shares", body)) == (403, "OWNER_MISMATCH")


def test_a_stale_signature_is_refused(fresh: Served, now: Any) -> None:
    message = fresh.peer.message(f"{BASE}/ocm/shares", _bytes(fresh.share(providerId="stale")), to=ORIGIN)
    now.advance(301)
    assert refusal(fresh.send(message)) == (401, "SIGNATURE_EXPIRED")


def test_a_blocked_server_is_refused(fresh: Served) -> None:
    fresh.run(fresh.trust.set(fresh.peer.server, BLOCKED, "operator"))
    assert refusal(fresh.post("shares", fresh.share(providerId="blocked"))) == (403, "UNTRUSTED_PROVIDER")
    fresh.run(fresh.trust.set(fresh.peer.server, TRUSTED, "operator"))
    assert fresh.post("shares", fresh.share(providerId="blocked")).status == 201


def test_a_sender_that_cannot_be_asked_is_told_to_come_back(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh.peer.document = {"no": "document"}
    for signed in (True, False):
        reply = fresh.post("shares", fresh.share(providerId="away"), signed=signed)
        assert refusal(reply) == (503, "SENDER_UNREACHABLE")
        assert int(reply.headers["retry-after"]) > 0


@pytest.mark.parametrize("hidden", ["/.well-known/ocm", "/ocm/jwks"])
def test_a_sender_that_hangs_costs_a_bounded_time(fresh: Served, monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    """10 s in all at most, from the first byte of the body on; here it is less."""
    assert door.ANSWER_TIME < 10
    assert peers_module.DISCOVERY_TIME < door.ANSWER_TIME
    monkeypatch.setattr(peers_module, "DISCOVERY_TIME", 0.3)
    fresh.peer.hang(hidden)
    begun = time.monotonic()
    reply = fresh.post("shares", fresh.share(providerId="hung"))
    assert refusal(reply) == (503, "SENDER_UNREACHABLE")
    assert time.monotonic() - begun < 3


def test_body_and_proof_have_one_bound_together(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "ANSWER_TIME", 1.0)
    fresh.peer.hang("/ocm/jwks")
    begun = time.monotonic()
    assert refusal(fresh.post("shares", fresh.share(providerId="drips"), pause=0.8)) == (503, "SENDER_UNREACHABLE")
    assert time.monotonic() - begun < 1.5


def test_the_whole_proof_has_a_bound_of_its_own(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "ANSWER_TIME", 0.3)
    fresh.peer.hang("/ocm/jwks")
    begun = time.monotonic()
    assert refusal(fresh.post("shares", fresh.share(providerId="slow"))) == (503, "SENDER_UNREACHABLE")
    assert time.monotonic() - begun < 3


# --- what is no endpoint --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "name", "status", "code"),
    [
        ("GET", "shares", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "token", 405, "METHOD_NOT_ALLOWED"),
        ("POST", "jwks", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "invite-accepted", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "request-share", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "nothing", 404, "NOT_FOUND"),
        ("POST", "shares/1/%0a", 404, "NOT_FOUND"),
        ("POST", "", 404, "NOT_FOUND"),
    ],
)
def test_whatever_is_refused_has_a_code(fresh: Served, method: str, name: str, status: int, code: str) -> None:
    reply = fresh.request(method, f"{BASE}/ocm/{name}", b"{}")
    assert refusal(reply) == (status, code)
    assert ("allow" in reply.headers) == (status == 405)


# --- POST /notifications --------------------------------------------------------------------------------------------


def told(served: Served, kind: str, share_id: str, *, secret: bool = False, **changes: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"file": {"providerId": share_id}}
    if secret:
        details["sharedSecret"] = f"{SECRET}-{share_id}"
    body = {
        "notificationType": kind,
        "senderDomain": served.peer.server,
        "resourceType": "folder",
        "providerId": share_id,
        "notification": details,
    } | changes
    return {key: value for key, value in body.items() if value is not None}


@pytest.mark.parametrize(
    ("kind", "role", "after"),
    [
        ("SHARE_ACCEPTED", "sent", "accepted"),
        ("SHARE_DECLINED", "sent", "declined"),
        ("SHARE_UNSHARED", "received", "revoked"),
    ],
)
@pytest.mark.parametrize("signed", [True, False])
def test_a_notification_does_what_it_says(fresh: Served, kind: str, role: str, after: str, signed: bool) -> None:
    """An unsigned one proves itself by id and secret, which is all that older peers can do."""
    if not signed:
        fresh.peer.document = fresh.peer.describe("notifications")
    share_id = f"{kind}-{signed}"
    if role == "sent":
        fresh.put_sent(share_id, state="sent")
    else:
        fresh.put_received(share_id)
    body = told(fresh, kind, share_id, secret=not signed, senderDomain=fresh.peer.server if signed else None)
    reply = fresh.post("notifications", body, signed=signed)
    assert (reply.status, reply.json) == (201, {})
    assert fresh.state_of(share_id) == after


def test_changed_permissions_are_taken_by_either_name(fresh: Served) -> None:
    fresh.put_received("changing")
    for kind, permissions in (("SHARE_CHANGE_PERMISSION", ["read", "write"]), ("RESHARE_CHANGE_PERMISSION", ["read"])):
        file = {"file": {"providerId": "changing", "permissions": permissions}}
        assert fresh.post("notifications", told(fresh, kind, "changing", notification=file)).status == 201
        (share,) = [share for share in fresh.received() if share.id == "changing"]
        assert sorted(share.permissions) == permissions


def notified(kind: str, share_id: str, **changes: Any) -> Callable[[Served], Any]:
    return lambda served: told(served, kind, share_id, **changes)


REFUSED_NOTIFICATIONS: dict[str, tuple[Callable[[Served], Any], int, str]] = {
    "nothing": (lambda _: {}, 400, "INVALID_NOTIFICATION"),
    "an unknown type": (notified("SHARE_EATEN", "known"), 400, "UNKNOWN_NOTIFICATION_TYPE"),
    "a type of API 1.0": (notified("RESHARE_UNDO", "known"), 501, "NOTIFICATION_TYPE_NOT_SUPPORTED"),
    "two ids": (
        notified("SHARE_ACCEPTED", "known", providerId="other"),
        400,
        "CONFLICTING_PROVIDER_ID",
    ),
    "no id": (
        notified("SHARE_ACCEPTED", "known", providerId=None, notification={}),
        400,
        "INVALID_NOTIFICATION",
    ),
    "an unknown share": (notified("SHARE_ACCEPTED", "unknown"), 404, "SHARE_NOT_FOUND"),
    "the other role's message": (notified("SHARE_UNSHARED", "known"), 404, "SHARE_NOT_FOUND"),
    "an ended share": (notified("SHARE_ACCEPTED", "over"), 409, "WRONG_STATE"),
    "no permissions": (notified("SHARE_CHANGE_PERMISSION", "theirs"), 400, "MISSING_PERMISSIONS"),
    "another host": (
        lambda served: told(served, "SHARE_DECLINED", "known", senderDomain=f"localhost:{served.peer.port}"),
        404,
        "SHARE_NOT_FOUND",
    ),
}


@pytest.mark.parametrize("why", REFUSED_NOTIFICATIONS)
def test_a_notification_that_means_nothing_is_refused_with_its_code(fresh: Served, why: str) -> None:
    make, status, code = REFUSED_NOTIFICATIONS[why]
    for share_id, put, state in (("known", fresh.put_sent, "sent"), ("over", fresh.put_sent, "revoked")):
        if not _is_there(fresh, share_id):
            put(share_id, state=state)
    if not _is_there(fresh, "theirs"):
        fresh.put_received("theirs")
    reply = fresh.post("notifications", make(fresh))
    assert refusal(reply) == (status, code)
    assert [fresh.state_of(share_id) for share_id in ("known", "over", "theirs")] == ["sent", "revoked", "pending"]


@pytest.mark.parametrize(
    ("secret", "status", "code"),
    [(None, 401, "SIGNATURE_REQUIRED"), ("wrong", 404, "SHARE_NOT_FOUND")],
)
def test_an_unsigned_notification_proves_itself_by_the_secret_or_not_at_all(
    fresh: Served, secret: str | None, status: int, code: str
) -> None:
    fresh.peer.document = fresh.peer.describe("notifications")
    share_id = f"unsigned-{secret}"
    fresh.put_sent(share_id, state="sent")
    details = {"file": {"providerId": share_id}} | ({"sharedSecret": secret} if secret else {})
    for domain in (fresh.peer.server, None):
        body = told(fresh, "SHARE_DECLINED", share_id, notification=details, senderDomain=domain)
        assert refusal(fresh.post("notifications", body, signed=False)) == (status, code)
    assert fresh.state_of(share_id) == "sent"


def test_a_peer_that_signs_may_not_fall_back_to_the_secret(fresh: Served) -> None:
    fresh.put_sent("downgraded", state="sent")
    body = told(fresh, "SHARE_DECLINED", "downgraded", secret=True)
    assert refusal(fresh.post("notifications", body, signed=False)) == (401, "SIGNATURE_REQUIRED")
    assert fresh.state_of("downgraded") == "sent"


# --- POST /token ----------------------------------------------------------------------------------------------------


def exchange(served: Served, share_id: str, **changes: Any) -> bytes:
    parameters = {
        "grant_type": "authorization_code",
        "client_id": served.peer.server,
        "code": f"{SECRET}-{share_id}",
    } | changes
    return urlencode({name: value for name, value in parameters.items() if value is not None}).encode()


def test_a_secret_is_exchanged_for_a_token_that_is_not_stored_on_the_way(fresh: Served) -> None:
    fresh.put_sent("exchanged", requires_exchange=True)
    reply = fresh.post("token", exchange(fresh, "exchanged"), kind=FORM)
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    assert (reply.json["token_type"], reply.json["expires_in"]) == ("Bearer", 300)
    claims = verify_access_token(
        reply.json["access_token"], fresh.peers._signing.keys.public(), issuer=ORIGIN, now=fresh.clock()
    )
    assert claims.client_id == "exchanged"
    grant = fresh.run(fresh.access.by_bearer(reply.json["access_token"]))
    assert grant.principal == "share:exchanged"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"client_id": None}, FORM),
        ({"grant_type": "ocm_share"}, FORM),
        ({"redirect_uri": "https://x/", "code_verifier": "y"}, f"{FORM}; charset=utf-8"),
    ],
)
def test_older_peers_ask_in_their_own_way(fresh: Served, changes: dict[str, Any], kind: str) -> None:
    share_id = f"asked-{len(str(changes))}"
    fresh.put_sent(share_id)
    assert fresh.post("token", exchange(fresh, share_id, **changes), kind=kind).status == 200


@pytest.mark.parametrize(
    "form", ["{server}", "http://{server}", "https://{server}/", "{server}/index.php", "127.0.0.1"]
)
def test_a_client_may_be_named_in_several_ways(fresh: Served, form: str) -> None:
    """reva sends a URL, Nextcloud leaves out the port (peers.md, section 8)."""
    share_id = f"client-{len(form)}"
    fresh.put_sent(share_id)
    client = form.format(server=fresh.peer.server)
    assert fresh.post("token", exchange(fresh, share_id, client_id=client), kind=FORM).status == 200


def test_json_is_read_as_well(fresh: Served) -> None:
    fresh.put_sent("json")
    body = {"grant_type": "ocm_authorization_code", "code": f"{SECRET}-json"}
    assert fresh.post("token", body).status == 200


REFUSED_TOKENS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no grant type": ({"grant_type": None}, FORM, "invalid_request"),
    "another grant type": ({"grant_type": "password"}, FORM, "unsupported_grant_type"),
    "no code": ({"code": None}, FORM, "invalid_request"),
    "an empty code": ({"code": ""}, FORM, "invalid_request"),
    "a wrong code": ({"code": "wrong"}, FORM, "invalid_grant"),
    "the id for the code": ({"code": "refusing"}, FORM, "invalid_grant"),
    "another client": ({"client_id": "other.example"}, FORM, "invalid_client"),
    "the share for the client": ({"client_id": "refusing"}, FORM, "invalid_client"),
    "another type of body": ({}, "text/plain", "invalid_request"),
    "controls in the code": ({"code": "a\nb"}, FORM, "invalid_request"),
}


@pytest.mark.parametrize("why", REFUSED_TOKENS)
def test_an_exchange_that_cannot_be_is_refused_as_oauth_does(fresh: Served, why: str) -> None:
    changes, kind, code = REFUSED_TOKENS[why]
    if not _is_there(fresh, "refusing"):
        fresh.put_sent("refusing")
    reply = fresh.post("token", exchange(fresh, "refusing", **changes), kind=kind)
    assert (reply.status, reply.json) == (400, {"error": code})
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("client", ["a@b", "x y", "[::1", "http://", "\x01", "@", "a" * 2000])
def test_a_client_id_that_is_no_server_is_a_clients_mistake(fresh: Served, client: str) -> None:
    if not _is_there(fresh, "refusing"):
        fresh.put_sent("refusing")
    reply = fresh.post("token", exchange(fresh, "refusing", client_id=client), kind=FORM)
    assert reply.status == 400
    assert reply.json["error"] in ("invalid_client", "invalid_request")


@pytest.mark.parametrize("state", ["revoked", "declined"])
def test_an_ended_share_gives_no_token(fresh: Served, state: str) -> None:
    fresh.put_sent(f"ended-{state}", state=state)
    reply = fresh.post("token", exchange(fresh, f"ended-{state}"), kind=FORM)
    assert (reply.status, reply.json) == (400, {"error": "invalid_grant"})


def test_a_request_that_is_repeated_is_refused(fresh: Served) -> None:
    fresh.put_sent("replayed")
    message = fresh.peer.message(f"{BASE}/ocm/token", exchange(fresh, "replayed"), to=ORIGIN)
    assert fresh.send(message, FORM).status == 200
    reply = fresh.send(message, FORM)
    assert (reply.status, reply.json) == (400, {"error": "invalid_client"})


def test_a_peer_that_signs_has_to_sign_its_exchange(fresh: Served) -> None:
    fresh.put_sent("plain")
    reply = fresh.post("token", exchange(fresh, "plain"), signed=False, kind=FORM)
    assert (reply.status, reply.json) == (400, {"error": "invalid_client"})
    fresh.peer.document = fresh.peer.describe("exchange-token")
    fresh.clock.advance(DISCOVERY_LIFE)
    reply = fresh.post("token", exchange(fresh, "plain"), signed=False, kind=FORM)
    assert reply.status == 200, "reva exchanges and signs nothing"


def test_a_blocked_client_is_unauthorized(fresh: Served) -> None:
    fresh.put_sent("blocked-client")
    fresh.run(fresh.trust.set(fresh.peer.server, BLOCKED, "operator"))
    reply = fresh.post("token", exchange(fresh, "blocked-client"), kind=FORM)
    assert (reply.status, reply.json) == (400, {"error": "unauthorized_client"})


def test_a_client_that_cannot_be_asked_is_told_to_come_back(fresh: Served) -> None:
    fresh.put_sent("unreachable-client")
    fresh.peer.document = {"no": "document"}
    reply = fresh.post("token", exchange(fresh, "unreachable-client"), kind=FORM)
    assert refusal(reply) == (503, "SENDER_UNREACHABLE")
    assert "retry-after" in reply.headers


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["shares", "notifications", "token", "request-share"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_the_endpoints_take_post_alone(served: Served, path: str, method: str) -> None:
    reply = served.request(method, f"{BASE}/ocm/{path}")
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"


def test_every_refusal_leaves_one_line_that_says_why(fresh: Served, log: list[Any]) -> None:
    fresh.post("shares", fresh.share(shareWith="nobody@gateway.example"))
    (line,) = [line for line in log if line["event"] == "refused"]
    assert (line["path"], line["code"], line["remote"]) == (f"{BASE}/ocm/shares", "RECIPIENT_NOT_FOUND", "127.0.0.1")
    assert "nobody" in line["reason"]
    (request,) = [line for line in log if line["event"] == "request"]
    assert (request["door"], request["method"], request["status"]) == ("api", "POST", 400)


def _is_there(served: Served, share_id: str) -> bool:
    try:
        served.state_of(share_id)
    except AssertionError:
        return False
    return True


def _bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
