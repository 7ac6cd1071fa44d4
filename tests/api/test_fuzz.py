"""No body gives a 5xx that is not a considered one, and none of them stores what it should not."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .served import FORM, SECRET, Served
from .test_endpoints import told

CONSIDERED = {200, 201, 400, 401, 403, 404, 409, 501, 503}
PROFILE = settings(
    deadline=None, max_examples=40, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WORDS = st.sampled_from(
    ["", "user", "group", "file", "folder", "multi", "webdav", "options", "read", "write", "SHARE_UNSHARED", "0", "a@b",
     "alice@gateway.example", "\ud800", "\0", "\u202e", "x" * 5000, "https://[", "http://a/b?c#d", "../..", "\n"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10) | WORDS, inner, max_size=4),
    max_leaves=12,
)
NAMES = [
    "shareWith", "name", "providerId", "owner", "sender", "shareType", "resourceType", "protocol", "expiration",
    "description", "ownerDisplayName", "encryption", "sharedBy", "notificationType", "senderDomain", "notification",
    "type", "grant_type", "client_id", "code", "recipientProvider", "token", "userID", "email",
]  # fmt: skip
OBJECTS = st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=10)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every member of a JSON value, itself excluded."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, item in inner for way in ((*path, key), *places(item, (*path, key)))]


def replaced(body: dict[str, Any], way: tuple[Any, ...], by: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    holder: Any = changed
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = by
    return changed


def check(reply: Any) -> None:
    assert reply.status in CONSIDERED, reply
    assert isinstance(reply.json, dict)
    if reply.status >= 400:
        assert isinstance(reply.json.get("message", reply.json.get("error")), str)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(
    st.sampled_from(["shares", "notifications", "invite-accepted", "token", "request-share"]),
    st.binary(max_size=200) | OBJECTS.map(encoded),
)
@PROFILE
def test_any_body_anywhere(served: Served, endpoint: str, body: bytes) -> None:
    for kind in ("application/json", FORM):
        check(served.post(endpoint, body, signed=False, kind=kind))


@given(st.data())
@PROFILE
def test_a_share_with_anything_in_any_place(served: Served, data: st.DataObject) -> None:
    """Signed, so that it gets as far as it can."""
    encryption = {"resourceId": "r", "scheme": "s", "s": {}}
    body = served.share(expiration=1_900_000_000, description="d", encryption=encryption)
    way = data.draw(st.sampled_from(places(body)))
    changed = replaced(body, way, data.draw(ANYTHING))
    if data.draw(st.booleans()):
        changed |= data.draw(OBJECTS)
    reply = served.post("shares", encoded(changed))
    check(reply)
    if reply.status == 201:
        for share in served.received():
            assert share.name
            assert "/" not in share.name
            assert share.server == served.peer.server or share.server == "peer.example"


@given(st.data())
@PROFILE
def test_a_notification_with_anything_in_any_place(served: Served, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["SHARE_ACCEPTED", "SHARE_UNSHARED", "SHARE_CHANGE_PERMISSION", "REQUEST_SHARE"]))
    body = told(served, kind, "share", secret=True)
    changed = replaced(body, data.draw(st.sampled_from(places(body))), data.draw(ANYTHING))
    check(served.post("notifications", encoded(changed), signed=data.draw(st.booleans())))


@given(st.dictionaries(st.sampled_from(["grant_type", "client_id", "code", "x"]), ANYTHING, max_size=4))
@PROFILE
def test_a_token_request_with_anything_in_any_place(served: Served, body: dict[str, Any]) -> None:
    complete = {"grant_type": "authorization_code", "code": f"{SECRET}-fuzzed"} | body
    if "fuzzed" not in {share.id for share in served.sent()}:
        served.put_sent("fuzzed")
    for payload in (body, complete):
        reply = served.post("token", encoded(payload))
        check(reply)
        assert reply.status in (200, 400, 503)
