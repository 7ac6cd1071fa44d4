"""A guest of somebody else's server: a key that comes as text, an accepted host key, a link that is given."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sftp_servers import Server, descendants, make_key, user

from backends.errors import IsADirectory, PermissionDenied, Unavailable
from backends.interface import Kind
from backends.sftp import KINDS, Guest, KeyRefused, OtherHostKey, SFTPBackend, shown_host_key

from .conformance.actions import ROOT, get, names, path, put

Open = Callable[..., SFTPBackend]


def blob(key: Path) -> bytes:
    return base64.b64decode(key.with_name(key.name + ".pub").read_text().split()[1])


def guest(server: Server, **changes: Any) -> Guest:
    def dial() -> socket.socket:
        return socket.create_connection(("127.0.0.1", server.port), timeout=5)

    values: dict[str, Any] = {
        "name": "lab",
        "address": "somebody@somewhere",
        "user": user(),
        "dial": dial,
        "private_key": (server.place / "key").read_text,
        "host_key": blob(server.place / "host_key"),
    }
    return Guest(**(values | changes))


@contextmanager
def opened(server: Server, root: Path, **changes: Any) -> Iterator[SFTPBackend]:
    with closing(SFTPBackend(guest(server, **changes), str(root), server.place / "journals", may_be_file=True)) as one:
        yield one


def test_a_guest_gets_in_with_the_text_of_a_key(ssh_server: Server, ssh_root: Path) -> None:
    with opened(ssh_server, ssh_root) as backend:
        put(backend, "file", b"content")
        assert get(backend, "file") == b"content"
        assert names(backend) == [b"file"]


def test_what_a_guest_writes_has_no_name_that_a_gateway_there_would_refuse(ssh_server: Server, ssh_root: Path) -> None:
    """`.ocm-gateway-...` is what a gateway calls its own temporaries, in the storage that it shares."""
    with opened(ssh_server, ssh_root) as backend, backend.open_write(path("file")) as writer:
        writer.write(b"content")
        (there,) = [file.name for file in ssh_root.iterdir()]
        assert re.fullmatch(r"\.ocm-guest-[0-9a-f]{32}", there)
        assert names(backend) == []
        with pytest.raises(PermissionDenied, match="reserved"):
            put(backend, ".ocm-guest-x", b"")
        writer.commit()
        assert names(backend) == [b"file"]


def test_a_key_that_is_not_let_in_is_a_refusal_and_no_silence(
    ssh_server: Server, ssh_root: Path, tmp_path: Path
) -> None:
    """Also for the next who ask, while the server is not asked again; the key is in no error."""
    stranger = make_key(tmp_path / "stranger")
    with opened(ssh_server, ssh_root, private_key=stranger.read_text) as backend:
        with pytest.raises(KeyRefused) as refused:
            backend.stat(ROOT)
        with pytest.raises(PermissionDenied):
            backend.scan(ROOT)
    assert "PRIVATE" not in str(refused.value)


def test_a_host_key_that_was_not_accepted_ends_it_before_the_log_in(
    ssh_server: Server, ssh_root: Path, tmp_path: Path
) -> None:
    def never() -> str:
        raise AssertionError("the key was asked for")

    for other in (blob(make_key(tmp_path / "other")), blob(make_key(tmp_path / "rsa", "rsa")), None):
        with opened(ssh_server, ssh_root, host_key=other, private_key=never) as backend, pytest.raises(OtherHostKey):
            backend.stat(ROOT)


def test_the_host_key_is_shown_before_anybody_logs_in(ssh_server: Server) -> None:
    unknown = guest(ssh_server, host_key=None)
    assert shown_host_key(unknown, KINDS) == blob(ssh_server.place / "host_key")
    with pytest.raises(OtherHostKey, match="nothing in common"):
        shown_host_key(unknown, ["ssh-rsa"])


def test_what_is_no_ssh_server_shows_no_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        def dial() -> socket.socket:
            return socket.create_connection(("127.0.0.1", port))

        waiting = Guest(
            name="lab",
            address="u@h",
            user="u",
            dial=dial,
            private_key=str,
            host_key=None,
            patience=0.3,
            beginning=0.3,
            pulse=0.3,
        )
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            shown_host_key(waiting, KINDS)
        assert time.monotonic() - begun < 5


def test_a_root_may_be_a_file_which_can_be_read(ssh_server: Server, ssh_root: Path) -> None:
    (ssh_root / "one.txt").write_bytes(b"content")
    with opened(ssh_server, ssh_root / "one.txt") as backend:
        assert backend.stat(ROOT).kind is Kind.FILE
        with backend.open_read(ROOT) as reader:
            assert reader.read_at(0, 100) == b"content"
        with pytest.raises(PermissionDenied, match="only in its folder"):
            backend.open_write(ROOT)
    with opened(ssh_server, ssh_root) as backend, pytest.raises(IsADirectory):
        backend.open_write(ROOT)
    assert (ssh_root / "one.txt").read_bytes() == b"content"


def test_a_connection_that_nobody_uses_is_ended_and_the_next_call_makes_another(
    ssh_server: Server, ssh_root: Path
) -> None:
    (ssh_root / "file").write_bytes(b"content")
    with opened(ssh_server, ssh_root) as backend:
        assert backend.is_idle
        with backend.open_read(path("file")) as reader:
            backend.close_idle(0)
            assert not backend.is_idle, "it is in use"
            assert reader.read_at(0, 7) == b"content"
        backend.close_idle(3600)
        assert not backend.is_idle, "it was used a moment ago"
        backend.close_idle(0)
        assert backend.is_idle
        assert backend.stat(ROOT).is_directory


def test_silence_is_told_of_and_a_look_is_given_up_sooner_than_the_rest(ssh_server: Server, ssh_root: Path) -> None:
    heard: list[tuple[str, float]] = []
    changes = {"pulse": 0.3, "silent": lambda why, seconds: heard.append((why, seconds))}
    with opened(ssh_server, ssh_root, **changes) as backend:
        backend.stat(ROOT)
        assert ssh_server.process is not None
        sessions = [child for child in descendants(ssh_server.process.pid) if _name(child) == "sftp-server"]
        for child in sessions:
            os.kill(child, signal.SIGSTOP)
        try:
            assert backend.stat(ROOT).is_directory, "by another connection"
        finally:
            for child in sessions:
                os.kill(child, signal.SIGCONT)
    assert heard == [("no answer within 0.3 s", 0.3)]


def _name(process: int) -> str:
    return Path(f"/proc/{process}/comm").read_text().strip()
