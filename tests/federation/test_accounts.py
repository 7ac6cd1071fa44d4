"""Ownership mode `map` with accounts of this machine: a gateway as it is run, and a Share used from another server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_accounts import Accounts
from pairs import BOB, Pair
from sites import Reply, Site
from two_users import owner, permissions, without_account

PASSWORD = "a password of both"


@pytest.fixture(scope="module")
def site(accounts: Accounts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway over homes and a folder of the group, for the two accounts and a user who has none."""
    directory = tmp_path_factory.mktemp("accounts") / "site"
    data = directory / "data"
    site = Site(
        directory,
        backends={
            "storage": {"type": "local", "root": str(data), "ownership": {"mode": "map", "umask": "007"}},
            "plain": {"type": "local", "root": str(directory.parent / "plain")},
        },
        mounts=[
            {"name": "home", "backend": "storage", "path": "homes/{user}", "rights": "write"},
            {"name": "group", "backend": "storage", "path": "group", "rights": "write"},
            {"name": "homes", "backend": "storage", "path": "homes", "rights": "write"},
            {"name": "plain", "backend": "plain", "rights": "write"},
        ],
    )
    (directory.parent / "plain").mkdir()
    (data / "homes").mkdir()
    (data / "group").mkdir()
    os.chown(data / "group", 0, accounts.group_id)
    (data / "group").chmod(0o2770)
    for name in (accounts.anna, accounts.bert):
        (data / "homes" / name).mkdir(mode=0o700)
        os.chown(data / "homes" / name, *accounts.ids(name))
    with site:
        for name in (accounts.anna, accounts.bert, without_account()):
            site.add_user(name, PASSWORD)
        yield site
    assert "Traceback" not in site.log.read_text()


def ask(site: Site, user: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    return site.http(method, f"/dav/files/{user}{path}", body, headers, user=user, password=PASSWORD)


def test_files_are_the_accounts_own_and_closed_to_the_other(site: Site, accounts: Accounts) -> None:
    for user in (accounts.anna, accounts.bert):
        assert ask(site, user, "PUT", "/home/secret", user.encode()).status == 201
        assert ask(site, user, "MKCOL", "/home/folder").status == 201
        home = site.data / "homes" / user
        assert {owner(found) for found in home.rglob("*")} == {accounts.ids(user)}
        assert (permissions(home / "secret"), permissions(home / "folder")) == (0o660, 0o770)
        assert ask(site, user, "GET", "/home/secret").body == user.encode()
    assert ask(site, accounts.anna, "GET", f"/homes/{accounts.bert}/secret").status == 403
    assert ask(site, accounts.anna, "PROPFIND", f"/homes/{accounts.bert}/").status == 403


def test_a_supplementary_group_opens_its_folder(site: Site, accounts: Accounts) -> None:
    assert ask(site, accounts.anna, "PUT", "/group/file", b"of anna").status == 201
    group = (site.data / "group").stat().st_gid
    assert owner(site.data / "group/file") == (accounts.ids(accounts.anna)[0], group)
    assert ask(site, accounts.bert, "PUT", "/group/file", b"of bert").status == 204
    assert owner(site.data / "group/file") == (accounts.ids(accounts.bert)[0], group)
    assert ask(site, accounts.anna, "GET", "/group/file").body == b"of bert"


def test_a_user_without_account_is_refused_and_the_log_says_what_to_do(site: Site) -> None:
    stranger = without_account()
    reply = ask(site, stranger, "PUT", "/group/x", b"x")
    assert (reply.status, b"NO_ACCOUNT" in reply.body) == (403, True)
    assert f"getent passwd {stranger} finds none" in site.log.read_text()
    refused = site.cli("share", "create", "/group", "--as", stranger, "--with", "x@peer.example")
    assert refused.returncode == 1
    assert "has no account on this machine" in refused.stderr
    assert ask(site, stranger, "PUT", "/plain/x", b"x").status == 201


def test_what_crosses_to_another_backend_is_made_by_each_in_its_own_way(site: Site, accounts: Accounts) -> None:
    assert ask(site, accounts.anna, "PUT", "/home/crossing", b"x").status == 201
    there = {"Destination": f"{site.url}/dav/files/{accounts.anna}/plain/crossing"}
    back = {"Destination": f"{site.url}/dav/files/{accounts.anna}/home/back"}
    assert ask(site, accounts.anna, "COPY", "/home/crossing", **there).status == 201
    assert ask(site, accounts.anna, "MOVE", "/plain/crossing", **back).status == 201
    assert owner(site.data / "homes" / accounts.anna / "back") == accounts.ids(accounts.anna)
    assert ask(site, accounts.anna, "PUT", "/plain/new", b"x").status == 201
    assert owner(site.directory.parent / "plain/new") == (0, 0)


def test_who_uses_a_share_has_its_owners_rights(site: Site, accounts: Accounts, tmp_path: Path) -> None:
    """From another server, where he has a name that is nobody's here."""
    with Site(tmp_path / "other") as other:
        other.add_user("bob", BOB)
        pair = Pair(site, other)
        folder = site.data / "homes" / accounts.anna / "shared"
        folder.mkdir()
        os.chown(folder, *accounts.ids(accounts.anna))
        share = site.json(
            *("share", "create", "/home/shared", "--as", accounts.anna, "--with", pair.bobs_address),
            *("--permissions", "read,write"),
        )
        received = other.json("received", "accept", pair.received(share)["id"], "--as", "bob")
        url = pair.bobs_url(received, "result.txt")
        assert other.http("PUT", url, b"of bob", user="bob", password=BOB).status == 201
        assert owner(folder / "result.txt") == accounts.ids(accounts.anna)
        (folder / "of-root").write_bytes(b"x")
        (folder / "of-root").chmod(0o600)
        assert other.http("GET", pair.bobs_url(received, "of-root"), user="bob", password=BOB).status == 403
        site.json("share", "revoke", share["id"], "--as", accounts.anna)


def test_the_operator_sees_the_backend_and_the_gateway_starts_again(site: Site, accounts: Accounts) -> None:
    statuses = {backend["name"]: backend for backend in site.json("backend", "list")}
    assert (statuses["storage"]["type"], statuses["storage"]["problem"]) == ("local", None)
    assert site.cli("check-config").returncode == 0
    site.kill()
    site.start()
    assert ask(site, accounts.anna, "PUT", "/home/again", b"x").status == 201
    assert owner(site.data / "homes" / accounts.anna / "again") == accounts.ids(accounts.anna)
