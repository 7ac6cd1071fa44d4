"""Shares by SSH on the command line: the keys that open them, the host key to believe, and what a recipient types."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from fake_peers import MODERN
from parts import NOW

from gateway.ocm.shares import Permission
from gateway.ocm.ssh_keys import PublicKey, parse_public_key
from gateway.store import received_shares

from .served import HOST_KEY, Served

URI = "s-AAECAwQFBgcICQoLDA0ODw@peer.example:2022/"
BY_SSH: dict[str, Any] = {"protocols": ("ssh",), "ssh_uri": URI, "uri": None, "name": "data"}
OTHER = parse_public_key("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILaH7v7qtDEH6UrDLeUH6AhgNY9xo3vkBynuyZG6WLaj")


@pytest.fixture
def shown(served: Served, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr("gateway.cli.by_ssh._is_at_terminal", lambda: True)
    return monkeypatch


def test_a_share_by_ssh_shows_its_address_and_the_keys_that_open_it(served: Served) -> None:
    served.peers.answers["/shares"] = (201, {"recipientPublicKeys": [OTHER.line]})
    done = served.cli("share", "create", "/home/data", *WITH, "--protocols", "webdav,ssh")
    served.peers.answers["/shares"] = (201, {})
    assert done.exit_code == 0, done.output
    assert OTHER.fingerprint in done.stdout
    (share,) = [one for one in served.json("share", "list", "--as", "alice") if one["ssh"] is not None]
    assert share["protocols"] == ["webdav", "ssh"]
    assert share["ssh"].endswith("@gateway.example:2022/")
    assert share["keys"] == [{"fingerprint": OTHER.fingerprint, "type": "Ed25519, 256 bits"}]
    text = served.cli("share", "show", share["id"], "--as", "alice").stdout
    assert share["ssh"] in text
    assert OTHER.fingerprint in text
    assert "share.keys" in text
    assert served.json("share", "revoke", share["id"], "--as", "alice")["state"] == "revoked"


@pytest.mark.parametrize("status", [201, 409])
def test_a_peer_that_answers_no_key_is_told_of(served: Served, status: int) -> None:
    """Also where it has answered, and that was lost: it has the Share, then (409)."""
    served.peers.answers["/shares"] = (status, {})
    done = served.cli("share", "create", "/home/data", *WITH, "--protocols", "ssh")
    served.peers.answers["/shares"] = (201, {})
    assert done.exit_code == 0, done.output
    assert "no key: the other server has not answered any that can be used" in done.stdout


def test_a_peer_that_does_not_receive_by_ssh_gets_the_rest_and_the_owner_hears_of_it(served: Served) -> None:
    folder = {"name": "folder", "shareTypes": ["user"], "protocols": {"webdav": "/dav/", "webdav-receive": {}}}
    served.peers.advertise(*MODERN, resourceTypes=[folder])
    done = served.cli("share", "create", "/home/data", *WITH, "--protocols", "webdav,ssh")
    served.peers.advertise(*MODERN)
    assert done.exit_code == 0, done.output
    assert "it is not offered by SSH" in done.stderr


def test_a_protocol_that_is_none_is_a_mistake(served: Served) -> None:
    done = served.cli("share", "create", "/home/data", *WITH, "--protocols", "ftp")
    assert done.exit_code == 2
    assert "ftp is not among webdav, ssh" in done.stderr


WITH = ("--as", "alice", "--with", "bob@peer.example")


def test_show_tells_the_host_key_and_what_to_type(served: Served) -> None:
    served.receive("shown-by-ssh", **BY_SSH)
    text = served.cli("received", "show", "shown-by-ssh", "--as", "alice").stdout
    assert f"host key: {HOST_KEY.fingerprint} (Ed25519, 256 bits), as its server shows it now; not accepted" in text
    place = URI.replace(":2022/", ":/")
    for command in (f"sftp -P 2022 {place}", f"scp -P 2022 -r {place} .", f"sshfs -p 2022 {place} DIRECTORY"):
        assert f"\n  {command}\n" in text
    served.cli("received", "accept", "shown-by-ssh", "--as", "alice", "--host-key", HOST_KEY.fingerprint)
    text = served.cli("received", "show", "shown-by-ssh", "--as", "alice").stdout
    assert f"host key: {HOST_KEY.fingerprint} (Ed25519, 256 bits), accepted" in text


def test_without_a_word_about_the_host_key_a_script_accepts_nothing(served: Served) -> None:
    served.receive("scripted", **BY_SSH)
    done = served.cli("received", "accept", "scripted", "--as", "alice")
    assert done.exit_code == 1
    assert f"accept with --host-key {HOST_KEY.fingerprint}" in done.stderr
    assert served.json("received", "show", "scripted")["state"] == "pending"
    accepted = served.json("received", "accept", "scripted", "--as", "alice", "--host-key", HOST_KEY.fingerprint)
    assert (accepted["state"], accepted["protocols"], accepted["ssh"]) == ("accepted", ["ssh"], URI)
    assert accepted["host_key"] == {"fingerprint": HOST_KEY.fingerprint, "type": "Ed25519, 256 bits"}


@pytest.mark.parametrize(
    ("answer", "state"), [("y\n", "accepted"), ("n\n", "pending"), ("\n", "pending"), ("", "pending")]
)
def test_at_a_terminal_the_host_key_is_asked_about(
    served: Served, shown: pytest.MonkeyPatch, answer: str, state: str
) -> None:
    share_id = f"asked-{state}-{len(answer)}-{answer[:1].strip()}"
    served.receive(share_id, **BY_SSH)
    done = served.cli("received", "accept", share_id, "--as", "alice", stdin=answer)
    assert f"That server shows the host key {HOST_KEY.fingerprint}" in done.stdout
    assert served.json("received", "show", share_id)["state"] == state
    assert (done.exit_code == 0) is (state == "accepted")


def test_a_changed_host_key_is_accepted_by_its_own_fingerprint_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.receive("changed", **BY_SSH)
    served.json("received", "accept", "changed", "--as", "alice", "--host-key", HOST_KEY.fingerprint)
    keys: tuple[PublicKey, ...] = (OTHER,)
    monkeypatch.setattr(served.remote, "host_keys", keys)
    done = served.cli("received", "accept", "changed", "--as", "alice", "--host-key", HOST_KEY.fingerprint)
    assert "(OTHER_HOST_KEY)" in done.stderr
    accepted = served.json("received", "accept", "changed", "--as", "alice", "--host-key", OTHER.fingerprint)
    assert accepted["host_key"]["fingerprint"] == OTHER.fingerprint
    text = served.cli("received", "show", "changed", "--as", "alice").stdout
    assert f"fingerprint {OTHER.fingerprint}, before {HOST_KEY.fingerprint}" in text


def test_a_webdav_that_does_not_work_says_that_there_is_ssh(served: Served) -> None:
    served.receive("both", protocols=("webdav", "ssh"), ssh_uri=URI)
    served.remote.problem = "401"
    done = served.cli("received", "accept", "both", "--as", "alice")
    served.remote.problem = None
    assert done.exit_code == 0
    assert "`received show both` shows the host key to accept" in done.stderr


def test_what_is_only_for_fetching_says_how(served: Served) -> None:
    served.receive("fetched", protocols=(), ssh_uri="u@peer.example:22/a b.csv", resource_type="file", uri=None)
    done = served.cli("received", "accept", "fetched", "--as", "alice")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "is there to be fetched" in done.stdout
    assert f"scp -P 22 {shlex.quote('u@peer.example:/a b.csv')} ." in done.stdout
    assert served.json("received", "show", "fetched")["mount"] is None
    assert "(NOT_BY_SSH)" in served.cli("received", "accept", "fetched", "--host-key", "SHA256:x").stderr


def test_others_have_no_host_key_to_look_at(served: Served) -> None:
    served.receive("by-webdav", created=NOW)
    text = served.cli("received", "show", "by-webdav", "--as", "alice").stdout
    assert "host key" not in text
    assert "sftp" not in text


def test_what_is_received_by_ssh_alone_is_asked_to_be_shared_on_without_a_secret(served: Served) -> None:
    served.receive("shared-on", state="accepted", mount="shared-on", permissions=frozenset(Permission), **BY_SSH)
    served.store.run_sync(lambda tx: received_shares.wipe_secret(tx, "shared-on"))
    asked = served.json("received", "reshare", "shared-on", "--as", "alice", "--with", "dora@third.example")
    assert (asked["state"], asked["problem"]) == ("sent", None)
    (told,) = [body for body in served.peers.told() if body["notificationType"] == "REQUEST_RESHARE"]
    assert "sharedSecret" not in str(told)
