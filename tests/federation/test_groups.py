"""Shares from group to group: two sites, of which bob's has the group `staff`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pairs import Pair
from sites import Site, eventually


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("groups")
    groups = {"groups": {"staff": ["bob", "carol"]}}
    with Site(directory / "alice") as alice, Site(directory / "bob", **groups) as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        bob.add_user("carol", "carol-password")
        yield pair
        for site in (alice, bob):
            assert "Traceback" not in site.log.read_text()


def share(pair: Pair, name: str) -> dict[str, Any]:
    pair.folder(name, a_txt=b"alpha")
    to_staff = ("--as", "alice", "--group", "--with", f"staff@{pair.bob.server}")
    shared: dict[str, Any] = pair.alice.json("share", "create", f"/home/{name}", *to_staff)
    assert (shared["state"], shared["share_type"]) == ("sent", "group"), shared
    return shared


def of(pair: Pair, user: str, shared: dict[str, Any]) -> dict[str, Any]:
    (found,) = (
        each for each in pair.bob.json("received", "list", "--as", user) if each["provider_id"] == shared["provider_id"]
    )
    return dict(found)


def test_a_share_with_a_group_is_accepted_and_read_by_each_member(pair: Pair) -> None:
    document = json.loads(pair.bob.http("GET", "/.well-known/ocm").body)
    assert document["resourceTypes"][0]["shareTypes"] == ["user", "group"]
    shared = share(pair, "plans")
    for user in ("bob", "carol"):
        mine = pair.bob.json("received", "accept", of(pair, user, shared)["id"], "--as", user)
        assert (mine["problem"], mine["share_type"]) == (None, "group")
        url = f"/dav/files/{user}{mine['mount']}/a.txt"
        assert pair.bob.http("GET", url, user=user, password=f"{user}-password").body == b"alpha"
    pair.alice_sees(shared, "accepted")
    pair.alice.json("share", "revoke", shared["id"], "--as", "alice")
    for user in ("bob", "carol"):
        eventually(lambda user=user: of(pair, user, shared)["state"], "revoked")


def test_the_last_member_who_declines_declines_for_the_group(pair: Pair) -> None:
    shared = share(pair, "unwanted")
    pair.bob.json("received", "decline", of(pair, "bob", shared)["id"], "--as", "bob")
    assert pair.sent(shared)["state"] == "sent"
    pair.bob.json("received", "decline", of(pair, "carol", shared)["id"], "--as", "carol")
    pair.alice_sees(shared, "declined")


def test_a_group_at_a_server_without_groups_is_refused_with_the_reason(pair: Pair) -> None:
    (pair.bob.data / "own").mkdir()
    to_staff = ("--as", "bob", "--group", "--with", f"staff@{pair.alice.server}")
    done = pair.bob.cli("share", "create", "/home/own", *to_staff, "--json")
    assert done.returncode == 1
    refused = json.loads(done.stdout)
    assert refused["state"] == "refused"
    assert "does not receive a folder for a group" in refused["problem"]


def test_members_come_and_go_with_the_configuration(pair: Pair) -> None:
    shared = share(pair, "changing")
    pair.bob.json("received", "accept", of(pair, "bob", shared)["id"], "--as", "bob")
    pair.bob.add_user("dave", "dave-password")
    document = yaml.safe_load(pair.bob.config.read_text())
    document["groups"] = {"staff": ["carol", "dave"]}
    pair.bob.config.write_text(yaml.safe_dump(document))
    pair.bob.stop()
    pair.bob.start()
    eventually(lambda: of(pair, "bob", shared)["state"], "left")
    assert {user: of(pair, user, shared)["state"] for user in ("carol", "dave")} == {
        "carol": "pending",
        "dave": "pending",
    }
    assert pair.sent(shared)["state"] == "accepted", "the group still has it"
