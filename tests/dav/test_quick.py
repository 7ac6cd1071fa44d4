"""Requests that are answered from their bytes: nobody can tell, but by the time it takes."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import access
from gateway.dav import quick
from gateway.store import users

from .served import READ, Served, basic, bearer

SMALL = {"one.txt": b"1" * 100, "two.bin": b"2" * 4096, "three": b"", "f-o_u~r": b"4" * 65536}
FOLDER = "/dav/files/alice/home/small"


def make(served: Served) -> None:
    folder = served.data / "small"
    folder.mkdir()
    for name, content in SMALL.items():
        (folder / name).write_bytes(content)
    (folder / "long").write_bytes(b"5" * 65537)
    (folder / "folder").mkdir()
    (folder / "with space").write_bytes(b"6")
    (folder / ".dot").write_bytes(b"7")


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("quick"), loop=request.param) as served:
        make(served)
        yield served


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Two doors to one directory, of which the second one answers nothing from its bytes."""
    with Served(tmp_path_factory.mktemp("quick")) as first:
        make(first)
        with Served(tmp_path_factory.mktemp("slow"), quick=False, data=first.data) as second:
            yield first, second


@pytest.fixture
def answered(door: Served, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The paths that were answered from the bytes of their requests."""
    return watched(door, monkeypatch)


def watched(door: Served, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    answered: list[bytes] = []
    answer = door.door.quick.answer

    def watch(head: Any) -> bytes | None:
        found = answer(head)
        if found is not None:
            answered.append(head.folder + head.name)
        return found

    monkeypatch.setattr(door.door.quick, "answer", watch)
    return answered


def head(path: str, *fields: str, method: str = "GET", credential: dict[str, str] | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *fields]
    lines += [f"{name}: {value}" for name, value in (credential or basic("alice")).items()]
    return "\r\n".join([*lines, "", ""]).encode()


class Client:
    """One connection, which reads answers one by one."""

    def __init__(self, door: Served) -> None:
        self.socket = socket.create_connection(("127.0.0.1", door.port), timeout=20)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._rest:
            self._more()
        lines, _, self._rest = self._rest.partition(b"\r\n\r\n")
        status, *fields = lines.decode().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        size = int(headers.get("Content-Length", 0)) if has_body else 0
        while len(self._rest) < size:
            self._more()
        body, self._rest = self._rest[:size], self._rest[size:]
        return int(status.split()[1]), headers, body

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        assert piece, "the connection has ended"
        self._rest += piece

    def ask(self, data: bytes, *, has_body: bool = True) -> tuple[int, dict[str, str], bytes]:
        self.send(data)
        return self.receive(has_body=has_body)

    def get(self, name: str, *fields: str) -> tuple[int, dict[str, str], bytes]:
        return self.ask(head(f"{FOLDER}/{name}", *fields))


@contextmanager
def connected(door: Served) -> Iterator[Client]:
    client = Client(door)
    try:
        yield client
    finally:
        client.socket.close()


@pytest.fixture
def client(door: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client whose first request is remembered, for as long as the test lasts."""
    monkeypatch.setattr(access, "GRANT_LIFE", 3600.0)
    door.access.forget()
    with connected(door) as client:
        assert client.get("one.txt")[0] == 200
        yield client


def seen(log: list[Any], path: str) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in log
        if line["event"] == "request" and line["path"] == path
    ]


@pytest.mark.parametrize("name", SMALL)
def test_the_answer_is_that_of_the_whole_way(
    door: Served, client: Client, answered: list[bytes], log: list[Any], name: str
) -> None:
    with connected(door) as other:
        status, headers, body = other.get(name)  # a connection's first request always goes the whole way
    assert not answered
    client.get("one.txt")
    assert answered == [f"{FOLDER}/one.txt".encode()]
    again = client.get(name)
    assert len(answered) == 2
    assert (again[0], again[2]) == (status, body) == (200, SMALL[name])
    assert list(again[1]) == list(headers)
    assert again[1] | {"Date": ""} == headers | {"Date": ""}
    first, *_, last = seen(log, f"{FOLDER}/{name}")
    assert repr(first) == repr(last)
    assert last["principal"] == "user:alice"


def test_it_is_counted(door: Served, client: Client, answered: list[bytes]) -> None:
    def count() -> float:
        for family in door.metrics._tally.collect():
            for sample in family.samples:
                if sample.labels == {"door": "files", "method": "GET", "status": "200"}:
                    return sample.value
        return 0

    before = count()
    client.get("two.bin")
    assert (len(answered), count()) == (1, before + 1)


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (head(f"{FOLDER}/two.bin", "Range: bytes=0-9"), 206, b"2" * 10),
        (head(f"{FOLDER}/two.bin", "If-Match: *"), 200, SMALL["two.bin"]),
        (head(f"{FOLDER}/two.bin", "if-none-match: *"), 304, b""),
        (head(f"{FOLDER}/two.bin", "Content-Length: 0"), 200, SMALL["two.bin"]),
        (head(f"{FOLDER}/two.bin", "X-Other: 1"), 200, SMALL["two.bin"]),
        (head(f"{FOLDER}/two%2Ebin"), 200, SMALL["two.bin"]),
        (head(f"{FOLDER}/with%20space"), 200, b"6"),
        (head(f"{FOLDER}/.dot"), 200, b"7"),
        (head(f"{FOLDER}/one.txt?two.bin"), 200, SMALL["one.txt"]),
        (head(f"{FOLDER}/one.txt?x=/two.bin"), 200, SMALL["one.txt"]),
        (head(f"{FOLDER}/long"), 200, b"5" * 65537),
        (head(f"{FOLDER}/.."), 400, None),
        (head(f"{FOLDER}/missing"), 404, None),
        (head(f"{FOLDER}/one.txt/below"), 404, None),
        (head(f"{FOLDER}/two.bin", credential=basic("alice", "wrong")), 401, None),
        (head(f"{FOLDER}/two.bin", credential=basic("bob")), 403, None),
        (head(f"{FOLDER}/two.bin", "Authorization: Basic x"), 401, None),
        (head("/dav/files/bob/home/small/two.bin"), 403, None),
        (head("/dav/files/alice/nowhere/small/two.bin"), 404, None),
        (head("/dav/files/alice/home/other/two.bin"), 404, None),
        (head(f"{FOLDER}/two.bin").replace(b"HTTP/1.1", b"HTTP/1.0"), 200, SMALL["two.bin"]),
        (head(f"{FOLDER}/two.bin", "Connection: close"), 200, SMALL["two.bin"]),
    ],
)
def test_what_differs_goes_the_whole_way(
    door: Served, client: Client, answered: list[bytes], request_: bytes, status: int, body: bytes | None
) -> None:
    found = client.ask(request_)
    assert found[0] == status
    assert body is None or found[2] == body
    assert not answered
    with connected(door) as other:  # nor is it remembered for others, but where only the name would differ
        other.get("one.txt")
        assert other.ask(request_)[0] == status
        assert all(path == f"{FOLDER}/one.txt".encode() for path in answered) or b"X-Other" in request_


def test_other_methods_of_the_same_path_are_not_mixed_up(client: Client, answered: list[bytes]) -> None:
    assert client.ask(head(f"{FOLDER}/two.bin", method="HEAD"), has_body=False)[1]["Content-Length"] == "4096"
    assert client.ask(head(f"{FOLDER}/two.bin", method="OPTIONS"))[2] == b""
    assert client.ask(head(f"{FOLDER}/folder", method="MKCOL"))[0] == 405
    assert not answered
    assert client.get("two.bin")[2] == SMALL["two.bin"]


def test_what_has_become_of_a_file_is_seen_at_once(door: Served, client: Client, answered: list[bytes]) -> None:
    file = door.data / "small" / "changing"
    for content in (b"first", b"second one", b"x" * 70_000, b"third"):
        file.write_bytes(content)
        assert client.get("changing")[2] == content
        client.get("one.txt")
    file.unlink()
    assert client.get("changing")[0] == 404
    client.get("one.txt")
    file.mkdir()
    assert client.get("changing")[0] == 405
    file.rmdir()
    file.symlink_to("/etc/passwd")
    client.get("one.txt")
    assert client.get("changing")[0] == 404
    file.unlink()
    assert answered


def test_a_grant_that_has_ended_opens_nothing(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = watched(door, monkeypatch)
    with connected(door) as client:
        client.get("one.txt")
        deadline = time.monotonic() + 20
        while not answered and time.monotonic() < deadline:
            client.get("one.txt")
        assert answered
        door.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
        try:
            disabled = time.monotonic()
            while (status := client.get("one.txt")[0]) == 200:
                assert time.monotonic() < disabled + 1
            assert status == 401
        finally:
            door.store.run_sync(lambda tx: users.set_disabled(tx, "alice", False))


def test_what_is_forgotten_is_read_again_at_once(door: Served, client: Client, answered: list[bytes]) -> None:
    client.get("one.txt")
    assert len(answered) == 1
    door.access.forget()
    client.get("one.txt")
    assert len(answered) == 1
    client.get("one.txt")
    assert len(answered) == 2


def test_a_share_goes_the_whole_way(door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Resource has to be looked at first, each time."""
    answered = watched(door, monkeypatch)
    share = door.share("small", READ)
    request = head("/dav/ocm/one.txt", credential=bearer(share.secret))
    with connected(door) as client:
        assert [client.ask(request)[2] for _ in range(3)] == [SMALL["one.txt"]] * 3
    assert not answered


def test_pipelined_requests_are_answered_in_their_order(client: Client) -> None:
    names = ["one.txt", "two.bin", "two.bin", "long", "three", "one.txt", "missing", "two.bin", "two.bin"] * 5
    for name in names:
        client.send(head(f"{FOLDER}/{name}"))
    expected = [SMALL.get(name, b"5" * 65537) for name in names]
    received = [client.receive() for _ in names]
    assert [body for status, _, body in received if status == 200] == [
        content for name, content in zip(names, expected, strict=True) if name != "missing"
    ]
    assert [status for status, _, _ in received] == [404 if name == "missing" else 200 for name in names]


def test_bytes_of_a_body_are_no_request(door: Served, client: Client, answered: list[bytes]) -> None:
    content = head(f"{FOLDER}/two.bin")
    client.send(head(f"{FOLDER}/put", f"Content-Length: {len(content)}", method="PUT"))
    time.sleep(0.05)
    client.send(content)
    assert client.receive()[0] in (201, 204)
    assert (door.data / "small" / "put").read_bytes() == content
    assert not answered


def test_bytes_of_a_header_field_are_no_request(client: Client, answered: list[bytes]) -> None:
    client.send(f"GET {FOLDER}/one.txt HTTP/1.1\r\nX: ".encode())
    time.sleep(0.05)
    client.send(head(f"{FOLDER}/two.bin"))
    assert client.receive()[2] == SMALL["one.txt"]
    assert not answered


def test_a_client_that_reads_nothing_is_answered_no_further(door: Served, client: Client, made: list[Any]) -> None:
    """Else answers to requests of a few bytes would fill the memory."""
    with connected(door) as idle:
        idle.get("one.txt")
        idle.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            flood(idle, head(f"{FOLDER}/f-o_u~r"))
        assert made[0]._transport.get_write_buffer_size() < 1 << 20


def flood(client: Client, request: bytes) -> None:
    """Send requests, each in a packet of its own, as long as they are taken."""
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(100_000):
        client.socket.sendall(request)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The connections that are made from now on, as the door has them."""
    made: list[Any] = []
    connection_made = quick._Connection.connection_made

    def note(self: Any, transport: Any) -> None:
        made.append(self)
        connection_made(self, transport)

    monkeypatch.setattr(quick._Connection, "connection_made", note)
    return made


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head(f"{FOLDER}/put", "Content-Length: 4000000", method="PUT") + b"x" * 4_000_000, 201),
        (head(f"{FOLDER}/one.txt"), 200),
        (head(f"{FOLDER}/one.txt", "X-Long: " + "x" * 7_000), 200),
        (head(f"{FOLDER}/one.txt", "X-Long: " + "x" * 10_000), 200),
        (head(f"{FOLDER}/one.txt", "Range: bytes=0-1", "X-Long: " + "x" * 7_000), 206),
        (head(f"{FOLDER}/one.txt", "X-Long: " + "x" * 7_000, credential=basic("alice", "wrong")), 401),
        (head("/elsewhere/" + "x" * 7_000), 404),
        (head("/elsewhere/" + "x/" * 2_000 + "name"), 404),
    ],
)
def test_a_connection_keeps_neither_content_nor_credential_of_what_it_has_handed_on(
    door: Served, client: Client, made: list[Any], request_: bytes, status: int
) -> None:
    (door.data / "small" / "put").unlink(missing_ok=True)
    with connected(door) as other:
        assert other.ask(request_)[0] == status
        kept = repr(made[0]._last)
    assert len(kept) < 2_000
    assert not any(value in kept for value in (*basic("alice").values(), *basic("alice", "wrong").values()))


def test_a_connection_that_is_to_end_answers_nothing_by_itself(
    door: Served, client: Client, made: list[Any], answered: list[bytes]
) -> None:
    """aiohttp drops what comes then, so the next answer could be taken for that of a request that was dropped."""
    with connected(door) as other:
        other.get("one.txt")
        other.get("one.txt")
        assert len(answered) == 1

        async def late() -> None:
            made[0]._inner.close()  # as at a stop (web_server.py, pre_shutdown)
            made[0].data_received(head(f"{FOLDER}/one.txt"))

        door.run(late())
        assert len(answered) == 1


def test_deep_folders_are_not_remembered(door: Served, client: Client) -> None:
    before = len(door.door.quick._known)
    client.ask(head("/dav/files/alice/home" + "/ab" * 500 + "/one.txt"))
    assert len(door.door.quick._known) == before


def test_a_connection_goes_the_whole_way_now_and_then(
    client: Client, answered: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For aiohttp ends one that it takes for idle."""
    monkeypatch.setattr(quick, "AGAIN", 0.0)
    client.get("one.txt")
    client.get("one.txt")
    assert not answered


def test_what_is_remembered_is_bounded(
    door: Served, client: Client, answered: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick, "MOST", 3)
    for number in range(10):
        client.get("one.txt", f"X-Number: {number}")
        assert len(door.door.quick._known) <= 3
    assert "Basic" not in repr(door.door.quick._known.keys())
    assert not answered


def test_requests_of_which_none_is_like_another_make_nobody_forget(
    door: Served, client: Client, answered: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some clients give each of theirs a number of its own."""
    monkeypatch.setattr(quick, "MOST", 3)
    with connected(door) as other:
        for number in range(10):
            other.get("two.bin", f"X-Request-ID: {number}")
            client.get("one.txt")
    assert answered == [f"{FOLDER}/one.txt".encode()] * 10


def test_an_aiohttp_that_cannot_be_asked_is_left_alone(door: Served) -> None:
    changed = asyncio.Protocol()
    assert door.door.quick.before(changed) is changed  # type: ignore[arg-type]  # the point of the test


_STEPS = st.lists(
    st.sampled_from(
        [
            *(head(f"{FOLDER}/{name}") for name in ("one.txt", "two.bin", "three", "long", "missing", ".dot")),
            head(f"{FOLDER}/one.txt", "Range: bytes=1-5"),
            head(f"{FOLDER}/two.bin", method="HEAD"),
            head(f"{FOLDER}/long", "Connection: Upgrade", "Upgrade: websocket"),
            head(f"{FOLDER}/one.txt", credential=basic("bob")),
            head(f"{FOLDER}/folder", "Content-Length: 3", "Depth: 0", method="PROPFIND") + b"bad",
        ]
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=_STEPS, cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_however_requests_arrive_their_answers_are_those_of_the_whole_way(
    twins: tuple[Served, Served], requests: list[bytes], cuts: list[int]
) -> None:
    data = b"".join([head(f"{FOLDER}/one.txt"), *requests, head(f"{FOLDER}/one.txt", "Connection: close")])
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    pieces = [data[begin:end] for begin, end in pairwise(places)]
    first, second = (conversation(each, pieces) for each in twins)
    assert first == second


def conversation(door: Served, pieces: list[bytes]) -> bytes:
    """Send pieces one by one and return all that comes, without its dates."""
    received = b""
    with connected(door) as client:
        for piece in pieces:
            client.send(piece)
            client.socket.settimeout(0.01)
            with suppress(TimeoutError):
                received += client.socket.recv(1 << 20)
        client.socket.settimeout(20)
        while piece := client.socket.recv(1 << 20):
            received += piece
    return re.sub(rb"Date: [^\r]*", b"", received)
