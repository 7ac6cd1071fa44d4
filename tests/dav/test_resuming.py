"""Uploads in parts, and uploads that are cut: gone on with by who began them, and invisible until they are whole."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from backends.errors import OutOfSpace
from backends.interface import Features, StorageBackend, Writer
from gateway import uploads as limits
from gateway.store import uploads, users

from .served import READ, WRITE, Reply, Served, basic, bearer
from .test_put import Broken, begin, eventually

MIB = 1 << 20
CONTENT = os.urandom(3 * MIB + 17)
TOTAL = len(CONTENT)


def part(served: Served, path: str, first: int, end: int, *, content: bytes = CONTENT, **headers: str) -> Reply:
    """Put the bytes from `first` to before `end` below alice's root."""
    fields = {"Content_Range": f"bytes {first}-{end - 1}/{len(content)}"} | headers
    return served.alice("PUT", path, content[first:end], **fields)


def ask(served: Served, path: str, total: int = TOTAL) -> Reply:
    return served.alice("PUT", path, b"", Content_Range=f"bytes */{total}")


def stored(reply: Reply) -> int:
    """Return how many bytes an answer says are stored."""
    assert reply.status in (202, 416), (reply.status, reply.body)
    told = reply.headers.get("range", "bytes=0--1")
    assert told.startswith("bytes=0-")
    return int(told.removeprefix("bytes=0-")) + 1


def rows(served: Served) -> list[uploads.Upload]:
    return [
        upload
        for backend in ("storage", "memory")
        for upload in served.store.read_sync(lambda tx, name=backend: uploads.of_backend(tx, name))
    ]


def sweep(served: Served) -> None:
    for storage in served.storages.values():
        served.run(served.uploads.sweep(storage))


@pytest.fixture(autouse=True)
def nothing_is_left(served):
    """Every test finishes or drops what it has begun: what stays is debris."""
    yield
    served.ahead += 2 * 24 * 3600
    sweep(served)
    served.ahead = 0.0
    assert (rows(served), served.temporaries()) == ([], [])


def send(served: Served, connection: socket.socket, content: bytes, first: int = 0) -> None:
    """Send some of a body, which belongs after the first `first` bytes, and wait until it has arrived."""
    connection.sendall(content)
    assert eventually(lambda: first + len(content) in [writer.written for writer in served.writers])


def cut(served: Served, connection: socket.socket, content: bytes, first: int = 0) -> None:
    """Send some of a body, let it arrive, and be gone."""
    send(served, connection, content, first)
    connection.close()


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@pytest.mark.parametrize("mount", ["home", "other"])
def test_parts_become_a_file_with_the_last_one_and_are_invisible_before(served, mount):
    path = f"/{mount}/parts"
    for replacing in (False, True):
        assert stored(ask(served, path)) == 0
        assert stored(part(served, path, 0, MIB)) == MIB
        assert stored(part(served, path, MIB, 2 * MIB + 5)) == 2 * MIB + 5
        assert stored(ask(served, path)) == 2 * MIB + 5
        assert stored(ask(served, path, TOTAL + 1)) == 0
        before = served.alice("GET", path)
        assert (before.status, before.body) == ((200, CONTENT) if replacing else (404, before.body))
        listing = served.alice("PROPFIND", f"/{mount}/", Depth="1").body
        assert b"ocm-gateway" not in listing
        assert (b"parts" in listing) == replacing
        done = part(served, path, 2 * MIB + 5, TOTAL)
        assert done.status == (204 if replacing else 201)
        assert done.headers["etag"] == served.alice("HEAD", path).headers["etag"]
        assert served.alice("GET", path).body == CONTENT
    assert rows(served) == []
    assert served.temporaries() == []


def test_a_part_that_would_leave_a_gap_is_told_what_is_there(served):
    reply = part(served, "/home/gap", MIB, TOTAL)
    assert (reply.status, reply.code, stored(reply)) == (416, "PART_BEYOND_STORED", 0)
    part(served, "/home/gap", 0, MIB)
    reply = part(served, "/home/gap", MIB + 1, TOTAL)
    assert (reply.status, reply.code, stored(reply)) == (416, "PART_BEYOND_STORED", MIB)
    assert part(served, "/home/gap", MIB, TOTAL).status == 201


def test_a_part_replaces_what_is_stored_from_its_first_byte_on(served):
    """So a part whose answer was lost is sent again, and one that begins at 0 begins anew."""
    wrong = bytes(TOTAL)
    part(served, "/home/overlap", 0, 2 * MIB, content=wrong)
    assert stored(part(served, "/home/overlap", 0, MIB)) == MIB
    assert stored(part(served, "/home/overlap", MIB, 2 * MIB, content=wrong)) == 2 * MIB
    assert stored(part(served, "/home/overlap", MIB, MIB + 10)) == MIB + 10
    assert len(served.temporaries()) == 1
    assert part(served, "/home/overlap", MIB + 5, TOTAL).status == 201
    assert (served.data / "overlap").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        ("bytes 0-9/*", 400, "TOTAL_REQUIRED"),
        ("bytes */*", 400, "TOTAL_REQUIRED"),
        ("bytes 0-9/10, 0-9/10", 400, "INVALID_CONTENT_RANGE"),
        ("bytes 9-0/10", 400, "INVALID_CONTENT_RANGE"),
        ("bytes 1-10/10", 400, "INVALID_CONTENT_RANGE"),
        ("bytes -5/10", 400, "INVALID_CONTENT_RANGE"),
        ("bytes 0-/10", 400, "INVALID_CONTENT_RANGE"),
        ("bytes=0-9/20", 400, "INVALID_CONTENT_RANGE"),
        ("bytes 0-9", 400, "INVALID_CONTENT_RANGE"),
        ("lines 0-9/20", 400, "INVALID_CONTENT_RANGE"),
        (f"bytes 0-9/{10**30}", 400, "INVALID_CONTENT_RANGE"),
        ("bytes \u0660-\u0669/20", 400, "INVALID_CONTENT_RANGE"),
        ("", 400, "INVALID_CONTENT_RANGE"),
        ("bytes 0-8/20", 400, "LENGTH_MISMATCH"),
        ("bytes 0-10/20", 400, "LENGTH_MISMATCH"),
        ("bytes */20", 400, "UNEXPECTED_BODY"),
        (f"bytes 0-9/{1 << 59}", 507, "OUT_OF_SPACE"),
    ],
)
def test_what_is_no_part_is_refused_with_a_code_before_the_body(served, value, status, code):
    head = ("Content-Length: 10", "Expect: 100-continue", f"Content-Range: {value}")
    with begin(served, "/dav/files/alice/home/refused", *head) as connection:
        answer = connection.recv(65536)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert code.encode() in answer
    assert not (served.data / "refused").exists()


def test_two_content_ranges_are_none(served):
    fields = ("Content-Length: 5", "Content-Range: bytes 0-4/10", "Content-Range: bytes 0-4/10")
    with begin(served, "/dav/files/alice/home/refused", *fields) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.0 400 ")


def test_a_part_without_a_length_of_its_own_is_counted(served):
    pieces = [CONTENT[:100], CONTENT[100:MIB]]
    for announced, code in ((MIB - 1, "LENGTH_MISMATCH"), (MIB + 1, "LENGTH_MISMATCH"), (MIB, "")):
        reply = served.alice("PUT", "/home/counted", iter(pieces), Content_Range=f"bytes 0-{announced - 1}/{TOTAL}")
        assert reply.code == code
        assert stored(ask(served, "/home/counted")) == (0 if code else MIB)
    rest = iter([CONTENT[MIB:TOTAL], b"more"])
    reply = served.alice("PUT", "/home/counted", rest, Content_Range=f"bytes {MIB}-{TOTAL - 1}/{TOTAL}")
    assert (reply.status, reply.code) == (400, "LENGTH_MISMATCH")
    assert not (served.data / "counted").exists()
    assert part(served, "/home/counted", MIB, TOTAL).status == 201


def test_one_part_may_be_the_whole(served):
    assert part(served, "/home/one", 0, TOTAL).status == 201
    assert (served.data / "one").read_bytes() == CONTENT


def test_places_and_rights_are_those_of_every_put(served):
    (served.data / "a-folder").mkdir()
    for path, status, code in (
        ("/frozen/x", 403, "READ_ONLY"),
        ("/home/a-folder", 405, "IS_A_DIRECTORY"),
        ("/home/missing/x", 409, "PARENT_MISSING"),
        ("/newmount", 403, "NO_MOUNT"),
    ):
        reply = part(served, path, 0, 10)
        assert (reply.status, reply.code) == (status, code)
    assert ask(served, "/frozen/x").status == 403


# ----------------------------------------------------------------------------------------------- whose upload it is


def test_nobody_else_sees_or_touches_an_upload(served):
    (served.data / "shared").mkdir()
    part(served, "/home/shared/mine", 0, MIB)
    share = served.share("shared", WRITE)
    others = (
        ("/dav/files/bob/home/shared/mine", basic("bob")),
        ("/dav/ocm/mine", bearer(share.secret)),
    )
    for path, headers in others:
        asked = served.request("PUT", path, b"", headers | {"Content-Range": f"bytes */{TOTAL}"})
        assert stored(asked) == 0
        appended = served.request("PUT", path, b"x" * 10, headers | {"Content-Range": f"bytes {MIB}-{MIB + 9}/{TOTAL}"})
        assert (appended.status, stored(appended)) == (416, 0)
        begun = served.request("PUT", path, b"x" * 10, headers | {"Content-Range": f"bytes 0-9/{TOTAL}"})
        assert stored(begun) == 10
    assert len(rows(served)) == 3
    assert stored(ask(served, "/home/shared/mine")) == MIB
    assert part(served, "/home/shared/mine", MIB, TOTAL).status == 201
    assert (served.data / "shared" / "mine").read_bytes() == CONTENT
    assert len(rows(served)) == 2


@pytest.mark.parametrize("how", ["revoked", "read-only", "owner disabled"])
def test_what_a_share_has_left_goes_with_its_rights(tmp_path, how):
    with Served(tmp_path) as served:
        (served.data / "folder").mkdir()
        ended, other = (served.share("folder", WRITE, owner="bob") for _ in range(2))
        for share in (ended, other):
            headers = bearer(share.secret) | {"Content-Range": "bytes 0-9/20"}
            assert served.request("PUT", "/dav/ocm/file", b"x" * 10, headers).status == 202
        sweep(served)
        assert len(rows(served)) == len(served.temporaries()) == 2
        if how == "revoked":
            served.revoke(ended)
        elif how == "read-only":
            from gateway.store import sent_shares

            served.change(ended, lambda tx, share_id: sent_shares.set_permissions(tx, share_id, READ, 1))
        else:
            served.store.run_sync(lambda tx: users.set_disabled(tx, "bob", True))
        sweep(served)
        left = 0 if how == "owner disabled" else 1
        assert len(rows(served)) == len(served.temporaries()) == left


def test_a_day_later_it_is_gone(served):
    part(served, "/home/old", 0, MIB)
    part(served, "/other/old", 0, MIB)
    served.ahead = 24 * 3600 - 60
    sweep(served)
    assert stored(ask(served, "/home/old")) == stored(ask(served, "/other/old")) == MIB
    served.ahead = 24 * 3600 + 1
    assert stored(ask(served, "/home/old")) == 0
    assert part(served, "/home/old", MIB, TOTAL).status == 416
    sweep(served)
    assert (rows(served), served.temporaries()) == ([], [])


def test_a_principal_has_a_bounded_number_of_unfinished_uploads(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MOST", 3)
    with Served(tmp_path) as served:
        for number in range(3):
            part(served, f"/other/{number}", 0, MIB)
        head = ("Content-Length: 5", "Expect: 100-continue", "Content-Range: bytes 0-4/10")
        with begin(served, "/dav/files/alice/other/more", *head) as connection:
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 507 ")
        assert b"TOO_MANY_UPLOADS" in answer
        assert stored(part(served, "/other/0", MIB, 2 * MIB)) == 2 * MIB
        assert stored(part(served, "/other/1", 0, 10)) == 10
        cut(served, begin(served, "/dav/files/alice/other/cut", f"Content-Length: {TOTAL}"), CONTENT[: 2 * MIB])
        assert eventually(lambda: not served.watch._transfers)
        assert stored(ask(served, "/other/cut")) == 0
        assert part(served, "/other/0", 2 * MIB, TOTAL).status == 201
        assert part(served, "/other/more", 0, 10).status == 202
        served.ahead = 25 * 3600  # what has expired does not count, swept or not
        assert part(served, "/other/later", 0, 10).status == 202


# -------------------------------------------------------------------------------------------------- truth of content


def test_the_digest_of_the_whole_is_checked_before_anything_is_replaced(served):
    served.alice("PUT", "/home/digested", b"old")
    part(served, "/home/digested", 0, MIB)
    reply = part(served, "/home/digested", MIB, TOTAL, Repr_Digest=digest(b"another"))
    assert (reply.status, reply.code) == (400, "DIGEST_MISMATCH")
    assert (served.data / "digested").read_bytes() == b"old"
    assert stored(ask(served, "/home/digested")) == 0, "nothing that is added could make it right"
    part(served, "/home/digested", 0, MIB, Repr_Digest=digest(CONTENT))
    done = part(served, "/home/digested", MIB, TOTAL, Repr_Digest=digest(CONTENT), Content_Digest=digest(CONTENT[MIB:]))
    assert done.status == 204
    assert (served.data / "digested").read_bytes() == CONTENT


def test_the_digest_of_a_part_drops_that_part_alone(served):
    for first, end in ((0, MIB), (MIB, 2 * MIB), (2 * MIB, TOTAL)):
        reply = part(served, "/home/part-digest", first, end, Content_Digest=digest(b"another"))
        assert (reply.status, reply.code) == (400, "DIGEST_MISMATCH")
        assert stored(ask(served, "/home/part-digest")) == first
        assert part(served, "/home/part-digest", first, end, Content_Digest=digest(CONTENT[first:end])).status in (
            201,
            202,
        )
    assert (served.data / "part-digest").read_bytes() == CONTENT


def test_preconditions_count_for_every_part_and_when_it_is_complete(served):
    etag = served.alice("PUT", "/home/guarded", b"old").headers["etag"]
    assert part(served, "/home/guarded", 0, MIB, If_None_Match="*").status == 412
    assert part(served, "/home/guarded", 0, MIB, If_Match=etag).status == 202
    served.alice("PUT", "/other/guarded", b"another file")
    (served.data / "guarded").write_bytes(b"meanwhile, by another program")
    assert part(served, "/home/guarded", MIB, TOTAL, If_Match=etag).status == 412
    assert (served.data / "guarded").read_bytes() == b"meanwhile, by another program"
    etag = served.alice("HEAD", "/home/guarded").headers["etag"]
    assert part(served, "/home/guarded", MIB, TOTAL, If_Match=etag).status == 204


def test_of_two_parts_at_the_same_time_one_wins(served):
    part(served, "/home/contended", 0, MIB)
    fields = (f"Content-Length: {TOTAL - MIB}", f"Content-Range: bytes {MIB}-{TOTAL - 1}/{TOTAL}")
    with begin(served, "/dav/files/alice/home/contended", *fields, "Expect: 100-continue") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        for first in (MIB, MIB - 5):
            reply = part(served, "/home/contended", first, TOTAL)
            assert (reply.status, reply.code) == (409, "UPLOAD_IN_PROGRESS")
        assert stored(ask(served, "/home/contended")) == MIB
        connection.sendall(CONTENT[MIB:])
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
    assert (served.data / "contended").read_bytes() == CONTENT


def test_of_two_first_parts_at_the_same_time_one_wins(served):
    fields = (f"Content-Length: {MIB}", f"Content-Range: bytes 0-{MIB - 1}/{TOTAL}", "Expect: 100-continue")
    with begin(served, "/dav/files/alice/home/firsts", *fields) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        assert stored(part(served, "/home/firsts", 0, 10)) == 10
        connection.sendall(CONTENT[:MIB])
        answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b"UPLOAD_IN_PROGRESS" in answer
    assert stored(ask(served, "/home/firsts")) == 10


def test_many_parts_at_the_same_time_never_mix(served):
    part(served, "/home/raced", 0, 10)
    answers: list[int] = []

    def work(letter: bytes) -> None:
        body = letter * (TOTAL - 10)
        reply = served.alice("PUT", "/home/raced", body, Content_Range=f"bytes 10-{TOTAL - 1}/{TOTAL}")
        answers.append(reply.status)

    threads = [threading.Thread(target=work, args=(bytes([65 + number]),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(answers)) in ([201, 409], [201, 409, 416], [201, 416], [201])
    assert answers.count(201) == 1
    content = (served.data / "raced").read_bytes()
    assert (len(content), len(set(content[10:]))) == (TOTAL, 1)


def test_a_whole_upload_ends_what_was_left_of_older_ones(served):
    """Else a client that asks what is stored would add the end of one content to the beginning of another."""
    part(served, "/home/whole", 0, MIB)
    part(served, "/home/whole", 0, 10, content=b"x" * 20)
    assert len(served.temporaries()) == 2
    assert served.alice("PUT", "/home/whole", b"all").status == 201
    assert (rows(served), served.temporaries()) == ([], [])
    assert stored(ask(served, "/home/whole")) == 0


def test_a_whole_upload_ends_an_older_one_that_is_being_worked_on(served):
    """What is on its way may end, but what is stored of it is no beginning any more, not even for a new upload."""
    part(served, "/home/busy", 0, MIB)
    fields = (f"Content-Length: {MIB}", f"Content-Range: bytes {MIB}-{2 * MIB - 1}/{TOTAL}", "Expect: 100-continue")
    with begin(served, "/dav/files/alice/home/busy", *fields) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        assert served.alice("PUT", "/home/busy", b"whole").status == 201
        assert stored(ask(served, "/home/busy")) == 0
        connection.sendall(CONTENT[MIB : 2 * MIB])
        answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert b"UPLOAD_ENDED" in answer
    assert stored(part(served, "/home/busy", MIB, 2 * MIB)) == 0
    assert (served.data / "busy").read_bytes() == b"whole"
    assert stored(part(served, "/home/busy", 0, MIB)) == MIB
    assert len(served.temporaries()) == 1
    assert part(served, "/home/busy", MIB, TOTAL).status == 204


def test_a_whole_upload_ends_an_older_one_that_is_cut_while_it_is_worked_on(served):
    part(served, "/home/busy-cut", 0, 10)
    fields = (f"Content-Length: {TOTAL - 10}", f"Content-Range: bytes 10-{TOTAL - 1}/{TOTAL}")
    connection = begin(served, "/dav/files/alice/home/busy-cut", *fields)
    connection.sendall(CONTENT[10 : 2 * MIB])
    assert eventually(lambda: served.watch._transfers)
    assert served.alice("PUT", "/home/busy-cut", b"whole").status == 201
    connection.close()
    assert eventually(lambda: not served.watch._transfers)
    for _ in range(2):
        assert stored(ask(served, "/home/busy-cut")) == 0
        sweep(served)
    assert eventually(lambda: not served.temporaries())


# ------------------------------------------------------------------------------------------------ what was cut off


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
def test_an_upload_that_is_cut_keeps_what_has_come(served, end, log):
    name = f"kept-{end}"
    served.alice("PUT", f"/home/{name}", b"old")
    connection = begin(served, f"/dav/files/alice/home/{name}", f"Content-Length: {TOTAL}")
    send(served, connection, CONTENT[: 2 * MIB])
    if end == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if end == "half-close":
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1000)
    connection.close()
    assert eventually(lambda: stored(ask(served, f"/home/{name}")) == 2 * MIB)
    assert (served.data / name).read_bytes() == b"old"
    assert part(served, f"/home/{name}", 2 * MIB, TOTAL, Repr_Digest=digest(CONTENT)).status == 204
    assert (served.data / name).read_bytes() == CONTENT


class Slow:
    """A backend that while `held` looks at a path only once `go` is set, and shows its last Writer."""

    def __init__(self, inner: StorageBackend) -> None:
        self._inner = inner
        self.held = False
        self.writer: Writer | None = None
        self.looking, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def open_write(self, path, **options):
        self.writer = self._inner.open_write(path, **options)
        return self.writer

    def stat(self, path):
        if self.held:
            self.looking.set()
            assert self.go.wait(20)
        return self._inner.stat(path)


def test_a_door_that_closes_waits_until_what_was_cut_is_kept(tmp_path):
    with Served(tmp_path / "door", wrap=Slow) as served:
        connection = begin(served, "/dav/files/alice/home/kept", f"Content-Length: {TOTAL}")
        connection.sendall(CONTENT[: 2 * MIB])
        assert eventually(lambda: served.backend.writer and served.backend.writer.written == 2 * MIB)
        served.backend.held = True
        served.loop.call_soon_threadsafe(served.watch.cut_all)
        assert served.backend.looking.wait(20)
        closing = asyncio.run_coroutine_threadsafe(served.door.close(20), served.loop)
        with pytest.raises(TimeoutError):
            closing.result(0.3)
        served.backend.held = False
        served.backend.go.set()
        closing.result(20)
        assert [upload.parked.size for upload in rows(served)] == [2 * MIB]
        connection.close()


def test_a_part_that_is_cut_keeps_what_has_come_of_it(served):
    part(served, "/home/cut-part", 0, 10)
    fields = (f"Content-Length: {TOTAL - 10}", f"Content-Range: bytes 10-{TOTAL - 1}/{TOTAL}")
    cut(served, begin(served, "/dav/files/alice/home/cut-part", *fields), CONTENT[10 : 2 * MIB], 10)
    assert eventually(lambda: stored(ask(served, "/home/cut-part")) == 2 * MIB)
    fields = (f"Content-Length: {TOTAL - 2 * MIB}", f"Content-Range: bytes {2 * MIB}-{TOTAL - 1}/{TOTAL}")
    cut(served, begin(served, "/dav/files/alice/home/cut-part", *fields), b"too little to be worth it", 2 * MIB)
    assert eventually(lambda: not served.watch._transfers)
    assert stored(ask(served, "/home/cut-part")) == 2 * MIB
    assert part(served, "/home/cut-part", 2 * MIB, TOTAL).status == 201
    assert (served.data / "cut-part").read_bytes() == CONTENT


def test_a_second_cut_takes_the_place_of_the_first(served):
    for length in (MIB + 5, 2 * MIB):
        cut(served, begin(served, "/dav/files/alice/home/again", f"Content-Length: {TOTAL}"), CONTENT[:length])
        # Not by asking the door: whoever asks at that very moment is at the first one, which then keeps its place.
        assert eventually(lambda length=length: [upload.parked.size for upload in rows(served)] == [length])
        assert stored(ask(served, "/home/again")) == length
        assert len(served.temporaries()) == 1
    assert part(served, "/home/again", 2 * MIB, TOTAL).status == 201


def test_what_another_upload_has_overtaken_is_not_kept(served, log):
    connection = begin(served, "/dav/files/alice/home/overtaken", f"Content-Length: {TOTAL}")
    send(served, connection, CONTENT[: 2 * MIB])
    assert served.alice("PUT", "/home/overtaken", b"newer").status == 201
    connection.close()
    assert eventually(lambda: [line for line in log if line["event"] == "dav.upload.cut"])
    assert stored(ask(served, "/home/overtaken")) == 0
    assert served.temporaries() == []


def test_what_is_overtaken_while_it_is_kept_is_dropped_again(served, monkeypatch):
    """The newer one has looked what to end before there was anything."""
    keep, kept = served.uploads.keep, []

    def overtaken(*arguments):
        assert served.alice("PUT", "/home/overtaken-late", b"newer").status == 201
        kept.append(keep(*arguments))
        return kept[0]

    monkeypatch.setattr(served.uploads, "keep", overtaken)
    cut(served, begin(served, "/dav/files/alice/home/overtaken-late", f"Content-Length: {TOTAL}"), CONTENT[: 2 * MIB])
    assert eventually(lambda: kept)
    assert eventually(lambda: (rows(served), served.temporaries()) == ([], []))
    assert stored(ask(served, "/home/overtaken-late")) == 0


def test_an_upload_that_stands_still_keeps_what_has_come_and_one_that_creeps_is_never_cut(tmp_path):
    with Served(tmp_path, body_time=0.4) as served:
        with begin(served, "/dav/files/alice/home/still", f"Content-Length: {TOTAL}") as connection:
            connection.sendall(CONTENT[: 2 * MIB])
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert stored(ask(served, "/home/still")) == 2 * MIB
        with begin(served, "/dav/files/alice/home/creeping", "Content-Length: 12") as connection:
            for _ in range(12):
                connection.sendall(b"x")
                time.sleep(0.15)  # 1.8 s in all
            assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")


def test_a_cut_upload_of_a_revoked_share_is_not_kept(served, log):
    (served.data / "revoking").mkdir()
    share = served.share("revoking", WRITE)
    connection = begin(served, "/dav/ocm/file", f"Content-Length: {TOTAL}", headers=bearer(share.secret))
    send(served, connection, CONTENT[: 2 * MIB])
    served.revoke(share)
    assert eventually(lambda: [line for line in log if line["event"] == "dav.upload.cut"])
    assert (rows(served), served.temporaries()) == ([], [])
    connection.close()


def test_a_full_disk_costs_the_part_that_did_not_fit(tmp_path):
    full = OutOfSpace("full")
    with Served(tmp_path, wrap=lambda local: Broken(local, 2 * MIB + 9, full)) as served:
        assert stored(part(served, "/home/full", 0, 2 * MIB)) == 2 * MIB
        reply = part(served, "/home/full", 2 * MIB, TOTAL)
        assert (reply.status, reply.code) == (507, "OUT_OF_SPACE")
        assert stored(ask(served, "/home/full")) == 2 * MIB
        served.backend._capacity = TOTAL
        assert part(served, "/home/full", 2 * MIB, TOTAL).status == 201
        assert (served.data / "full").read_bytes() == CONTENT
        served.backend._capacity = MIB
        reply = part(served, "/home/first", 0, 2 * MIB)
        assert (reply.status, reply.code) == (507, "OUT_OF_SPACE")
        assert served.temporaries() == []


class Plain:
    """A storage that takes files as a whole only, as one behind WebDAV does."""

    def __init__(self, inner):
        self._inner = inner
        self.features = Features()

    def __getattr__(self, name):
        return getattr(self._inner, name)


def test_a_storage_that_cannot_says_so_and_keeps_nothing(tmp_path, log):
    with Served(tmp_path, wrap=Plain) as served:
        for reply in (part(served, "/home/file", 0, 10), part(served, "/home/file", 5, 10), ask(served, "/home/file")):
            assert (reply.status, reply.code) == (501, "NOT_RESUMABLE")
        cut(served, begin(served, "/dav/files/alice/home/file", f"Content-Length: {TOTAL}"), CONTENT[: 2 * MIB])
        assert eventually(lambda: [line for line in log if line["event"] == "dav.upload.cut"])
        assert served.temporaries() == []
        assert part(served, "/home/file", 0, TOTAL).status == 201


# ------------------------------------------------------------------------------------- what happens to the directory


def test_an_upload_follows_its_folder_through_a_move(served):
    (served.data / "before" / "sub").mkdir(parents=True)
    part(served, "/home/before/sub/file", 0, MIB)
    moved = served.alice("MOVE", "/home/before", Destination="/dav/files/alice/home/after")
    assert moved.status == 201
    assert stored(ask(served, "/home/before/sub/file")) == 0
    assert stored(ask(served, "/home/after/sub/file")) == MIB
    assert part(served, "/home/after/sub/file", MIB, TOTAL).status == 201


def test_a_folder_with_nothing_but_unfinished_uploads_is_removed(served):
    (served.data / "doomed").mkdir()
    part(served, "/home/doomed/file", 0, MIB)
    assert served.alice("DELETE", "/home/doomed").status == 204
    assert not (served.data / "doomed").exists()
    (served.data / "doomed").mkdir()
    assert stored(ask(served, "/home/doomed/file")) == 0
    assert rows(served) == []


def test_what_another_program_has_removed_is_not_there(served):
    part(served, "/home/removed", 0, MIB)
    served.temporaries()[0].unlink()
    part(served, "/home/shortened", 0, MIB)
    os.truncate(served.temporaries()[0], 10)
    for name in ("removed", "shortened"):
        assert stored(ask(served, f"/home/{name}")) == 0
        assert (part(served, f"/home/{name}", MIB, TOTAL)).status == 416


# ------------------------------------------------------------------------------------------------------------- curl


@pytest.fixture
def big(tmp_path) -> Path:
    file = tmp_path / "big"
    file.write_bytes(os.urandom(24 * MIB))
    return file


def test_curl_goes_on_after_it_was_killed(served, big):
    user = ("-sS", "-u", "alice:correct horse")
    url = served.url("/dav/files/alice/home/curled")
    client = subprocess.Popen(["curl", *user, "--limit-rate", "16M", "-T", str(big), url])
    assert eventually(lambda: any(writer.written >= 4 * MIB for writer in served.writers))
    client.kill()
    client.wait()
    total = big.stat().st_size
    assert eventually(lambda: stored(ask(served, "/home/curled", total)) >= MIB)
    offset = stored(ask(served, "/home/curled", total))
    assert offset < total
    done = subprocess.run(
        ["curl", *user, "-T", str(big), "-C", str(offset), "-o", os.devnull, "-w", "%{http_code}", url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "201")
    assert (served.data / "curled").read_bytes() == big.read_bytes()


def test_curl_sends_a_file_in_parts(served, big):
    """As the README shows it, from a pipe: then curl does not announce a length."""
    url = served.url("/dav/files/alice/home/in-parts")
    total = big.stat().st_size
    for first in range(0, total, 8 * MIB):
        end = min(first + 8 * MIB, total)
        done = subprocess.run(
            [
                *("curl", "-sS", "-u", "alice:correct horse", "-T", "-", "-w", "%{http_code}"),
                *("-H", f"Content-Range: bytes {first}-{end - 1}/{total}", url),
            ],
            input=big.read_bytes()[first:end],
            capture_output=True,
            timeout=60,
        )
        assert done.stdout.decode() == ("202" if end < total else "201"), done.stderr
    assert (served.data / "in-parts").read_bytes() == big.read_bytes()


def test_curl_asks_what_is_stored(served, big):
    """As the README shows it."""
    part(served, "/home/asked", 0, MIB)
    done = subprocess.run(
        [
            *("curl", "-sS", "-u", "alice:correct horse", "-X", "PUT", "-d", "", "-i"),
            *("-H", f"Content-Range: bytes */{TOTAL}", served.url("/dav/files/alice/home/asked")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith("HTTP/1.1 202 ")
    assert f"Range: bytes=0-{MIB - 1}" in done.stdout.splitlines()
