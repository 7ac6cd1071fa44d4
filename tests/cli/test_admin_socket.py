"""The admin socket: whom the kernel says the caller is, what that caller may do, and the file itself."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from ssh_lines import new_key

from gateway.admin import socket as module
from gateway.admin.calling import OPERATOR, Caller
from gateway.admin.socket import bind

from .served import PASSWORD, Served

OTHER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
OPERATORS_COMMANDS = (
    "user.add",
    "user.list",
    "user.update",
    "user.passwd",
    "user.disable",
    "user.enable",
    "user.remove",
    "peer.list",
    "peer.show",
    "peer.trust",
    "peer.block",
    "peer.forget",
    "outbox.list",
    "outbox.retry",
    "backend.list",
    "backend.accept-root",
    "keys.list",
    "keys.rotate",
    "keys.hosts",
)
USERS_COMMANDS = (
    "status",
    "share.create",
    "share.explain",
    "share.list",
    "share.show",
    "share.update",
    "share.revoke",
    "received.list",
    "received.show",
    "received.accept",
    "received.host-key",
    "received.decline",
    "received.leave",
    "received.cp",
    "received.cp.watch",
    "received.cp.stop",
    "invite.create",
    "invite.list",
    "invite.accept",
    "invite.revoke",
    "contact.list",
    "contact.show",
    "contact.add",
    "contact.remove",
    "contact.auto-accept",
    "contact.export",
    "contact.import",
    "received.reshare",
    "request.create",
    "request.list",
    "request.show",
    "request.grant",
    "request.decline",
    "user.key.add",
    "user.key.list",
    "user.key.remove",
)


def ask(path: Path, command: str, body: bytes) -> tuple[int, Any]:
    """Ask in this process, as whoever runs the tests."""
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        connection.request("POST", f"/{command}", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    finally:
        connection.close()


@pytest.fixture(scope="module")
def reachable(served: Served) -> Iterator[Path]:
    """A second name of the socket that other accounts can get to, and that belongs to the group of one of them."""
    directory = Path(tempfile.mkdtemp(prefix="ocm-admin-"))
    directory.chmod(0o755)
    path = directory / "admin.sock"
    os.link(served.socket, path)
    if os.geteuid() == 0:
        os.chown(path, 0, OTHER.pw_gid)
    with structlog.testing.capture_logs():
        served.json("user", "add", OTHER.pw_name, "--password-file", "-", stdin=PASSWORD)
    yield path
    shutil.rmtree(directory)


@contextmanager
def another_service() -> Iterator[None]:
    """Let the service be another account than the caller, where the caller cannot become another one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.os, "geteuid", lambda: os.getuid() + 1)
        yield


def as_other(path: Path, command: str, /, **arguments: Any) -> tuple[int, dict[str, Any]]:
    """Ask as an account that is neither root nor the service."""
    body = json.dumps(arguments)
    if os.geteuid() != 0:
        with another_service():
            return ask(path, command, body.encode())
    curl = shutil.which("curl")
    assert curl, "curl is not installed: `make tools`"
    done = subprocess.run(
        [curl, "--silent", "--show-error", "--write-out", "\n%{http_code}", "--unix-socket", str(path), "--data", body,
         f"http://localhost/{command}"],
        user=OTHER.pw_uid, group=OTHER.pw_gid, extra_groups=[], capture_output=True, text=True, timeout=30, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(text)


# --- who may do what ------------------------------------------------------------------------------------------------


def test_every_command_is_the_operators_or_everybodys(served: Served) -> None:
    """A new command has to be put into one of the two lists."""
    assert set(served.table) == {*OPERATORS_COMMANDS, *USERS_COMMANDS}


@pytest.mark.parametrize("command", OPERATORS_COMMANDS)
def test_another_account_may_not_do_what_is_the_operators(served: Served, reachable: Path, command: str) -> None:
    arguments = {"name": "alice", "password": "a new password", "server": "peer.example"}
    status, answer = as_other(reachable, command, **arguments)
    assert (status, answer["code"]) == (400, "OPERATOR_ONLY")


def test_another_account_acts_as_the_user_of_its_name(served: Served, reachable: Path) -> None:
    share = {"path": "/home/data", "with": "bob@peer.example"}
    status, answer = as_other(reachable, "share.create", **share)
    assert (status, answer["result"]["owner"]) == (200, OTHER.pw_name)
    own = answer["result"]["id"]
    assert [one["id"] for one in as_other(reachable, "share.list")[1]["result"]] == [own]
    assert as_other(reachable, "share.revoke", **{"id": own, "as": OTHER.pw_name})[1]["result"]["state"] == "revoked"
    shown = served.json("share", "show", own)
    assert {event["actor"] for event in shown["events"]} >= {OTHER.pw_name}


@pytest.mark.parametrize("command", [command for command in USERS_COMMANDS if command != "status"])
def test_another_account_acts_as_nobody_else(served: Served, reachable: Path, command: str) -> None:
    arguments = {"as": "alice", "name": "alice", "id": "any", "path": "/home/data", "with": "bob@peer.example"}
    status, answer = as_other(reachable, command, **arguments)
    assert (status, answer["code"]) == (400, "NOT_YOURSELF")


def test_another_account_has_ssh_keys_of_its_own(served: Served, reachable: Path) -> None:
    key, name = new_key(), OTHER.pw_name
    assert as_other(reachable, "user.key.add", name=name, keys=key.line)[0] == 200
    assert [row["fingerprint"] for row in served.json("user", "key", "list", name)] == [key.fingerprint]
    served.cli("user", "disable", name)
    assert as_other(reachable, "user.key.list", name=name)[1]["code"] == "ACCESS_DENIED"
    served.cli("user", "enable", name)
    assert as_other(reachable, "user.key.remove", name=name, fingerprint=key.fingerprint)[0] == 200
    assert as_other(reachable, "user.key.list", name=name)[1]["result"] == []


@pytest.mark.parametrize("command", ["show", "revoke", "update"])
def test_what_belongs_to_others_is_not_there(served: Served, reachable: Path, command: str) -> None:
    share = served.share()
    _, answer = as_other(reachable, f"share.{command}", id=share["id"], never_expires=True)
    assert answer["code"] == "NO_SUCH_SHARE"
    assert served.json("share", "show", share["id"])["state"] == "sent"


def test_an_account_that_is_no_user_here_shares_nothing(served: Served, reachable: Path) -> None:
    served.cli("user", "disable", OTHER.pw_name)
    _, answer = as_other(reachable, "share.create", path="/home/data", **{"with": "bob@peer.example"})
    served.cli("user", "enable", OTHER.pw_name)
    assert answer["code"] == "ACCESS_DENIED"


def test_an_account_without_a_name_is_refused(served: Served, reachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.setattr(module.pwd, "getpwuid", unknown)
    _, answer = as_other(reachable, "share.list")
    assert answer["code"] == "UNKNOWN_ACCOUNT"


def test_the_service_itself_is_the_operator(served: Served) -> None:
    status, answer = ask(served.socket, "user.list", b"")
    assert status == 200
    assert {user["name"] for user in answer["result"]} >= {"alice", "bob"}


def test_each_call_is_noted_with_who_made_it(served: Served, reachable: Path, log: list[Any]) -> None:
    as_other(reachable, "share.list")
    as_other(reachable, "user.list")
    ask(served.socket, "share.list", b"{}")
    lines = [(line["event"], line["command"], line["actor"]) for line in log if line["event"].startswith("admin")]
    assert lines == [
        ("admin command", "share.list", OTHER.pw_name),
        ("admin command refused", "user.list", OTHER.pw_name),
        ("admin command", "share.list", OPERATOR),
    ]


@pytest.mark.parametrize(
    ("caller", "wanted", "acts_as", "scope"),
    [
        (Caller(None), "alice", "alice", "alice"),
        (Caller(None), None, None, None),
        (Caller("alice"), None, "alice", "alice"),
        (Caller("alice"), "alice", "alice", "alice"),
        (Caller("alice"), "bob", None, "refused"),
        (Caller("alice"), "", None, "refused"),
    ],
)
def test_for_whom_a_caller_acts(caller: Caller, wanted: str | None, acts_as: str | None, scope: str | None) -> None:
    if acts_as is None:
        with pytest.raises(Exception, match=r"act as|--as"):
            caller.acting_as(wanted)
    else:
        assert caller.acting_as(wanted) == acts_as
    if scope == "refused":
        with pytest.raises(Exception, match="act as"):
            caller.scope(wanted)
    else:
        assert caller.scope(wanted) == scope


# --- what it is asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "ARGUMENT_MISSING"),
        (b"{}", "ARGUMENT_MISSING"),
        (b"not json", "INVALID_JSON"),
        (b"\xff", "INVALID_JSON"),
        (b"{" * 5000, "INVALID_JSON"),
        (b"[]", "NOT_AN_OBJECT"),
        (b"null", "NOT_AN_OBJECT"),
    ],
)
def test_a_call_without_arguments_misses_them(served: Served, body: bytes, code: str) -> None:
    status, answer = ask(served.socket, "user.add", body)
    assert (status, answer["code"]) == (400, code)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("user.add", {"name": ["a"], "password": {}}),
        ("user.passwd", {"name": "a\ud800", "password": PASSWORD}),
        ("share.create", {"path": 7, "with": "bob@peer.example", "as": "alice"}),
        ("share.create", {"path": "/home/data", "with": ["bob@peer.example"], "as": "alice"}),
        ("share.create", {"path": "/home/data", "with": "bob@peer.example", "as": ["alice"]}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "permissions": "read"}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "permissions": [[], {}]}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "permissions": ["fly"]}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "name": {"a": 1}}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "name": "\ud800"}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "expiration": "soon"}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "expiration": True}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "expiration": 2**70}),
        ("share.create", {"path": "/home/data", "with": "b@p.example", "as": "alice", "expiration": 2.5}),
        ("share.create", {"path": "/home/\ud800", "with": "b@p.example", "as": "alice"}),
        ("share.create", {"path": "/home/" + "x" * 300, "with": "b@p.example", "as": "alice"}),
        ("share.create", {"path": "/home/a\0b", "with": "b@p.example", "as": "alice"}),
        ("share.list", {"as": {"a": 1}}),
        ("share.show", {"id": 7}),
        ("received.accept", {"id": None}),
        ("outbox.retry", {"id": "1"}),
        ("outbox.retry", {"id": -(2**64)}),
        ("peer.show", {"server": []}),
    ],
)
def test_arguments_of_another_kind_are_refused(served: Served, command: str, arguments: dict[str, Any]) -> None:
    status, answer = ask(served.socket, command, json.dumps(arguments).encode())
    assert status == 400, answer
    assert answer["code"].isupper()
    assert answer["message"]


def test_an_unknown_command_and_another_method_are_refused(served: Served) -> None:
    assert ask(served.socket, "user.eat", b"{}")[0] == 404
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(served.socket))
    connection.request("GET", "/user.list")
    assert connection.getresponse().status == 405
    connection.close()


def test_an_error_of_ours_is_named_as_such_and_gives_nothing_away(
    served: Served, monkeypatch: pytest.MonkeyPatch, log: list[Any]
) -> None:
    async def broken(_caller: Caller, _arguments: object) -> None:
        raise RuntimeError("with a secret in its text")

    monkeypatch.setitem(served.table, "status", broken)
    status, answer = ask(served.socket, "status", b"{}")
    assert (status, answer["code"]) == (500, "INTERNAL")
    assert "secret" not in answer["message"]
    (line,) = [line for line in log if line["log_level"] == "error"]
    assert line["exc_info"]
    log.remove(line)


# --- the file -------------------------------------------------------------------------------------------------------


def test_the_socket_is_for_its_owner_and_group(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with bind(tmp_path / "run" / "admin.sock"):
            mode = (tmp_path / "run" / "admin.sock").stat().st_mode
    finally:
        left = os.umask(before)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    assert left == 0, "the mask of the process is as it was"


def test_what_a_crash_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with bind(path) as listener:
        listener.listen()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))


def test_a_socket_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with bind(path) as listener:
        listener.listen()
        with pytest.raises(OSError, match="another gateway listens"):
            bind(path)
        assert path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "admin.sock"
    {
        "file": lambda: path.write_text("precious"),
        "directory": path.mkdir,
        "link": lambda: path.symlink_to(tmp_path / "nowhere"),
    }[kind]()
    with pytest.raises(OSError, match="something else than a socket"):
        bind(path)
    assert os.path.lexists(path)


def test_a_path_that_is_too_long_for_a_socket_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        bind(tmp_path / ("x" * 120))
