"""The commands over the admin socket: what they print for people and for scripts, and how they fail."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from fake_peers import NO_ANSWER
from parts import NOW, WRITE, until

from gateway.cli import client, main
from gateway.store import peers, sent_shares

from .served import PASSWORD, Served

SHARE_KEYS = {"id", "provider_id", "share_with", "name", "permissions", "protocols", "state", "expiration"}
RECEIVED_KEYS = {"id", "provider_id", "name", "sender", "state", "permissions", "mount"}


@contextmanager
def answering(served: Served, path: str, answer: object) -> Iterator[None]:
    before = served.peers.answers[path]
    served.peers.answers[path] = answer
    yield
    served.peers.answers[path] = before


# --- users ----------------------------------------------------------------------------------------------------------


def test_a_users_life(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first password\nsecond line\n")
    assert served.json("user", "add", "dora", "--password-file", str(file)) == {
        "name": "dora",
        "disabled": False,
        "created": NOW,
        "email": None,
        "display_name": None,
    }
    assert "dora" in served.cli("user", "list").stdout
    assert served.cli("user", "passwd", "dora", "--password-file", "-", stdin="another password").exit_code == 0
    assert "disabled" in served.cli("user", "disable", "dora").stdout
    assert {user["name"]: user["disabled"] for user in served.json("user", "list")}["dora"]
    assert served.cli("user", "enable", "dora").exit_code == 0


def test_a_password_is_asked_for_twice_and_never_shown(served: Served) -> None:
    done = served.cli("user", "add", "erik", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0
    assert "User erik can log in now." in done.stdout
    assert PASSWORD not in done.output
    mistyped = served.cli("user", "add", "fritz", stdin=f"{PASSWORD}\nother\n")
    assert mistyped.exit_code != 0
    assert "fritz" not in {user["name"] for user in served.json("user", "list")}


@pytest.mark.parametrize(
    ("name", "password", "code"),
    [
        ("alice", PASSWORD, "USER_EXISTS"),
        ("Bad Name", PASSWORD, "INVALID_USER_NAME"),
        ("gustav", "short", "PASSWORD_TOO_SHORT"),
        ("gustav", "", "ARGUMENT_MISSING"),
        ("gus\udcfftav", PASSWORD, "ARGUMENT_INVALID"),
    ],
)
def test_a_user_that_cannot_be_is_refused_in_a_sentence(served: Served, name: str, password: str, code: str) -> None:
    done = served.cli("user", "add", name, "--password-file", "-", stdin=password)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("ocm-gateway: ")
    assert f"({code})" in done.stderr
    assert password == "" or password not in done.stderr


def test_a_password_file_that_is_no_text_or_not_there_is_a_usage_error(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xff\xfe\xfd" * 5)
    for path in (file, tmp_path / "none"):
        done = served.cli("user", "add", "hugo", "--password-file", str(path))
        assert done.exit_code == 2
        assert "Traceback" not in done.output


# --- shares ---------------------------------------------------------------------------------------------------------


def test_share_create_gives_the_keys_that_scripts_rely_on(served: Served) -> None:
    share = served.share("--permissions", "read,write", "--expires", "2030-01-01T00:00:00Z", "--name", "Run 42")
    assert set(share) >= SHARE_KEYS
    assert (share["share_with"], share["name"], share["state"]) == ("bob@peer.example", "Run 42", "sent")
    assert (share["permissions"], share["protocols"]) == (["read", "write"], ["webdav"])
    assert share["expiration"] == 1893456000
    assert share["problem"] is None
    assert re.fullmatch(r"[0-9a-z]{20,}", share["id"])
    listed = {one["id"]: one for one in served.json("share", "list", "--as", "alice")}
    assert set(listed[share["id"]]) >= SHARE_KEYS
    shown = served.json("share", "show", share["id"], "--as", "alice")
    assert [event["action"] for event in shown["events"]] == ["share.create", "share delivered"]


def test_share_create_tells_people_how_it_went(served: Served) -> None:
    arguments = ("share", "create", "/home/data", "--as", "alice", "--with", "bob@peer.example")
    taken = served.cli(*arguments)
    assert (taken.exit_code, taken.stderr) == (0, "")
    assert "whose server has taken it" in taken.stdout
    with answering(served, "/shares", (400, {"message": "RECIPIENT_NOT_FOUND"})):
        refused = served.cli(*arguments)
    assert refused.exit_code == 1
    assert "has refused" in refused.stdout
    assert "RECIPIENT_NOT_FOUND" in refused.stderr
    with answering(served, "/shares", NO_ANSWER):
        pending = served.cli(*arguments)
    assert pending.exit_code == 0
    assert "tried again" in pending.stdout
    assert "no answer in time" in pending.stderr


def test_what_a_share_was_refused_for_is_also_in_json(served: Served) -> None:
    with answering(served, "/shares", (403, {"message": "UNTRUSTED_PROVIDER"})):
        done = served.cli("share", "create", "/home/data", "--as", "alice", "--with", "bob@peer.example", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["state"] == "refused"
    assert "UNTRUSTED_PROVIDER" in json.loads(done.stdout)["problem"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("/home/nothing", "--with", "bob@peer.example"), 1, "NO_SUCH_PATH"),
        (("/home/data", "--with", "bob"), 1, "INVALID_ADDRESS"),
        (("/home/../etc", "--with", "bob@peer.example"), 1, "INVALID_PATH"),
        (("/frozen", "--with", "bob@peer.example", "--permissions", "read,write"), 1, "MOUNT_READ_ONLY"),
        (("/home/data", "--with", "bob@peer.example", "--permissions", "write"), 1, "READ_REQUIRED"),
        (("/home/data", "--with", "bob@peer.example", "--permissions", "delete"), 2, "not among"),
        (("/home/data", "--with", "bob@peer.example", "--expires", "2001-01-01"), 1, "EXPIRED"),
        (("/home/data", "--with", "bob@peer.example", "--expires", "soon"), 2, "write 30d"),
        (("/home/data", "--with", "bob@peer.example", "--name", "a/b"), 1, "INVALID_NAME"),
        (("/home/data",), 2, "--with"),
        ((), 2, "PATH"),
    ],
)
def test_a_share_that_cannot_be_is_refused_in_a_sentence(
    served: Served, arguments: tuple[str, ...], status: int, said: str
) -> None:
    before = len(served.json("share", "list"))
    done = served.cli("share", "create", *arguments, "--as", "alice")
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr
    assert len(served.json("share", "list")) == before


def test_a_path_that_is_not_utf8_arrives_as_it_is(served: Served) -> None:
    done = served.cli("share", "create", os.fsdecode(b"/home/caf\xe9"), "--as", "alice", "--with", "bob@peer.example")
    assert "caf%E9" in done.stderr
    assert "(NO_SUCH_PATH)" in done.stderr


def test_a_share_is_changed_and_revoked(served: Served) -> None:
    share = served.share("--permissions", "read,write")
    changes = ("--permissions", "read", "--expires", "2030-01-01")
    shown = served.json("share", "update", share["id"], "--as", "alice", *changes)
    assert shown["permissions"] == ["read"]
    assert shown["expiration"] is not None
    assert served.json("share", "update", share["id"], "--never-expires")["expiration"] is None
    for arguments, said in (
        ((), "say what to change"),
        (("--expires", "1d", "--never-expires"), "exclude each other"),
    ):
        done = served.cli("share", "update", share["id"], *arguments)
        assert (done.exit_code, said in done.stderr) == (2, True)
    done = served.cli("share", "revoke", share["id"], "--as", "alice")
    assert "has no access to data any more" in done.stdout
    assert served.json("share", "revoke", share["id"])["state"] == "revoked"
    assert served.cli("share", "update", share["id"], "--never-expires").exit_code == 1


def test_a_share_is_for_its_owner_and_the_operator(served: Served) -> None:
    share = served.share()
    for command in (("show",), ("revoke",), ("update", "--never-expires")):
        done = served.cli("share", command[0], share["id"], "--as", "bob", *command[1:])
        assert (done.exit_code, "(NO_SUCH_SHARE)" in done.stderr) == (1, True)
    assert share["id"] in served.cli("share", "list").stdout
    assert share["id"] not in served.cli("share", "list", "--as", "bob").stdout
    assert "Nothing is shared yet." in served.cli("share", "list", "--as", "nobody").stdout
    missing = served.cli("share", "create", "/home/data", "--with", "bob@peer.example")
    assert "(USER_MISSING)" in missing.stderr


# --- received -------------------------------------------------------------------------------------------------------


def test_received_list_gives_the_keys_that_scripts_rely_on(served: Served) -> None:
    served.receive("listed", permissions=WRITE)
    (row,) = [row for row in served.json("received", "list", "--as", "alice") if row["id"] == "listed"]
    assert set(row) >= RECEIVED_KEYS
    assert (row["sender"], row["state"], row["permissions"], row["mount"]) == (
        "carol@peer.example",
        "pending",
        ["read", "write"],
        None,
    )
    assert served.json("received", "list", "--as", "bob") == []
    assert "Nobody has shared anything yet." in served.cli("received", "list", "--as", "bob").stdout


def test_a_received_share_is_accepted_and_left(served: Served) -> None:
    served.receive("accepted", name="measurements")
    done = served.cli("received", "accept", "accepted", "--as", "alice")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "/received/measurements is carol@peer.example's folder" in done.stdout
    assert served.json("received", "accept", "accepted", "--as", "alice")["mount"] == "/received/measurements"
    shown = served.cli("received", "show", "accepted", "--as", "alice").stdout
    assert "share.accept" in shown
    left = served.cli("received", "leave", "accepted", "--as", "alice")
    assert "Left: measurements of carol@peer.example." in left.stdout
    assert served.json("received", "show", "accepted")["state"] == "left"


def test_what_could_not_be_said_or_seen_is_said(served: Served) -> None:
    served.receive("waiting", name="waiting")
    served.remote.problem = "no answer within 15 s"
    with answering(served, "/notifications", NO_ANSWER):
        done = served.cli("received", "accept", "waiting", "--as", "alice")
    served.remote.problem = None
    assert done.exit_code == 0
    assert "the sender could not be told yet" in done.stderr
    assert "its content cannot be seen yet: no answer within 15 s" in done.stderr


def test_declining_and_what_does_not_fit(served: Served) -> None:
    served.receive("declined")
    assert "Declined" in served.cli("received", "decline", "declined", "--as", "alice").stdout
    for command in ("accept", "leave"):
        done = served.cli("received", command, "declined", "--as", "alice")
        assert (done.exit_code, "(WRONG_STATE)" in done.stderr) == (1, True)
    assert "(NO_SUCH_SHARE)" in served.cli("received", "accept", "declined", "--as", "bob").stderr


# --- peers, outbox, keys, backends ----------------------------------------------------------------------------------


def test_peers_are_trusted_blocked_and_forgotten(served: Served) -> None:
    assert served.cli("peer", "block", "Evil.Example:443").exit_code == 0
    assert {row["server"]: row["trust"] for row in served.json("peer", "list")}["evil.example"] == "blocked"
    blocked = served.cli("share", "create", "/home/data", "--as", "alice", "--with", "eve@evil.example")
    assert "(UNTRUSTED_PROVIDER)" in blocked.stderr
    assert served.cli("peer", "trust", "evil.example").exit_code == 0
    assert served.json("peer", "show", "evil.example")["trust"] == "trusted"
    assert served.cli("peer", "forget", "evil.example").exit_code == 0
    for command in ("show", "forget"):
        assert "(NO_SUCH_PEER)" in served.cli("peer", command, "evil.example").stderr
    for name in ("https://evil.example/", "evil example", "", "a" * 300, "evil\udcff.example"):
        done = served.cli("peer", "block", name)
        assert done.exit_code == 1, name
        assert "INVALID" in done.stderr or "MISSING" in done.stderr


def test_the_outbox_is_shown_and_tried_again(served: Served) -> None:
    with answering(served, "/shares", NO_ANSWER):
        share = served.share()
    (waiting,) = [row for row in served.json("outbox", "list") if row["share"] == share["id"]]
    assert (waiting["state"], waiting["kind"], waiting["attempts"]) == ("pending", "share", 1)
    assert str(waiting["id"]) in served.cli("outbox", "list").stdout
    assert served.json("outbox", "retry", str(waiting["id"])) == {"messages": 1}
    assert served.json("outbox", "retry", "99999") == {"messages": 0}
    assert "message(s) are tried now" in served.cli("outbox", "retry").stdout
    assert served.cli("outbox", "retry", "x").exit_code == 2
    assert served.cli("outbox", "retry", "1", "--server", "peer.example").exit_code == 2
    served.run(until(lambda: all(row["state"] != "pending" for row in served.messages())))


def test_what_is_known_of_a_peers_proofs_is_shown(served: Served) -> None:
    """The kind of signature, less secure ways with their last use, and the last message that proved nothing."""
    refused = {"at": NOW, "code": "SIGNATURE_INVALID", "reason": "no\x1b[31m", "signature_base": "first\nsecond"}
    pin = {"key_id": "https://old.example/ocm#signature", "fingerprint": "00"}
    values = {"signed_as": "cavage", "pinned_key": pin, "legacy_used": {"basic": NOW}, "refused": refused}
    served.store.run_sync(lambda tx: peers.put(tx, "old.example", **values))
    shown = served.json("peer", "show", "old.example")
    assert {name: shown[name] for name in values} == values
    assert shown["signs"] is True
    text = served.cli("peer", "show", "old.example").stdout
    for line in (
        "signed as:    cavage",
        "  2027-01-15 08:00:00Z  basic",
        "last message whose proof failed:",
        "  code: SIGNATURE_INVALID",
        "  reason: no?[31m",
        "  signature base: first",
        "    second",
    ):
        assert line in text.splitlines(), text
    assert "cavage" in served.cli("peer", "list").stdout


def test_the_outbox_is_searched_and_tried_again_by_server(served: Served) -> None:
    with answering(served, "/shares", NO_ANSWER):
        share = served.share()
    states = {
        state: [row["share"] for row in served.json("outbox", "list", "--state", state)]
        for state in ("pending", "delivered")
    }
    assert share["id"] in states["pending"]
    assert share["id"] not in states["delivered"]
    assert share["id"] in [row["share"] for row in served.json("outbox", "list", "--server", "peer.example")]
    assert served.json("outbox", "list", "--server", "nobody.example") == []
    assert "There is no such message." in served.cli("outbox", "list", "--server", "nobody.example").stdout
    assert served.cli("outbox", "list", "--state", "lost").exit_code == 2
    assert served.json("outbox", "retry", "--server", "nobody.example") == {"messages": 0}
    assert served.json("outbox", "retry", "--server", "Peer.Example:443")["messages"] >= 1
    assert "INVALID" in served.cli("outbox", "retry", "--server", "https://x/").stderr
    served.run(until(lambda: all(row["state"] != "pending" for row in served.messages())))


def test_trying_again_asks_a_server_that_was_given_up(served: Served) -> None:
    served.real_peers.breakers.silent("peer.example", "no answer in time", 5)
    assert served.json("outbox", "retry", "--server", "peer.example")["messages"] == 0
    assert served.real_peers.breakers.is_silent("peer.example"), "nothing waits for it"
    with answering(served, "/shares", NO_ANSWER):
        served.share()
    served.cli("outbox", "retry", "--server", "peer.example")
    assert not served.real_peers.breakers.is_silent("peer.example")
    served.run(until(lambda: all(row["state"] != "pending" for row in served.messages())))


def test_a_server_that_does_not_answer_is_shown_with_since_when_and_why(served: Served) -> None:
    served.cli("peer", "trust", "dead.example")
    assert served.json("peer", "show", "dead.example")["breaker"] == "closed"
    served.real_peers.breakers.silent("dead.example", "dead.example:443: no answer in time", 5)
    shown = served.json("peer", "show", "dead.example")
    assert (shown["breaker"], shown["last_error"]) == ("open", "dead.example:443: no answer in time")
    assert (shown["silent_since"], shown["retry"]) == (NOW, NOW + 5)
    assert "silent since: 2027-" in served.cli("peer", "show", "dead.example").stdout
    assert "open" in served.cli("peer", "list").stdout
    served.cli("peer", "forget", "dead.example")
    assert not served.real_peers.breakers.is_silent("dead.example")


def test_keys_are_listed_and_rotated(served: Served) -> None:
    before = served.json("keys", "list")
    assert {key["alg"] for key in before} == {"Ed25519", "ES256", "rsa-sha512"}
    assert all(key["signs"] for key in before)
    after = served.json("keys", "rotate")
    assert len(after) == len(before) + 3
    assert {key["kid"] for key in before} < {key["kid"] for key in after}


def test_backends_are_listed(served: Served) -> None:
    assert served.json("backend", "list") == [{"name": "storage", "type": "memory", "problem": None}]
    assert "(NO_SUCH_BACKEND)" in served.cli("backend", "accept-root", "none").stderr


def test_the_gateway_says_that_it_runs(served: Served) -> None:
    assert served.json("status") == {"version": "0", "pid": 1}


# --- no gateway, or a strange one -----------------------------------------------------------------------------------


def config_for(path: Path, directory: Path) -> Path:
    config = directory / "config.yaml"
    listen = {"admin": str(path)}
    config.write_text(yaml.safe_dump({"public_url": "https://x", "state_dir": str(directory), "listen": listen}))
    return config


def test_a_gateway_that_does_not_run_is_said_with_what_to_do(tmp_path: Path) -> None:
    config = config_for(tmp_path / "admin.sock", tmp_path)
    stale = socket.socket(socket.AF_UNIX)
    for _ in range(2):
        done = CliRunner().invoke(main, ["--config", str(config), "user", "list"])
        assert (done.exit_code, done.stdout) == (1, "")
        assert "the gateway is not running" in done.stderr
        assert "systemctl start ocm-gateway" in done.stderr
        if not (tmp_path / "admin.sock").exists():
            stale.bind(str(tmp_path / "admin.sock"))  # what a crash leaves: nobody listens
    stale.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    ],
)
def test_an_answer_that_is_none_is_a_sentence_and_no_traceback(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        done = CliRunner().invoke(main, ["--config", str(config_for(path, tmp_path)), "user", "list"])
        thread.join()
    assert (done.exit_code, done.stdout) == (1, "")
    assert isinstance(done.exception, SystemExit)
    assert "broke off the call" in done.stderr


def test_a_gateway_that_hangs_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.2)
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        done = CliRunner().invoke(main, ["--config", str(config_for(path, tmp_path)), "user", "list"])
    assert done.exit_code == 1
    assert "did not answer" in done.stderr


def test_a_configuration_with_other_mistakes_still_leads_to_the_socket(served: Served) -> None:
    text = served.config.read_text()
    served.config.write_text(text + "nonsense: true\n")
    try:
        assert served.cli("user", "list").exit_code == 0
    finally:
        served.config.write_text(text)


# --- the terminal ---------------------------------------------------------------------------------------------------

EVIL = "a\x1b[31mb\x07c\x9b2Jd\u202ee\nf\rg\udcffh"


def steers(text: str) -> list[str]:
    return [char for char in text if not char.isprintable() and char != "\n"]


def test_nothing_of_peers_steers_the_terminal(served: Served) -> None:
    """As if every earlier check had failed: names, addresses, reasons and documents come to the command line as bad."""
    bad = EVIL.replace("\udcff", "")
    served.receive("evil", name=bad, sender=f"{bad}@x", owner=bad, description=bad, mount=bad, state="accepted")
    document = json.dumps({"provider": bad, bad: [bad]}, ensure_ascii=False)
    served.store.run_sync(lambda tx: peers.put(tx, "evil.example", discovery=document, last_error=bad, trust=None))
    share = served.share()
    served.store.run_sync(lambda tx: sent_shares.set_recipient_display_name(tx, share["id"], bad))
    for arguments in (
        ("received", "list"),
        ("received", "show", "evil"),
        ("received", "leave", "evil"),
        ("received", "list", "--json"),
        ("peer", "list"),
        ("peer", "show", "evil.example"),
        ("peer", "show", "evil.example", "--json"),
        ("share", "show", share["id"]),
        ("share", "list"),
        ("outbox", "list"),
        ("share", "show", EVIL),
        ("user", "disable", EVIL),
    ):
        done = served.cli(*arguments)
        assert steers(done.output) == [], arguments
        assert isinstance(done.exception, SystemExit | None), arguments
    shown = json.loads(served.cli("received", "show", "evil", "--json").stdout)
    assert shown["name"] == bad, "for scripts it is what it is"


def test_a_reason_of_a_peer_does_not_steer_the_terminal(served: Served) -> None:
    with answering(served, "/shares", (400, {"message": EVIL.replace("\udcff", "")})):
        done = served.cli("share", "create", "/home/data", "--as", "alice", "--with", "bob@peer.example")
    assert done.exit_code == 1
    assert steers(done.output) == []
    assert "a[31mbc2Jdefgh" in done.stderr
