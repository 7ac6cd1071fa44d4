"""What callers in its group may send to the admin socket: each mistake is refused with a code, none is an error."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest

from gateway.admin.calling import OPERATOR, Caller
from gateway.admin.socket import MAX_BODY
from gateway.errors import Unproven
from gateway.store import peers as peer_rows
from gateway.users import USER_NAME

from .served import PASSWORD, Served


def post(served: Served, command: str, body: bytes) -> tuple[int, Any]:
    """Send `body` as it is over the socket; return status and answer."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(10)
        channel.connect(str(served.socket))
        head = f"POST /{command} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        channel.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: channel.recv(65536), b""))
    return int(answer.split(b" ")[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


WRONG = {
    "deep": ("status", b"[" * 100_000 + b"]" * 100_000, "INVALID_JSON"),
    "deep object": ("status", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "INVALID_JSON"),
    "no json": ("share.list", b"{", "INVALID_JSON"),
    "a list": ("share.list", b"[]", "NOT_AN_OBJECT"),
    "a list of users": ("share.list", b'{"as": ["x"]}', "ARGUMENT_INVALID"),
    "a number as name": ("share.create", b'{"as":"alice","path":"/home","with":"b@x","name":5}', "ARGUMENT_INVALID"),
    "permissions that are a number": ("share.update", b'{"id": "x", "permissions": 5}', "ARGUMENT_INVALID"),
    "permissions that are objects": ("share.update", b'{"id": "x", "permissions": [{}]}', "ARGUMENT_INVALID"),
    "a lone surrogate": ("share.show", rb'{"id": "\ud800"}', "ARGUMENT_INVALID"),
    "a lone surrogate as path": ("share.create", rb'{"as":"alice","path":"\ud800","with":"b@x"}', "INVALID_PATH"),
    "a lone surrogate as user": ("user.passwd", rb'{"name": "\ud800", "password": "12345678"}', "ARGUMENT_INVALID"),
    "a number beyond SQLite": ("outbox.retry", b'{"id": %d}' % 2**70, "ARGUMENT_INVALID"),
    "a number that is none": ("outbox.retry", b'{"id": true}', "ARGUMENT_INVALID"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_arguments_that_make_no_sense_are_refused_with_a_code(served: Served, what: str) -> None:
    command, body, code = WRONG[what]
    status, answer = post(served, command, body)
    assert (status, answer["code"]) == (400, code)


def test_too_many_arguments_are_refused(served: Served) -> None:
    status, answer = post(served, "status", b'{"a": "' + b"x" * MAX_BODY + b'"}')
    assert (status, answer["code"]) == (413, "BODY_TOO_LARGE")


def test_a_caller_that_goes_away_within_the_arguments_is_no_error(served: Served, log: list[Any]) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(served.socket))
        channel.sendall(b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert post(served, "status", b"")[0] == 200  # the loop has had its turn
    assert [line for line in log if line["log_level"] == "error"] == []


def test_what_the_shell_can_say_wrong_is_told_in_a_sentence(served: Served) -> None:
    for arguments in (("outbox", "retry", "9" * 20), ("share", "show", os.fsdecode(b"\xff"))):
        done = served.cli(*arguments)
        assert (done.exit_code, "ARGUMENT_INVALID" in done.stderr) == (1, True), done.output


# --- who calls ------------------------------------------------------------------------------------------------------


def test_a_refusal_is_logged_with_who_tried(served: Served, log: list[Any]) -> None:
    post(served, "share.show", b'{"id": "unknown"}')
    (line,) = [line for line in log if line["event"] == "admin command refused"]
    assert (line["uid"], line["actor"]) == (os.getuid(), OPERATOR)


def test_no_user_can_be_taken_for_the_operator(served: Served) -> None:
    assert USER_NAME.fullmatch(OPERATOR) is None
    assert Caller("operator").actor != Caller(None).actor
    made = served.share()
    history = served.json("share", "show", made["id"])["events"]
    assert {event["actor"] for event in history if event["action"] == "share.create"} <= {OPERATOR}
    assert OPERATOR in {event["actor"] for event in history}


OWN = ["share.list", "share.show", "share.update", "share.revoke", "share.create", "received.list", "received.show"]
OWN += ["received.accept", "received.decline", "received.leave"]


@pytest.mark.parametrize("command", OWN)
def test_a_disabled_user_does_nothing_over_the_socket(served: Served, command: str) -> None:
    served.json("user", "add", "dora-" + command, "--password-file", "-", stdin=PASSWORD)
    caller = Caller("dora-" + command)
    assert served.run(served.commands.table["share.list"](caller, {})) == []
    served.cli("user", "disable", "dora-" + command)
    arguments = {"id": "x", "path": "/home/data", "with": "bob@peer.example"}
    with pytest.raises(Unproven):
        served.run(served.commands.table[command](caller, arguments))


def test_the_operator_still_looks_after_a_disabled_user(served: Served) -> None:
    served.json("user", "add", "emil", "--password-file", "-", stdin=PASSWORD)
    made = served.share(user="emil")
    served.cli("user", "disable", "emil")
    assert [row["id"] for row in served.json("share", "list", "--as", "emil")] == [made["id"]]
    assert served.json("share", "revoke", made["id"], "--as", "emil")["state"] == "revoked"


# --- what peers say ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["\ufeffplain", "\\ud800", "\u009b31mred\u0085"])
def test_a_discovery_with_anything_in_it_is_shown_harmlessly(served: Served, provider: str) -> None:
    document = '\ufeff{"provider": "' + provider + '"}'
    served.store.run_sync(lambda tx: peer_rows.put(tx, "odd.example", discovery=document))
    for arguments in ((), ("--json",)):
        done = served.cli("peer", "show", "odd.example", *arguments)
        assert done.exit_code == 0, done.output
        assert "provider" in done.stdout
        assert all(char.isprintable() or char == "\n" for char in done.stdout)
