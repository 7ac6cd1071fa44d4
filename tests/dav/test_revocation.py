"""What a Grant no longer permits is cut while it runs."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from gateway.access import Grant
from gateway.errors import Unproven
from gateway.ocm.shares import Permission
from gateway.store import sent_shares, users
from gateway.watch import Watch

from .served import CHEAP, READ, WRITE, Served, Shared, basic, bearer
from .test_get import drain, slow_reader
from .test_put import begin, eventually

SIZE = 256 * 1024 * 1024
PROMISE = 5.0  # seconds


@pytest.fixture(params=["uvloop", "asyncio"], scope="module")
def door(request, tmp_path_factory):
    with Served(tmp_path_factory.mktemp("door"), loop=request.param) as served:
        (served.data / "folder").mkdir()
        with (served.data / "folder" / "big").open("wb") as file:
            file.truncate(SIZE)
        yield served


def ended_within_the_promise(connection: socket.socket) -> bool:
    """Tell whether the other side ends the connection in time, however little of it is read meanwhile."""
    started = time.monotonic()
    connection.settimeout(PROMISE + 2)
    try:
        while connection.recv(4096):
            time.sleep(0.005)
    except OSError:
        pass
    finally:
        connection.close()
    return time.monotonic() - started < PROMISE


def running_upload(door: Served, share: Shared, name: str = "new") -> socket.socket:
    """Begin an upload of 3,000,000 bytes that has been let in, and send all but the last."""
    head = ("Content-Length: 3000000", "Expect: 100-continue")
    connection = begin(door, f"/dav/ocm/{name}", *head, headers=bearer(share.secret))
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"x" * 2_999_999)
    return connection


def test_a_download_of_a_revoked_share_is_cut_even_while_the_client_reads_nothing(door):
    share = door.share("folder")
    stalled = slow_reader(door, bearer(share.secret), "/dav/ocm/big")
    reading = slow_reader(door, basic(share.secret), f"/dav/ocm/{share.id}/big")
    other = door.share("folder")
    untouched = slow_reader(door, bearer(other.secret), "/dav/ocm/big")
    door.revoke(share)
    assert ended_within_the_promise(reading)
    time.sleep(0.5)
    count, was_reset = drain(stalled)
    assert was_reset
    assert count < SIZE
    assert drain(untouched)[0] > SIZE - 2000


def test_an_upload_to_a_revoked_share_is_cut_and_stores_nothing(door, log):
    share = door.share("folder", WRITE)
    connection = running_upload(door, share)
    door.revoke(share)
    assert ended_within_the_promise(connection)
    assert eventually(lambda: [line for line in log if line["event"] == "dav.upload.cut"])
    assert not (door.data / "folder" / "new").exists()
    assert not door.temporaries()


def test_an_upload_that_may_no_longer_write_is_cut_and_a_download_goes_on(door):
    share = door.share("folder", WRITE)
    upload = running_upload(door, share)
    download = slow_reader(door, bearer(share.secret), "/dav/ocm/big")
    door.change(share, lambda tx, share_id: sent_shares.set_permissions(tx, share_id, READ, 1))
    assert ended_within_the_promise(upload)
    assert drain(download)[0] > SIZE - 2000
    assert not (door.data / "folder" / "new").exists()


def test_an_upload_that_ends_just_after_the_revocation_is_refused(door):
    share = door.share("folder", WRITE)
    with door.unwatched():  # or it is cut before it ends, if that is the second in which all are looked at
        connection = running_upload(door, share, "late")
        door.revoke(share)
        connection.sendall(b"2")
        answer = connection.recv(1000)
        connection.close()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert not (door.data / "folder" / "late").exists()


def test_an_upload_into_a_folder_that_is_moved_meanwhile_is_not_stored_in_another(door):
    (door.data / "moving").mkdir()
    share = door.share("moving", WRITE)
    connection = running_upload(door, share, "file")
    assert door.alice("MOVE", "/home/moving", Destination="/dav/files/alice/home/moved").status == 201
    (door.data / "moving").mkdir()
    connection.sendall(b"2")
    answer = connection.recv(1000)
    connection.close()
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert not (door.data / "moving" / "file").exists()
    assert not (door.data / "moved" / "file").exists()


def test_whoever_came_with_another_password_is_cut_too(door):
    download = slow_reader(door, basic("alice"), "/dav/files/alice/home/folder/big")
    old = door.store.read_sync(lambda tx: users.password_hash(tx, "alice"))
    door.store.run_sync(lambda tx: users.set_password_hash(tx, "alice", CHEAP.hash("another one")))
    assert ended_within_the_promise(download)
    door.store.run_sync(lambda tx: users.set_password_hash(tx, "alice", old))


def test_a_disabled_user_is_cut_too(door):
    download = slow_reader(door, basic("bob"), "/dav/files/bob/home/folder/big")
    door.store.run_sync(lambda tx: users.set_disabled(tx, "bob", True))
    assert ended_within_the_promise(download)
    door.store.run_sync(lambda tx: users.set_disabled(tx, "bob", False))


class Fickle:
    """Renews what is said to be good."""

    def __init__(self) -> None:
        self.answers: dict[str, frozenset[Permission] | Exception] = {}
        self.asked = 0

    async def renew(self, grant: Grant) -> Grant:
        self.asked += 1
        answer = self.answers[grant.principal]
        if isinstance(answer, Exception):
            raise answer
        return Grant(grant.principal, grant.who, answer, None)


async def test_each_grant_is_read_once_and_only_what_it_lost_is_cut():
    access = Fickle()
    watch = Watch(access, every=0.01)
    running = asyncio.create_task(watch.run())
    cut: list[str] = []
    grants = {name: Grant(name, name, WRITE, None) for name in ("kept", "ended", "reads", "unknown")}
    access.answers = {
        "kept": WRITE,
        "ended": Unproven("ACCESS_DENIED", "ended"),
        "reads": READ,
        "unknown": RuntimeError("the state cannot be read"),
    }
    with (
        watch.over(grants["kept"], Permission.WRITE, lambda: cut.append("kept")),
        watch.over(grants["ended"], Permission.READ, lambda: cut.append("ended")),
        watch.over(grants["ended"], Permission.WRITE, lambda: cut.append("ended")),
        watch.over(grants["reads"], Permission.READ, lambda: cut.append("reads-read")),
        watch.over(grants["reads"], Permission.WRITE, lambda: cut.append("reads-write")),
        watch.over(grants["unknown"], Permission.READ, lambda: cut.append("unknown")),
    ):
        while not access.asked:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.005)
        assert access.asked % 4 == 0
    assert set(cut) == {"ended", "reads-write"}
    cut.clear()
    access.asked = 0
    await asyncio.sleep(0.05)
    assert (cut, access.asked) == ([], 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
