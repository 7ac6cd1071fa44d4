"""PUT: refused before the body where that is possible, stored whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import resource
import signal
import socket
import threading
import time

import pytest

from backends.errors import OutOfSpace, Unavailable
from backends.interface import StorageBackend
from backends.paths import StoragePath

from .served import READ, WRITE, Served, basic, bearer


def begin(served: Served, path: str, *fields: str, headers: dict[str, str] | None = None) -> socket.socket:
    """Send the head of a PUT and leave the body to the test."""
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    lines = [f"PUT {path} HTTP/1.1", "Host: x", *fields]
    lines += [f"{name}: {value}" for name, value in (basic("alice") if headers is None else headers).items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def eventually(condition) -> bool:
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_new_file_is_201_and_a_replaced_one_204_each_with_its_etag(served):
    reply = served.alice("PUT", "/home/file", b"one")
    assert (reply.status, reply.body) == (201, b"")
    assert reply.headers["etag"] == served.alice("HEAD", "/home/file").headers["etag"]
    again = served.alice("PUT", "/home/file", b"two")
    assert again.status == 204
    assert again.headers["etag"] != reply.headers["etag"]
    assert served.alice("GET", "/home/file").body == b"two"


def test_content_of_every_length_arrives(served):
    for size in (0, 1, 65_536, 1 << 20, (1 << 20) + 1, 5_000_000):
        content = b"x" * size
        assert served.alice("PUT", "/home/sized", content).status in (201, 204)
        assert (served.data / "sized").read_bytes() == content
        assert served.alice("PUT", "/home/chunked", iter([content[:100], content[100:]])).status in (201, 204)
        assert (served.data / "chunked").read_bytes() == content


def test_where_a_file_cannot_be_is_said_before_the_body(served):
    (served.data / "folder").mkdir()
    served.alice("PUT", "/home/plain", b"x")
    for path, status, code in (
        ("/home/folder", 405, "IS_A_DIRECTORY"),
        ("/home/folder/", 405, "IS_A_DIRECTORY"),
        ("/home/", 405, "IS_A_DIRECTORY"),
        ("/home/gone/file", 409, "PARENT_MISSING"),
        ("/home/plain/file", 409, "PARENT_MISSING"),
        ("/frozen/file", 403, "READ_ONLY"),
        ("/newmount", 403, "NO_MOUNT"),
        ("/received/x", 403, "NO_MOUNT"),
        ("/", 405, "METHOD_NOT_ALLOWED"),
    ):
        with begin(served, f"/dav/files/alice{path}", "Content-Length: 10", "Expect: 100-continue") as connection:
            answer = connection.recv(65536)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), path
        assert code.encode() in answer
        assert b"Connection: close" in answer


def test_what_would_not_be_the_whole_plain_content_is_refused(served):
    for field, value, status in (
        ("Content-Encoding", "gzip", 415),
        ("Content-Digest", "rubbish!", 400),
        ("Content-Digest", "sha-256=1", 400),
        ("Repr-Digest", "sha-256", 400),
        ("Expect", "a-miracle", 417),
    ):
        reply = served.alice("PUT", "/home/refused", b"x", **{field.replace("-", "_"): value})
        assert reply.status == status, field
    assert not (served.data / "refused").exists()
    assert served.alice("PUT", "/home/identity", b"x", Content_Encoding="identity").status == 201


def test_preconditions_are_checked_before_the_body_and_hold_to_the_end(served):
    etag = served.alice("PUT", "/home/guarded", b"old").headers["etag"]
    for fields in ({"If_Match": '"other"'}, {"If_None_Match": "*"}, {"If": '(["other"])'}, {"If": "(<urn:x:lock>)"}):
        reply = served.alice("PUT", "/home/guarded", b"new", **fields)
        assert reply.status == 412, fields
    assert served.alice("PUT", "/home/not-there", b"new", If_Match="*").status == 412
    assert (served.data / "guarded").read_bytes() == b"old"
    with begin(served, "/dav/files/alice/home/guarded", "Content-Length: 3", f"If-Match: {etag}") as connection:
        connection.sendall(b"n")
        time.sleep(0.2)
        assert served.alice("PUT", "/home/guarded", b"meanwhile").status == 204
        connection.sendall(b"ew")
        assert connection.recv(1000).startswith(b"HTTP/1.1 412 ")
    assert (served.data / "guarded").read_bytes() == b"meanwhile"
    etag = served.alice("HEAD", "/home/guarded").headers["etag"]
    assert served.alice("PUT", "/home/guarded", b"last", If_Match=f'"other", {etag}').status == 204


def test_100_continue_comes_after_the_checks_and_before_the_body(served):
    head = ("Content-Length: 4", "Expect: 100-continue")
    with begin(served, "/dav/files/alice/home/expected", *head) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
    with begin(served, "/dav/files/alice/home/expected", *head, headers=basic("alice", "wrong")) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
@pytest.mark.parametrize("field", ["Content_Digest", "Repr_Digest"])
def test_a_digest_is_checked_before_the_old_content_is_replaced(served, field, algorithm):
    served.alice("PUT", "/home/digested", b"old")
    good, bad = (
        f"{algorithm}=:{base64.b64encode(hashlib.new(algorithm.replace('-', ''), text).digest()).decode()}:, md5=:AA==:"
        for text in (b"new", b"other")
    )
    reply = served.alice("PUT", "/home/digested", b"new", **{field: bad})
    assert (reply.status, reply.code) == (400, "DIGEST_MISMATCH")
    assert (served.data / "digested").read_bytes() == b"old"
    assert served.alice("PUT", "/home/digested", b"new", **{field: good}).status == 204
    assert (served.data / "digested").read_bytes() == b"new"
    reply = served.alice("PUT", "/home/digested", b"new", Content_Digest=good, Repr_Digest=bad)
    assert (reply.status, reply.code) == (400, "DIGEST_MISMATCH")


def test_a_digest_that_nobody_knows_is_ignored(served):
    assert served.alice("PUT", "/home/unknown-digest", b"x", Content_Digest="crc32c=:AAAAAA==:").status == 201


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
@pytest.mark.parametrize("announced", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
def test_an_upload_that_is_cut_leaves_the_old_content_and_no_trace(served, end, announced, log):
    """Unless it is worth keeping and its length was announced: `test_resuming.py`."""
    name = f"cut-{end}-{announced[:7]}"
    served.alice("PUT", f"/home/{name}", b"old")
    connection = begin(served, f"/dav/files/alice/home/{name}", announced)
    connection.sendall(b"100000\r\n" + b"n" * 1_500_000 if "chunked" in announced else b"n" * 900_000)
    time.sleep(0.2)
    if end == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if end == "half-close":
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(1000).startswith(b"HTTP/1.1 2")
    connection.close()
    assert eventually(lambda: [line for line in log if line["event"] == "dav.upload.cut"])
    assert (served.data / name).read_bytes() == b"old"
    assert not served.temporaries()


def test_a_broken_transfer_coding_is_refused(served):
    for body in (b"zz\r\nxx\r\n", b"5\r\nabc", b"-1\r\n", b"2\r\nabXX0\r\n\r\n"):
        connection = begin(served, "/dav/files/alice/home/broken", "Transfer-Encoding: chunked")
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1000)
        connection.close()
        assert not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 5")), body
    assert not (served.data / "broken").exists()
    assert not served.temporaries()


def test_what_comes_after_the_announced_length_is_no_content(served):
    connection = begin(served, "/dav/files/alice/home/lied", "Content-Length: 5")
    connection.sendall(b"12345")
    assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
    connection.sendall(b"678\r\n\r\n")
    assert connection.recv(1000).startswith(b"HTTP/1.0 400 ")
    connection.close()
    assert (served.data / "lied").read_bytes() == b"12345"


def test_a_client_that_stops_sending_is_told_so_and_leaves_nothing(tmp_path):
    with Served(tmp_path, body_time=0.3) as served:
        with begin(served, "/dav/files/alice/home/stalled", "Content-Length: 10") as connection:
            connection.sendall(b"12345")
            answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in answer
        assert not (served.data / "stalled").exists()
        assert not served.temporaries()


def test_a_slow_client_holds_up_nobody_and_no_thread(served):
    connections = [begin(served, f"/dav/files/alice/home/slow-{n}", "Content-Length: 2") for n in range(20)]
    for connection in connections:
        connection.sendall(b"1")
    time.sleep(0.1)
    started = time.monotonic()
    assert served.alice("PUT", "/home/quick", b"x").status in (201, 204)
    assert time.monotonic() - started < 2
    for connection in connections:
        connection.sendall(b"2")
        assert connection.recv(1000).startswith(b"HTTP/1.1 201 ")
        connection.close()


def test_a_read_only_share_refuses_every_writing_verb_before_anything_is_read(served):
    (served.data / "readonly").mkdir()
    (served.data / "readonly" / "file").write_bytes(b"x")
    share = served.share("readonly", READ)
    for method, path in (
        ("PUT", "file"), ("PUT", "new"), ("PUT", ""), ("MKCOL", "new"), ("MKCOL", "file"), ("DELETE", "file"),
        ("DELETE", "gone"), ("DELETE", ""), ("PROPPATCH", "file"), ("MOVE", "file"), ("MOVE", "gone"), ("COPY", "file"),
    ):  # fmt: skip
        fields = bearer(share.secret) | {"Destination": "/dav/ocm/other", "Expect": "100-continue"}
        reply = served.request(method, f"/dav/ocm/{path}", b"" if method != "PUT" else b"y", fields)
        assert (reply.status, reply.code) == (403, "READ_ONLY"), (method, path)
    assert [path.name for path in (served.data / "readonly").iterdir()] == ["file"]


def test_a_writable_shared_file_can_be_replaced_and_nothing_else(served):
    served.alice("PUT", "/home/single", b"old")
    share = served.share("single", WRITE)
    headers = bearer(share.secret)
    assert served.request("PUT", "/dav/ocm/", b"new", headers).status == 204
    assert served.request("PUT", f"/dav/ocm/{share.id}", b"newer", headers).status == 204
    assert served.request("GET", "/dav/ocm/", headers=headers).body == b"newer"
    for method in ("DELETE", "MOVE"):
        reply = served.request(method, "/dav/ocm/", headers=headers | {"Destination": "/dav/ocm/x"})
        assert (reply.status, reply.code) == (403, "ROOT")
    assert served.request("PUT", "/dav/ocm/below", b"x", headers).status == 409


class Broken:
    """A backend whose writers fail as `error` says once they have taken `capacity` bytes."""

    def __init__(self, inner: StorageBackend, capacity: int, error: Exception) -> None:
        self._inner = inner
        self._capacity = capacity
        self._error = error

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def open_write(self, path: StoragePath, **options):
        writer = self._inner.open_write(path, **options)
        write = writer._write

        def limited(data):
            if writer.written > self._capacity:
                raise self._error
            write(data)

        writer._write = limited
        return writer


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(OutOfSpace("full"), 507, "OUT_OF_SPACE"), (Unavailable("gone", retry_after=7), 503, "UNAVAILABLE")],
)
def test_a_storage_that_fails_while_it_is_written_loses_nothing(tmp_path, error, status, code):
    with Served(tmp_path, wrap=lambda local: Broken(local, 2_000_000, error)) as served:
        (served.data / "file").write_bytes(b"old")
        for body in (b"n" * 5_000_000, iter([b"n" * 1_000_000] * 5)):
            reply = served.alice("PUT", "/home/file", body)
            assert (reply.status, reply.code) == (status, code)
            assert reply.headers.get("retry-after") == ("7" if status == 503 else None)
        assert (served.data / "file").read_bytes() == b"old"
        assert not served.temporaries()
        assert served.alice("PUT", "/home/file", b"small").status == 204


def test_a_file_that_the_disk_has_no_room_for_is_507_before_the_body(served):
    with begin(
        served, "/dav/files/alice/home/huge", f"Content-Length: {1 << 60}", "Expect: 100-continue"
    ) as connection:
        answer = connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 507 ")


def test_a_limit_of_the_system_is_507_and_leaves_the_old_content(served):
    served.alice("PUT", "/home/limited", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 << 20, hard))
    try:
        reply = served.alice("PUT", "/home/limited", iter([b"n" * (1 << 20)] * 33))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert (reply.status, reply.code) == (507, "OUT_OF_SPACE")
    assert (served.data / "limited").read_bytes() == b"old"
    assert not served.temporaries()


def test_uploads_to_one_name_at_the_same_time_leave_one_of_them_whole(served):
    contents = [bytes([65 + n]) * 2_000_000 for n in range(4)]
    replies = []
    threads = [
        threading.Thread(target=lambda body=body: replies.append(served.alice("PUT", "/home/contended", body).status))
        for body in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(replies) <= {201, 204}
    assert (served.data / "contended").read_bytes() in contents
