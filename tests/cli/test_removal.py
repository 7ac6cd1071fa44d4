"""`user remove`: what ends, who is told, in which words, and that the name is given to nobody else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from fake_peers import MODERN
from sites import eventually
from ssh_lines import new_key

from gateway.store import user_keys, users

from .served import PASSWORD, Served

names = (f"leaver{number}" for number in itertools.count())


@pytest.fixture
def leaver(served: Served) -> Any:
    """A user who shares with two peers and has received a Share of a third."""
    name = next(names)
    served.json("user", "add", name, "--password-file", "-", stdin=PASSWORD)
    served.share(user=name)
    served.json("share", "create", "/home/data", "--as", name, "--with", "dave@second.example")
    served.receive(f"for-{name}", user=name, server="third.example", state="accepted", mount="data")
    yield name
    served.peers.advertise(*MODERN)
    served.peers.answers["/notifications"] = (201, {})


def told(served: Served, kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (server, body)
        for server, path, body in served.peers.posts
        if path == "/notifications" and body["notificationType"] == kind
    ]


def messages(served: Served, name: str, state: str) -> list[str]:
    subject = f"user:{name}@"
    return sorted(m["server"] for m in served.messages() if m["share"].startswith(subject) and m["state"] == state)


def test_every_server_that_had_a_part_is_told_and_everything_ends(served: Served, leaver: str) -> None:
    done = served.cli("user", "remove", leaver, "--yes")
    assert (done.exit_code, "every Share from and to" in done.stdout) == (0, True)
    everybody = ["peer.example", "second.example", "third.example"]
    eventually(lambda: messages(served, leaver, "delivered"), everybody)
    removals = {server: body for server, body in told(served, "USER_REMOVED") if leaver in str(body)}
    assert sorted(removals) == everybody
    assert removals["peer.example"] == {
        "notificationType": "USER_REMOVED",
        "senderDomain": "gateway.example",
        "shareType": "user",
        "notification": {"user": {"userId": f"{leaver}@gateway.example"}},
    }
    assert [share["state"] for share in served.json("share", "list", "--as", leaver)] == ["revoked", "revoked"]
    assert [share["state"] for share in served.json("received", "list", "--as", leaver)] == ["left"]
    assert len({server for server, _ in told(served, "SHARE_UNSHARED")}) >= 2, "older peers know no USER_REMOVED"
    assert "third.example" in {server for server, _ in told(served, "SHARE_DECLINED")}


def test_the_name_is_given_to_nobody_else(served: Served, leaver: str) -> None:
    served.cli("user", "remove", leaver, "--yes")
    assert leaver not in {user["name"] for user in served.json("user", "list")}
    again = served.cli("user", "add", leaver, "--password-file", "-", stdin=PASSWORD)
    assert (again.exit_code, "choose another name" in again.stderr) == (1, True)
    for command in (("enable", leaver), ("disable", leaver), ("remove", leaver, "--yes")):
        done = served.cli("user", *command)
        assert (done.exit_code, f"there is no user {leaver}" in done.stderr) == (1, True), command
    done = served.cli("user", "passwd", leaver, "--password-file", "-", stdin=PASSWORD)
    assert f"there is no user {leaver}" in done.stderr
    assert served.cli("share", "create", "/home/data", "--as", leaver, "--with", "bob@peer.example").exit_code == 1


def test_nothing_else_of_the_user_is_kept(served: Served, leaver: str) -> None:
    served.json("contact", "add", "carol@third.example", "--as", leaver)
    served.json("invite", "create", "--as", leaver)
    assert served.cli("user", "update", leaver, "--name", "Leaver L.").exit_code == 0
    served.cli("user", "remove", leaver, "--yes")
    assert served.json("contact", "list", "--as", leaver) == []
    assert served.json("invite", "list", "--as", leaver) == []
    assert served.store.read_sync(lambda tx: users.shown_name(tx, leaver)) == leaver


@pytest.mark.parametrize(("version", "told_of_it"), [("1.4.0", 3), ("1.2.0", 0)])
def test_older_peers_are_told_in_their_words_or_not_at_all(
    served: Served, leaver: str, version: str, told_of_it: int
) -> None:
    served.peers.advertise(*MODERN, apiVersion=version)
    served.cli("user", "remove", leaver, "--yes")
    eventually(lambda: len(messages(served, leaver, "delivered")), 3)
    removals = [body for _, body in told(served, "USER_REMOVED") if leaver in str(body)]
    assert len(removals) == told_of_it
    for body in removals:
        assert (body["resourceType"], body["providerId"]) == ("user", leaver)


def test_it_is_asked_for_a_second_time(served: Served, leaver: str) -> None:
    assert served.cli("user", "remove", leaver, stdin="n\n").exit_code == 1
    assert leaver in {user["name"] for user in served.json("user", "list")}


def test_no_key_of_the_user_is_left(served: Served, leaver: str) -> None:
    assert served.json("user", "key", "add", leaver, "--key-file", "-", stdin=new_key().line)
    served.cli("user", "remove", leaver, "--yes")
    assert served.store.read_sync(lambda tx: user_keys.of_user(tx, leaver)) == []
