"""A configured WebDAV server over a link that fails, or with a full disk: rule 6 holds, and the cause is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from faults import disks
from faulty_link import FaultyLink
from sites import eventually

from backends import temporaries
from backends.errors import OutOfSpace, Unavailable
from backends.interface import StorageBackend
from backends.webdav import Configured, Response, Transport, Upload, WebDAVBackend
from gateway.outbound import PeerUnreachable, SyncOutbound

from .configured import Open, fresh, opened
from .conformance.actions import ROOT, get, make, names, path, put
from .webdav_servers import PASSWORD, USER, apache, nginx, nobody, outbound, rclone_webdav

__all__ = ["opened"]

CONTENT = bytes(range(256)) * 12_000  # 3 MB
LARGE = CONTENT * 8  # more than sockets hold
PIECE = 256 * 1024
IDLE = 1.5  # seconds until a silent server is given up


@pytest.fixture(scope="module")
def ports(rclone: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, int]]:
    with ExitStack() as stack:
        servers = {
            "apache": apache(),
            "nginx": nginx(),
            "rclone": rclone_webdav(rclone, tmp_path_factory.mktemp("rclone")),
        }
        yield {name: int(stack.enter_context(one).rpartition(":")[2]) for name, one in servers.items()}


KEYS = {
    "apache": {},
    "nginx": {"uploads": "direct"},
    "rclone": {"user": USER, "password_file": PASSWORD.encode()},
}


@pytest.fixture(params=KEYS)
def linked(
    request: pytest.FixtureRequest, ports: Mapping[str, int], opened: Open
) -> Iterator[tuple[FaultyLink, WebDAVBackend]]:
    """A backend with an old file in it, over a link."""
    with FaultyLink(ports[request.param]) as link:
        backend = fresh(opened, f"http://127.0.0.1:{link.port}", idle=IDLE, **KEYS[request.param])
        put(backend, "old", b"old")
        yield link, backend


def write(backend: StorageBackend, where: str, pause: Callable[[int], None] = lambda written: None) -> None:
    """Write CONTENT; `pause` is called with what has been written before each piece."""
    with backend.open_write(path(where), size=len(CONTENT)) as writer:
        for begin in range(0, len(CONTENT), PIECE):
            pause(begin)
            writer.write(CONTENT[begin : begin + PIECE])
        writer.commit()


def read(backend: StorageBackend, where: str, pause: Callable[[int], None] = lambda begun: None) -> bytes:
    """Read a file piece by piece; `pause` is called with what has been read before each."""
    found = b""
    with backend.open_read(path(where)) as reader:
        while len(found) < reader.entry.size:
            pause(len(found))
            found += reader.read_at(len(found), PIECE)
    return found


def after(limit: int, what: Callable[[], object]) -> Callable[[int], None]:
    """Do something once, when so many bytes have been passed."""
    done: list[object] = []

    def pause(passed: int) -> None:
        if passed >= limit and not done:
            done.append(what())

    return pause


def is_as_before(backend: StorageBackend) -> None:
    eventually(lambda: (names(backend), get(backend, "old")), ([b"old"], b"old"))


def test_with_200_ms_of_latency_everything_works(linked: tuple[FaultyLink, WebDAVBackend]) -> None:
    link, backend = linked
    link.latency = 0.1  # each way
    write(backend, "new")
    assert read(backend, "new") == CONTENT
    make(backend, "folder")
    backend.rename(path("new"), path("folder/new"), overwrite=False)
    assert names(backend, "folder") == [b"new"]


def test_a_stall_is_given_up_and_is_over_when_it_is_over(linked: tuple[FaultyLink, WebDAVBackend]) -> None:
    link, backend = linked
    put(backend, "file", CONTENT)
    for work, passed in ((read, 0), (write, PIECE * 4)):
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"backends\.remote: .* no answer in time"):
            work(backend, "file", after(passed, link.stall))
        assert time.monotonic() - began < 12 * IDLE
        link.cut()  # else an upload that waits may arrive whole, as nginx takes it directly, while the file is read
        link.flow()
        eventually(lambda: get(backend, "file"), CONTENT)
    backend.remove(path("file"))
    is_as_before(backend)


def test_a_download_that_is_reset_goes_on_where_it_was(linked: tuple[FaultyLink, WebDAVBackend]) -> None:
    """By a Range of the same version; a second reset at once is told."""
    link, backend = linked
    put(backend, "file", LARGE)
    assert read(backend, "file", after(PIECE, lambda: link.cut_after(len(LARGE) // 2))) == LARGE
    with pytest.raises(Unavailable, match=r"backends\.remote: GET /file: "):
        read(backend, "file", after(PIECE, link.down))
    link.up()
    assert read(backend, "file") == LARGE


@pytest.mark.parametrize("where", ["old", "new"])
def test_an_upload_that_is_reset_leaves_what_was_there(linked: tuple[FaultyLink, WebDAVBackend], where: str) -> None:
    """In its middle, and when all but the answer has passed."""
    link, backend = linked
    for size in (len(CONTENT) // 2, len(CONTENT) - 1000):
        link.cut_after(size, up=True)
        with pytest.raises(Unavailable, match=r"backends\.remote: "):
            write(backend, where)
        is_as_before(backend)
    write(backend, where)
    assert get(backend, where) == CONTENT


def test_a_server_that_is_away_is_named_and_used_when_it_is_back(linked: tuple[FaultyLink, WebDAVBackend]) -> None:
    link, backend = linked
    link.down()
    for call in (lambda: get(backend, "old"), lambda: names(backend), lambda: put(backend, "old", b"new")):
        with pytest.raises(Unavailable, match=r"backends\.remote: PROPFIND /.*Connection refused"):
            call()
    link.up()
    is_as_before(backend)
    with pytest.raises(Unavailable):
        write(backend, "old", after(PIECE * 4, link.down))
    link.up()
    is_as_before(backend)


def test_readers_of_one_stalled_file_do_not_hold_up_others(linked: tuple[FaultyLink, WebDAVBackend]) -> None:
    """Each call has its own connection."""
    _, backend = linked
    put(backend, "file", CONTENT)
    with backend.open_read(path("file")) as reader:
        reader.read_at(0, PIECE)
        found: list[bytes] = []
        threads = [threading.Thread(target=lambda: found.append(get(backend, "old"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [b"old"] * 8
        assert reader.read_at(PIECE, PIECE) == CONTENT[PIECE : 2 * PIECE]


# ---------------------------------------------------------------------------------------------- a full remote disk


def test_a_full_remote_disk_leaves_what_was_there(rclone: str, tmp_path: Path, opened: Open) -> None:
    """rclone says 5xx to all kinds of trouble, and writes what there is room for."""
    with disks.tmpfs(tmp_path / "small", 2 * disks.MIB) as disk, rclone_webdav(rclone, disk) as url:
        backend = opened(url, user=USER, password_file=PASSWORD.encode())
        put(backend, "old", b"old")
        for where in ("old", "new"):
            with pytest.raises((Unavailable, OutOfSpace), match=r"backends\.remote: "):
                write(backend, where)
            is_as_before(backend)
            eventually(lambda: sorted(one.name for one in (disk / "data").iterdir()), ["old"])


# -------------------------------------------------------------------------------------- a move whose answer is lost


class Losing:
    """A transport on which MOVE fails: before the server hears of it, or before its answer is heard."""

    failures = SyncOutbound.failures

    def __init__(self, transport: Transport, *, heard: int, unheard: int) -> None:
        self._transport = transport
        self.heard = heard  # times
        self.unheard = unheard

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        if method == "MOVE" and self.unheard:
            self.unheard -= 1
            raise PeerUnreachable("http", "server", "gone before")
        answer = self._transport.request(method, url, headers, body)
        if method == "MOVE" and self.heard:
            self.heard -= 1
            answer.close()
            raise PeerUnreachable("http", "server", "gone after")
        return answer

    def upload(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> Upload:
        return self._transport.upload(method, url, headers, size)


class Folder:
    """A folder on Apache, as a backend whose moves fail so often, and as it really is."""

    def __init__(self, url: str, transport: SyncOutbound, plain: WebDAVBackend) -> None:
        self._url = url
        self._transport = transport
        self._plain = plain

    def __call__(self, kind: type[Losing] = Losing, *, heard: int = 0, unheard: int = 0) -> WebDAVBackend:
        carried = kind(self._transport, heard=heard, unheard=unheard)
        configured = Configured("backends.remote", "nothing")
        return WebDAVBackend(self._url, transport=carried, credential=nobody, configured=configured)

    def everything(self) -> list[bytes]:
        """Return all names, hidden ones too."""
        return names(self._plain)


class Clumsy(Losing):
    """A server that removes what is in the way of a move, and then has no room to rename by copying."""

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        if method == "MOVE" and headers["Overwrite"] == "T":
            super().request("DELETE", headers["Destination"], {}).close()
            return Refusing(super().request("OPTIONS", url, {}))
        return super().request(method, url, headers, body)


class Refusing:
    """An answer that is 507 instead."""

    status = 507

    def __init__(self, answer: Response) -> None:
        self.headers = answer.headers
        self.read = answer.read
        self.close = answer.close


@pytest.fixture
def losing(ports: Mapping[str, int], opened: Open) -> Iterator[Folder]:
    url = f"http://127.0.0.1:{ports['apache']}"
    folder = f"moves-{time.monotonic_ns()}"
    make(opened(url), folder)
    with closing(outbound()) as transport:
        yield Folder(f"{url}/{folder}", transport, opened(f"{url}/{folder}", uploads="direct"))


def test_a_move_whose_answer_is_lost_has_happened(losing: Folder) -> None:
    for content in (b"new", b"replaced"):
        backend = losing(heard=1)
        assert put(backend, "file", content).size == len(content)
        assert (names(backend), get(backend, "file")) == ([b"file"], content)


def test_a_move_that_never_arrives_leaves_what_was_there(losing: Folder) -> None:
    put(losing(), "old", b"old")
    backend = losing(unheard=2)
    for where in ("old", "new"):
        with pytest.raises(Unavailable):
            put(backend, where, b"new content")
        assert (names(backend), get(backend, "old")) == ([b"old"], b"old")
        assert losing.everything() == [b"old"], "nothing is left beside it"
        backend = losing(unheard=2)
    assert backend.stat(ROOT).is_directory
    with pytest.raises(Unavailable):
        backend.copy(path("old"), path("copy"), overwrite=False)
    assert losing.everything() == [b"old"]


def test_what_a_move_has_left_half_done_is_finished(losing: Folder) -> None:
    """RFC 4918 section 9.9.3: what is in the way is removed first; then all that is left is the place beside."""
    put(losing(), "file", b"old")
    backend = losing(unheard=1)
    moving = backend._aside
    assert moving is not None
    original = moving._move

    def half(place: object, target: object, *, replace: bool) -> None:
        if replace:
            losing().remove(path("file"))
        original(place, target, replace=replace)

    moving._move = half
    put(backend, "file", b"new content")
    assert (names(backend), get(backend, "file")) == ([b"file"], b"new content")


def test_the_last_content_of_a_file_stays_where_a_move_has_removed_the_old_one(losing: Folder) -> None:
    """Whatever the server says, and also where the name was taken while the content was on its way."""
    put(losing(), "file", b"old")
    backend = losing(Clumsy)
    with pytest.raises(OutOfSpace):
        put(backend, "file", b"new content")
    with backend.open_write(path("late")) as writer:
        writer.write(b"late content")
        put(losing(), "late", b"quick")
        with pytest.raises(OutOfSpace):
            writer.commit()
    assert [temporaries.is_temporary(name) for name in losing.everything()] == [True, True]
