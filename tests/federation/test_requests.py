"""Asking for a Share, from site to site: bob asks alice, who grants or declines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pairs import Pair
from sites import eventually

Request = Callable[..., Any]


def ask(pair: Pair, resource: str, *more: str) -> dict[str, Any]:
    """Let bob ask alice, and return the request as he has it."""
    alice = f"alice@{pair.alice.server}"
    asked: dict[str, Any] = pair.bob.json("request", "create", alice, resource, "--as", "bob", *more)
    assert asked["state"] == "sent", asked
    return asked


def waiting(pair: Pair, resource: str) -> dict[str, Any]:
    """Return the request as alice has it."""
    (found,) = [each for each in pair.alice.json("request", "list", "--as", "alice") if each["resource"] == resource]
    return dict(found)


def state(pair: Pair, asked: dict[str, Any]) -> str:
    return str(pair.bob.json("request", "show", asked["id"], "--as", "bob")["state"])


def test_a_request_that_is_granted_becomes_a_share(pair: Pair, as_bob: Request) -> None:
    folder = pair.folder("wanted", a_txt=b"alpha")
    asked = ask(pair, "/home/wanted", "--permissions", "read,write")
    request = waiting(pair, "/home/wanted")
    assert (request["direction"], request["state"], request["share_with"]) == ("incoming", "pending", pair.bobs_address)
    share = pair.alice.json("request", "grant", request["id"], "--as", "alice")
    assert (share["state"], share["permissions"]) == ("sent", ["read", "write"])
    assert waiting(pair, "/home/wanted")["share"] == share["id"]
    received = pair.accept(share)
    granted = pair.bob.json("request", "show", asked["id"], "--as", "bob")
    assert (granted["state"], granted["share"]) == ("granted", received["id"])
    assert as_bob("PUT", pair.bobs_url(received, "b.txt"), b"beta").status == 201
    assert (folder / "b.txt").read_bytes() == b"beta"
    again = pair.alice.json("request", "grant", request["id"], "--as", "alice")
    assert again["id"] == share["id"], "there is one Share, however often it is granted"


def test_a_request_that_is_declined_is_answered(pair: Pair) -> None:
    asked = ask(pair, "/home/secret plans")
    request = waiting(pair, "/home/secret plans")
    assert pair.alice.json("request", "decline", request["id"], "--as", "alice")["state"] == "declined"
    eventually(lambda: state(pair, asked), "declined")
    refused = pair.alice.cli("request", "grant", request["id"], "--as", "alice")
    assert refused.returncode == 1


def test_the_owner_may_share_something_else_with_fewer_rights(pair: Pair) -> None:
    pair.folder("summary")
    ask(pair, "urn:dataset:42", "--permissions", "read,write")
    request = waiting(pair, "urn:dataset:42")
    refused = pair.alice.cli("request", "grant", request["id"], "--as", "alice")
    assert refused.returncode == 1
    share = pair.alice.json(
        *("request", "grant", request["id"], "--as", "alice", "--path", "/home/summary", "--permissions", "read")
    )
    assert (share["name"], share["permissions"], share["share_with"]) == ("summary", ["read"], pair.bobs_address)


def test_who_does_not_exist_is_asked_in_vain_and_nobody_can_tell(pair: Pair) -> None:
    asked = pair.bob.json("request", "create", f"nobody@{pair.alice.server}", "/home/x", "--as", "bob")
    assert (asked["state"], asked["problem"]) == ("sent", None)
    assert "a request for a Share was dropped" in pair.alice.log.read_text()


def test_asking_twice_and_asking_oneself_are_refused(pair: Pair) -> None:
    ask(pair, "/home/twice")
    twice = pair.bob.cli("request", "create", f"alice@{pair.alice.server}", "/home/twice", "--as", "bob")
    oneself = pair.bob.cli("request", "create", f"carol@{pair.bob.server}", "/home/x", "--as", "bob")
    assert (twice.returncode, oneself.returncode) == (1, 1)
    assert "you have asked for this" in twice.stderr
    assert "is this gateway" in oneself.stderr
    others = pair.bob.json("request", "list", "--as", "bob")
    assert json.dumps(others).count("/home/twice") == 1
