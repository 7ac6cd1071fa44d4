"""Asking for a Share, from site to site: bob asks alice, who grants or declines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pairs import Pair
from sites import Site, eventually

Request = Callable[..., Any]


def ask(pair: Pair, resource: str, *more: str) -> dict[str, Any]:
    """Let bob ask alice, and return the request as he has it."""
    alice = f"alice@{pair.alice.server}"
    asked: dict[str, Any] = pair.bob.json("request", "create", alice, resource, "--as", "bob", *more)
    assert asked["state"] == "sent", asked
    return asked


def waiting(pair: Pair, resource: str) -> dict[str, Any]:
    """Return the request as alice has it."""
    (found,) = waiting_all(pair, resource)
    return found


def waiting_all(pair: Pair, resource: str) -> list[dict[str, Any]]:
    return [each for each in pair.alice.json("request", "list", "--as", "alice") if each["resource"] == resource]


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


def test_an_answer_is_for_the_one_who_has_asked(pair: Pair, another: str) -> None:
    """Two users ask the same owner for the same: to one she says no, and to the other yes."""
    asked = ask(pair, "/home/for one")
    alice = f"alice@{pair.alice.server}"
    others = pair.bob.json("request", "create", alice, "/home/for one", "--as", another)
    mine, theirs = sorted(waiting_all(pair, "/home/for one"), key=lambda each: another in each["share_with"])
    pair.alice.json("request", "decline", theirs["id"], "--as", "alice")
    eventually(lambda: pair.bob.json("request", "show", others["id"], "--as", another)["state"], "declined")
    assert state(pair, asked) == "sent"
    pair.folder("for one")
    pair.alice.json("request", "grant", mine["id"], "--as", "alice")
    eventually(lambda: state(pair, asked), "granted")


def test_what_was_asked_for_in_many_words_is_declined_like_the_rest(pair: Pair) -> None:
    long = "/home/" + "x" * 2000
    asked = ask(pair, long)
    pair.alice.json("request", "decline", waiting(pair, long)["id"], "--as", "alice")
    eventually(lambda: state(pair, asked), "declined")


@pytest.fixture
def another(pair: Pair) -> str:
    """Another user at bob's site."""
    pair.bob.add_user("bea", "correct-horse")
    return "bea"


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
    assert "a request for a Share is shown to nobody" in pair.alice.log.read_text()


def test_asking_twice_and_asking_oneself_are_refused(pair: Pair) -> None:
    ask(pair, "/home/twice")
    twice = pair.bob.cli("request", "create", f"alice@{pair.alice.server}", "/home/twice", "--as", "bob")
    oneself = pair.bob.cli("request", "create", f"carol@{pair.bob.server}", "/home/x", "--as", "bob")
    assert (twice.returncode, oneself.returncode) == (1, 1)
    assert "you have asked for this" in twice.stderr
    assert "is this gateway" in oneself.stderr
    others = pair.bob.json("request", "list", "--as", "bob")
    assert json.dumps(others).count("/home/twice") == 1


# --- resharing ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def carol(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The third party's site."""
    with Site(tmp_path_factory.mktemp("third") / "carol") as site:
        site.add_user("carol", "carol-password")
        yield site


def reshare(pair: Pair, received: dict[str, Any], carol: Site, *more: str) -> dict[str, Any]:
    """Let bob ask that alice shares with carol what she shares with him."""
    asking = ("received", "reshare", received["id"], "--as", "bob", "--with", f"carol@{carol.server}", *more)
    asked: dict[str, Any] = pair.bob.json(*asking)
    assert (asked["state"], asked["problem"]) == ("sent", None), asked
    return asked


def of_carol(carol: Site, name: str) -> dict[str, Any]:
    eventually(lambda: [each["name"] for each in carol.json("received", "list", "--as", "carol")].count(name), 1)
    (found,) = [each for each in carol.json("received", "list", "--as", "carol") if each["name"] == name]
    return dict(found)


def test_a_share_is_shared_on_narrowed_and_ended(pair: Pair, carol: Site) -> None:
    pair.folder("onward", a_txt=b"alpha")
    share = pair.share("onward", "read,write,share", "--reshare", "allow")
    received = pair.accept(share)
    reshare(pair, received, carol)
    hers = of_carol(carol, "onward")
    assert (hers["owner"], hers["permissions"]) == (f"alice@{pair.alice.server}", ["read", "write"])
    hers = carol.json("received", "accept", hers["id"], "--as", "carol")
    url = f"/dav/files/carol{hers['mount']}/a.txt"
    assert carol.http("GET", url, user="carol", password="carol-password").body == b"alpha"
    pair.alice.json("share", "update", share["id"], "--as", "alice", "--permissions", "read,share")
    eventually(lambda: carol.json("received", "show", hers["id"])["permissions"], ["read"])
    assert carol.http("PUT", url, b"x", user="carol", password="carol-password").status == 403
    pair.alice.json("share", "revoke", share["id"], "--as", "alice")
    eventually(lambda: carol.json("received", "show", hers["id"])["state"], "revoked")


def test_the_owner_decides_about_sharing_on(pair: Pair, carol: Site) -> None:
    pair.folder("decided")
    share = pair.share("decided", "read,share")
    received = pair.accept(share)
    reshare(pair, received, carol)
    request = waiting(pair, share["id"])
    assert (request["kind"], request["share_with"]) == ("REQUEST_RESHARE", f"carol@{carol.server}")
    made = pair.alice.json("request", "grant", request["id"], "--as", "alice")
    assert (made["origin"], made["permissions"], made["state"]) == (share["id"], ["read"], "sent")
    assert of_carol(carol, "decided")["permissions"] == ["read"]


def test_without_the_permission_nobody_is_asked(pair: Pair) -> None:
    pair.folder("kept")
    received = pair.accept(pair.share("kept", "read,write"))
    done = pair.bob.cli("received", "reshare", received["id"], "--as", "bob", "--with", "dave@third.example")
    assert done.returncode == 1
    assert "does not permit to share it so" in done.stderr


# --- removal --------------------------------------------------------------------------------------------------------


def test_who_has_it_already_is_not_asked_for(pair: Pair) -> None:
    pair.folder("had")
    received = pair.accept(pair.share("had", "read,share"))
    for address in (pair.bobs_address, f"alice@{pair.alice.server}"):
        done = pair.bob.cli("received", "reshare", received["id"], "--as", "bob", "--with", address)
        assert (done.returncode, f"{address} has it already" in done.stderr) == (1, True)


def test_a_user_who_is_removed_leaves_nothing_at_either_site(pair: Pair) -> None:
    pair.alice.add_user("dave", "dave-password")
    pair.folder("of dave")
    (pair.bob.data / "for dave").mkdir()
    to_bob = ("--as", "dave", "--with", pair.bobs_address)
    given = pair.alice.json("share", "create", "/home/of dave", *to_bob)
    to_dave = ("--as", "bob", "--with", f"dave@{pair.alice.server}")
    taken = pair.bob.json("share", "create", "/home/for dave", *to_dave)
    done = pair.alice.cli("user", "remove", "dave", "--yes")
    assert done.returncode == 0, done.stderr
    pair.bob_sees(given, "revoked")
    eventually(lambda: pair.bob.json("share", "show", taken["id"])["state"], "declined")
    removals = [each for each in pair.alice.json("outbox", "list") if each["kind"] == "USER_REMOVED"]
    assert [(each["server"], each["state"]) for each in removals] == [(pair.bob.server, "delivered")]
