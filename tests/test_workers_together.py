"""What one worker keeps for a client, the others know: locks, properties, uploads in parts, what is being replaced."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from sites import Reply, Site, eventually, logged
from spread import connections, reach, workers

PASSWORD = "alice-password"
HOME = "/dav/files/alice/home/"
MIB = 1 << 20
LOCKINFO = (
    b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype>'
    b"<owner>alice</owner></lockinfo>"
)
PAINT = b'<propertyupdate xmlns="DAV:"><set><prop><colour xmlns="my:">red</colour></prop></set></propertyupdate>'
BLEACH = b'<propertyupdate xmlns="DAV:"><remove><prop><colour xmlns="my:"/></prop></remove></propertyupdate>'
FILES = 1500  # in a folder whose copying lasts long enough to be met in the middle


class Worker:
    """A connection to one worker, which alice uses."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def __call__(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        credential = {"Authorization": "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()}
        sent = credential | {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, HOME + path, body, sent)
        answer = self._connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), workers=2, log={"format": "json"}) as site:
        eventually(lambda: len(serving(site)), 2)
        site.add_user("alice", PASSWORD)
        yield site


@pytest.fixture
def both(site: Site) -> Iterator[tuple[Worker, Worker]]:
    """A connection to each of the two workers."""
    with connections(site) as each:
        first, second = each.values()
        yield Worker(first), Worker(second)


def seconds_left(reply: Reply) -> int:
    """What is left of a lock's time, in whole seconds: one less as soon as the clock has passed the next one."""
    return int(reply.body.partition(b"<d:timeout>Second-")[2].partition(b"<")[0])


# --- locks and properties -------------------------------------------------------------------------------------------


def test_a_lock_is_the_same_one_at_every_worker(both: tuple[Worker, Worker]) -> None:
    first, second = both
    assert first("PUT", "locked", b"old").status == 201
    taken = first("LOCK", "locked", LOCKINFO, Timeout="Second-60")
    token = taken.headers["Lock-Token"]
    for worker in both:
        assert worker("PUT", "locked", b"x").status == 423
        assert worker("LOCK", "locked", LOCKINFO).status == 423
        assert token.strip("<>").encode() in worker("PROPFIND", "locked", Depth="0").body
        assert worker("PUT", "locked", b"mine", If=f"({token})").status == 204
    assert 0 < seconds_left(taken) <= 60
    refreshed = second("LOCK", "locked", Timeout="Second-600", If=f"({token})")
    for shown in (refreshed, first("PROPFIND", "locked", Depth="0")):
        assert 60 < seconds_left(shown) <= 600
    assert second("UNLOCK", "locked", Lock_Token=token).status == 204
    for worker in both:
        assert worker("PUT", "locked", b"free").status == 204


def test_of_two_workers_that_are_asked_at_once_one_grants_an_exclusive_lock(both: tuple[Worker, Worker]) -> None:
    with ThreadPoolExecutor() as threads:
        for number in range(20):
            begin = threading.Barrier(2)

            def lock(worker: Worker, name: str = f"wanted-{number}", begin: threading.Barrier = begin) -> int:
                begin.wait(20)
                return worker("LOCK", name, LOCKINFO).status

            first, second = sorted(threads.map(lock, both))
            assert (first in (200, 201), second) == (True, 423)


def test_a_property_that_is_set_at_one_worker_is_read_and_removed_at_the_other(both: tuple[Worker, Worker]) -> None:
    first, second = both
    assert first("PUT", "painted", b"x").status == 201
    assert first("PROPPATCH", "painted", PAINT).status == 207
    assert b">red<" in second("PROPFIND", "painted", Depth="0").body
    assert second("MOVE", "painted", Destination=f"{HOME}moved").status == 201
    assert b">red<" in first("PROPFIND", "moved", Depth="0").body
    assert second("PROPPATCH", "moved", BLEACH).status == 207
    assert b">red<" not in first("PROPFIND", "moved", Depth="0").body


# --- uploads --------------------------------------------------------------------------------------------------------


def part(worker: Worker, name: str, content: bytes, first: int, end: int) -> Reply:
    return worker("PUT", name, content[first:end], Content_Range=f"bytes {first}-{end - 1}/{len(content)}")


def test_an_upload_goes_on_at_whichever_worker_its_next_part_comes_to(site: Site, both: tuple[Worker, Worker]) -> None:
    content = os.urandom(6 * MIB)
    for number in range(5):
        here, other = both[number % 2], both[(number + 1) % 2]
        assert part(here, "parts", content, number * MIB, (number + 1) * MIB).status == 202
        told = other("PUT", "parts", Content_Range=f"bytes */{len(content)}").headers["Range"]
        assert told == f"bytes=0-{(number + 1) * MIB - 1}"
        assert not (site.data / "parts").exists()
    assert part(both[1], "parts", content, 5 * MIB, 6 * MIB).status == 201
    assert (site.data / "parts").read_bytes() == content
    for worker in both:
        asked = worker("PUT", "parts", Content_Range=f"bytes */{len(content)}")
        assert "Range" not in asked.headers


def test_one_part_that_comes_to_two_workers_at_once_is_stored_once(site: Site, both: tuple[Worker, Worker]) -> None:
    content = os.urandom(4 * MIB)
    assert part(both[0], "twice", content, 0, MIB).status == 202
    with ThreadPoolExecutor() as threads:
        statuses = list(threads.map(lambda worker: part(worker, "twice", content, MIB, 3 * MIB).status, both))
    assert 202 in statuses, statuses
    assert part(both[1], "twice", content, 3 * MIB, 4 * MIB).status == 201
    assert (site.data / "twice").read_bytes() == content


# --- replacing a folder ---------------------------------------------------------------------------------------------


def entries(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def serving(site: Site) -> list[int]:
    """Return the pids of all workers that have ever served."""
    return [line["pid"] for line in logged(site.log, "a worker serves")]


def unfinished(site: Site) -> list[Path]:
    return [path for path in site.data.iterdir() if path.name.startswith(".ocm-")]


@pytest.fixture
def replacing(site: Site) -> Iterator[tuple[int, int, Future[Reply]]]:
    """A worker that is stopped in the middle of putting a copy of `new` in the place of `old`; another; the answer."""
    for name, count in (("new", FILES), ("old", 3)):
        (site.data / name).mkdir()
        for number in range(count):
            (site.data / name / f"{name}-{number}").write_bytes(b"x")
    copying, other = workers(site)
    connection = reach(site, copying)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(Worker(connection), "COPY", "new", Destination=f"{HOME}old")
        deadline = time.monotonic() + 20
        while not any(entries(path) for path in unfinished(site)):
            assert time.monotonic() < deadline
        os.kill(copying, signal.SIGSTOP)
        try:
            assert entries(site.data / "old") == {f"old-{number}" for number in range(3)}
            yield copying, other, answer
        finally:
            with suppress(ProcessLookupError):
                os.kill(copying, signal.SIGCONT)
    connection.close()
    for name in ("new", "old"):
        shutil.rmtree(site.data / name)


def test_what_one_worker_replaces_is_left_alone_by_another_that_starts_meanwhile(
    site: Site, replacing: tuple[int, int, Future[Reply]]
) -> None:
    copying, other, answer = replacing
    os.kill(other, signal.SIGKILL)
    eventually(lambda: len(set(workers(site)) - {copying, other}), 1)
    (started,) = set(workers(site)) - {copying, other}
    eventually(lambda: started in serving(site), True)  # so it has settled what the dead have left
    assert len(unfinished(site)) == 1
    os.kill(copying, signal.SIGCONT)
    assert answer.result(60).status == 204
    assert (entries(site.data / "old"), unfinished(site)) == ({f"new-{number}" for number in range(FILES)}, [])


def test_what_a_worker_was_replacing_when_it_died_has_its_old_content(
    site: Site, replacing: tuple[int, int, Future[Reply]]
) -> None:
    copying, _, answer = replacing
    os.kill(copying, signal.SIGKILL)
    with pytest.raises((http.client.HTTPException, OSError)):
        answer.result(60)
    eventually(lambda: unfinished(site), [])
    assert entries(site.data / "old") == {f"old-{number}" for number in range(3)}
    eventually(lambda: len(set(workers(site)) & set(serving(site))), 2)
