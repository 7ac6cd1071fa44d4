"""Uploads beside their place: hidden, swept when a crash has left them, and refused where others would collide."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sites import Site

from backends import temporaries
from backends.errors import AlreadyExists, NotFound, PermissionDenied, PreconditionFailed, Unavailable
from backends.webdav import Configured, RemoteRefused, WebDAVBackend
from gateway.outbound import PeerUnreachable, synchronous
from gateway.webdav_storage import LaboriousTransport

from .configured import Open, opened
from .conformance.actions import ROOT, get, make, names, path, put
from .test_webdav_odd_servers import file, folder, listing
from .webdav_servers import PASSWORD, USER, Request, Scripted, alice, outbound, wsgidav

__all__ = ["opened"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def remote(directory: Path) -> Iterator[WebDAVBackend]:
    configured = Configured("backends.remote", "nothing")
    with wsgidav(directory) as url, closing(outbound()) as transport:
        yield WebDAVBackend(url, transport=transport, credential=alice, configured=configured)


def test_an_upload_that_is_on_its_way_is_seen_by_nobody(remote: WebDAVBackend, directory: Path) -> None:
    """Neither listed nor reached by its name."""
    with remote.open_write(path("file"), size=300_000) as writer:
        for _ in range(2):
            writer.write(b"x" * 100_000)
        (hidden,) = wait_for_one(directory)
        assert names(remote) == []
        for call in (remote.stat, remote.open_read, remote.scan, remote.remove):
            with pytest.raises(NotFound):
                call(path(hidden))
        for refused in (
            lambda: remote.open_write(path(hidden)),
            lambda: remote.make_directory(path(hidden)),
            lambda: remote.open_write(path(f"{hidden}/below")),
        ):
            with pytest.raises(PermissionDenied):
                refused()
    assert list(directory.iterdir()) == []


def wait_for_one(directory: Path) -> list[str]:
    deadline = time.monotonic() + 10
    while not (found := [one.name for one in directory.iterdir()]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found


def test_what_a_crash_has_left_is_removed_when_it_is_old(remote: WebDAVBackend, directory: Path) -> None:
    """By whoever lists its folder to the end; a name that only looks alike stays, and stays hidden."""
    young, old = (directory / temporaries.new_name().decode() for _ in range(2))
    other = directory / ".ocm-gateway-notes"
    for one in (young, old, other):
        one.write_bytes(b"left")
    for one in (old, other):
        os.utime(one, (time.time() - temporaries.STALE_AFTER - 60,) * 2)
    (directory / "file").write_bytes(b"x")
    assert names(remote) == [b"file"]
    assert {one.name for one in directory.iterdir()} == {"file", young.name, other.name}


def test_an_upload_of_which_the_server_tells_no_time_may_live(opened: Open) -> None:
    """RFC 4918 section 15.7: not every server has a time of each resource."""
    hidden = temporaries.new_name().decode()
    listed = listing(folder("/"), file(f"/{hidden}", getlastmodified=""), file("/file", getlastmodified=""))
    with Scripted(lambda request: request.reply(207, listed)) as server:
        assert names(opened(server.url)) == [b"file"]
    assert "DELETE" not in {method for method, _ in server.seen}


def test_a_name_that_is_taken_meanwhile_is_not_replaced_unasked(remote: WebDAVBackend) -> None:
    """Nor is a directory ever; and content that may be replaced is."""
    with remote.open_write(path("new"), if_none_match=True) as writer:
        writer.write(b"late")
        put(remote, "new", b"first")
        with pytest.raises(PreconditionFailed):
            writer.commit()
    with remote.open_write(path("other")) as writer:
        writer.write(b"late")
        put(remote, "other", b"first")
        writer.commit()
    assert (get(remote, "new"), get(remote, "other")) == (b"first", b"late")
    remote.stat(ROOT)
    make(remote, "folder")
    with pytest.raises(AlreadyExists):
        remote.copy(path("new"), path("other"), overwrite=False)
    remote.copy(path("new"), path("other"), overwrite=True)
    assert (get(remote, "other"), names(remote)) == (b"first", [b"folder", b"new", b"other"])


def test_a_server_that_takes_no_hidden_names_is_told_apart(
    opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As another gateway of ours, which keeps such names for itself: the error says which key helps."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        site.add_user(USER, PASSWORD)
        url, password = f"{site.url}/dav/files/{USER}/home", PASSWORD.encode()
        with pytest.raises(RemoteRefused, match=r"see backends\.remote\.uploads"):
            put(opened(url, user=USER, password_file=password), "file", b"x")
        put(opened(url, user=USER, password_file=password, uploads="direct"), "file", b"x")
        assert (site.data / "file").read_bytes() == b"x"


# ------------------------------------------------------------------------------------------ what a server can do


@pytest.mark.parametrize("status", [503, 401, 500])
def test_a_server_that_cannot_say_now_what_it_can_do_is_asked_again(opened: Open, status: int) -> None:
    answers = [lambda request: request.reply(status), lambda request: request.reply(200, Allow="COPY, MOVE")]

    def answer(request: Request) -> None:
        answers.pop(0)(request) if request.command == "OPTIONS" else request.reply(207, listing(folder("/")))

    with Scripted(answer) as server:
        backend = opened(server.url)
        backend.stat(ROOT)
        assert not backend.features.server_side_copy
        backend.stat(ROOT)
        assert backend.features.server_side_copy
        backend.stat(ROOT)
        assert [method for method, _ in server.seen].count("OPTIONS") == 2


def test_the_dialect_of_a_server_that_was_away_at_the_start_is_known_before_names_are_read(opened: Open) -> None:
    """XRootD writes names as they are: `%41` is no escape there."""

    def answer(request: Request) -> None:
        request.server_version = "XrootD/5.5"
        listed = [folder("/runs/"), file("/runs/%41")] if request.path == "/runs/" else [folder(request.path)]
        request.reply(200) if request.command == "OPTIONS" else request.reply(207, listing(*listed))

    with Scripted(answer) as server:
        assert names(opened(server.url), "runs") == [b"%41"]


# ------------------------------------------------------------------------------------------- patience, invitations


@pytest.mark.parametrize(("method", "answered"), [("MOVE", True), ("COPY", True), ("DELETE", True), ("GET", False)])
def test_work_may_take_longer_than_an_answer(method: str, answered: bool) -> None:
    def slow(request: Request) -> None:
        time.sleep(0.8)
        request.reply(204)

    with Scripted(slow) as server, closing(outbound(idle_timeout=0.3)) as transport:
        laborious = LaboriousTransport(transport, 10.0)
        headers: Mapping[str, str] = {}
        if answered:
            laborious.request(method, server.url, headers).close()
        else:
            with pytest.raises(laborious.failures, match="no answer in time"):
                laborious.request(method, server.url, headers)


@pytest.mark.parametrize("invites", [True, False])
def test_a_body_of_unknown_size_waits_for_its_invitation_or_a_while(invites: bool) -> None:
    """RFC 9110 section 10.1.1: who does not know the expectation gets the body as well."""
    bodies: list[bytes] = []

    def answer(request: Request) -> None:
        chunks = b""
        while size := int(request.rfile.readline(), 16):
            chunks += request.rfile.read(size)
            request.rfile.readline()
        request.rfile.readline()
        bodies.append(chunks)
        request.reply_to_read_body(201)

    original = Request.handle_expect_100
    Request.handle_expect_100 = original if invites else lambda self: True  # type: ignore[method-assign]
    try:
        with Scripted(answer) as server, closing(outbound()) as transport:
            upload = LaboriousTransport(transport, 10.0).upload("PUT", f"{server.url}/file", {}, None)
            assert upload.send(b"abc")
            assert upload.send(b"def")
            response = upload.finish()
            assert response.status == 201
            response.close()
    finally:
        Request.handle_expect_100 = original  # type: ignore[method-assign]
    assert bodies == [b"abcdef"]


@contextmanager
def stalling(invitation: bytes, stall: float) -> Iterator[str]:
    """A server that says `invitation` to a request, reads nothing more for a while, and then takes the body."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            seen = b""
            while b"\r\n\r\n" not in seen:
                seen += connection.recv(4096)
            connection.sendall(invitation)
            ended.wait(stall)
            while not seen.endswith(b"\r\n0\r\n\r\n") and (piece := connection.recv(1 << 20)):
                seen = seen[-7:] + piece
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join()


@pytest.mark.parametrize("invitation", [b"HTTP/1.1 100 Continue\r\n\r\n", b""])
def test_the_time_for_an_invitation_is_not_that_for_the_body(
    invitation: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synchronous, "INVITATION_SECONDS", 0.2)
    with stalling(invitation, 1.0) as url, closing(outbound()) as transport:
        upload = LaboriousTransport(transport, 10.0).upload("PUT", f"{url}/file", {}, None)
        assert all(upload.send(bytes(1 << 20)) for _ in range(16)), "more than sockets hold"
        response = upload.finish()
        assert response.status == 201
        response.close()


def test_a_server_that_takes_no_more_of_a_body_has_no_time_to_work_on_it() -> None:
    with stalling(b"", 20.0) as url, closing(outbound(idle_timeout=0.3)) as transport:
        upload = LaboriousTransport(transport, 10.0).upload("PUT", f"{url}/file", {}, 1 << 30)
        while upload.send(bytes(1 << 20)):
            pass
        began = time.monotonic()
        with pytest.raises(PeerUnreachable, match="no answer in time"):
            upload.finish()
        assert time.monotonic() - began < 5


def test_a_body_that_nobody_invites_in_time_is_refused_with_the_answer() -> None:
    """A refusal comes instead of the invitation, and is heard."""
    with Scripted(lambda request: request.reply_to_read_body(507)) as server, closing(outbound()) as transport:
        upload = LaboriousTransport(transport, 10.0).upload("PUT", f"{server.url}/file", {}, None)
        upload.send(b"abc")
        response = upload.finish()
        assert response.status == 507
        response.close()


def test_a_server_that_is_gone_is_unavailable_before_the_body(opened: Open) -> None:
    with Scripted(lambda request: request.cut()) as server:
        backend = opened(server.url, idle=1.0)
        with pytest.raises(Unavailable, match=r"backends\.remote: PROPFIND /"):
            backend.open_write(path("file"))
