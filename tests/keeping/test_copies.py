"""Who may copy what where, how a copy goes on, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from parts import NOW, until

from backends.errors import NotFound, OutOfSpace, PermissionDenied, Unavailable
from backends.interface import Scan
from backends.paths import StoragePath
from gateway.errors import Busy, Conflict, Invalid, NoSuch, NotAllowed, Unproven
from gateway.keeping import copies as copies_module
from gateway.keeping import progress
from gateway.receiving import Receiving
from gateway.store import events, kept, received_shares, users
from gateway.store.kept import Version

from .bench import Bench, counts, failed, path

MIB = 1 << 20


class Gate:
    """Holds every read up until it is opened; tells how many wait."""

    def __init__(self, bench: Bench, only: str = "") -> None:
        self._open = threading.Event()
        self._only = only
        self.waiting = 0
        bench.theirs.reading = self._wait

    def _wait(self, where: str) -> None:
        if where.startswith(self._only) and not self._open.is_set():
            self.waiting += 1
            assert self._open.wait(20)

    def open(self) -> None:
        self._open.set()


def set_state(bench: Bench, state: str, share: str = "share") -> None:
    bench.store.run_sync(lambda tx: received_shares.set_state(tx, share, state, NOW))


def many(bench: Bench, count: int = 10) -> None:
    for number in range(count):
        bench.theirs.put(f"{number:02}", b"%d" % number)


# --- who may, what and where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/received", "/received/share/x"])
async def test_the_target_is_in_a_mount(bench: Bench, target: str) -> None:
    with pytest.raises(Invalid):
        await bench.begin(bench.copy(target))


async def test_a_mount_that_is_not_there_and_one_that_is_read_only_are_refused(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.begin(bench.copy("/nowhere/x"))
    with pytest.raises(NotAllowed, match="read-only"):
        await bench.begin(bench.copy("/frozen/x"))


async def test_only_an_accepted_share_of_ones_own_that_has_not_ended_is_copied(bench: Bench) -> None:
    with pytest.raises(NoSuch):
        await bench.begin(user="bob")
    bench.receive("pending", state="pending", mount=None)
    with pytest.raises(Conflict, match="pending"):
        await bench.begin(bench.copy(share="pending"))
    bench.receive("expired", expiration=NOW - 1)
    with pytest.raises(Conflict, match="expired"):
        await bench.begin(bench.copy(share="expired"))
    bench.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))
    with pytest.raises(Unproven):
        await bench.copies.begin(None, bench.copy(), "(operator)", overwrite=False)
    assert bench.rows() == []


async def test_a_folder_is_made_but_not_the_one_above_it(bench: Bench) -> None:
    many(bench, 1)
    run = await bench.keep(bench.copy("/home/no/where"))
    assert failed(run) == {"": "the folder that it would be in does not exist"}
    assert run.state == "incomplete"


@pytest.mark.parametrize("source", ["", "00"])
async def test_the_folder_of_a_mount_is_never_made(bench: Bench, source: str) -> None:
    many(bench, 1)
    (bench.data / "users").mkdir()
    run = await bench.keep(bench.copy("/own", source))
    assert counts(run) == ("incomplete", 0, 0, 1)
    assert bench.files("users") == {}
    (bench.data / "users" / "alice").mkdir()
    assert counts(await bench.keep(bench.copy("/own", source))) == ("done", 1, 0, 0)
    assert bench.files("users/alice") == {"00": b"0"}


async def test_a_part_that_is_not_there_fails(bench: Bench) -> None:
    many(bench, 1)
    run = await bench.keep(bench.copy(source="nowhere"))
    assert counts(run) == ("incomplete", 0, 0, 1)
    assert bench.files("") == {"frozen": None}


# --- one run of each ------------------------------------------------------------------------------------------------


async def test_the_same_copy_again_joins_the_one_that_runs(bench: Bench) -> None:
    many(bench)
    gate = Gate(bench)
    first = await bench.begin()
    assert await bench.begin() is first
    assert bench.copies.find("alice", bench.copy()) is first
    with pytest.raises(NoSuch):
        bench.copies.find("bob", bench.copy())
    with pytest.raises(Conflict, match="overwrite"):
        await bench.begin(overwrite=True)
    gate.open()
    await first.ended.wait()
    assert counts(first) == ("done", 10, 0, 0)
    assert await bench.keep() is not first


async def test_two_who_begin_the_same_at_once_have_one_run(bench: Bench) -> None:
    many(bench)
    first, second = await asyncio.gather(bench.begin(), bench.begin())
    assert first is second
    await first.ended.wait()
    assert len(bench.store.read_sync(lambda tx: events.about(tx, "share"))) == 2, "it has begun and ended once"


async def test_the_folders_of_one_server_are_listed_as_few_at_once_as_its_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long listing holds a thread as long as a file does, and somebody may want to look there meanwhile."""
    many(bench, 1)
    gate, listing = threading.Event(), list[str]()
    scan = bench.theirs.scan

    def slow(where: StoragePath, batch: int = 2) -> Scan:
        listing.append(str(where))
        assert gate.wait(20)
        return scan(where, batch)

    monkeypatch.setattr(bench.theirs, "scan", slow)
    shares = [f"share-{number}" for number in range(copies_module.AT_ONCE + 2)]
    for share in shares:
        bench.receive(share)
    runs = [await bench.begin(bench.copy(f"/home/{share}", share=share)) for share in shares]
    await until(lambda: len(listing) >= copies_module.AT_ONCE)
    await asyncio.sleep(0.2)
    assert len(listing) == copies_module.AT_ONCE
    gate.set()
    for run in runs:
        await run.ended.wait()
    assert {counts(run) for run in runs} == {("done", 1, 0, 0)}


async def test_a_copy_that_is_stopped_before_its_first_step_has_ended(bench: Bench) -> None:
    many(bench, 1)
    run = await bench.begin()
    bench.copies.stop("alice", bench.copy(), "alice")
    async with asyncio.timeout(5):
        await run.ended.wait()
    assert counts(run) == ("stopped", 0, 0, 0)
    assert [row.state for row in bench.rows()] == ["stopped"]
    assert counts(await bench.keep()) == ("done", 1, 0, 0)


async def test_a_few_files_move_at_once_and_no_more(bench: Bench) -> None:
    many(bench, 12)
    gate = Gate(bench)
    run = await bench.begin()
    await until(lambda: gate.waiting == copies_module.AT_ONCE)
    assert [str(one.path) for one in run.moving] == ["00", "01", "02"]
    second = await bench.begin(bench.copy("/home/second"))
    gate.open()
    await asyncio.gather(run.ended.wait(), second.ended.wait())
    assert (run.files, second.files) == (12, 12)
    assert bench.theirs.most_at_once == copies_module.AT_ONCE, "from one server, however many copies"
    assert run.moving == []


async def test_a_source_that_hangs_holds_up_no_other_copy(bench: Bench) -> None:
    many(bench, 8)
    bench.theirs.make_directory(path("hung"))
    bench.theirs.put("hung/file", b"x")
    gate = Gate(bench, "hung/")
    hanging = await bench.begin(bench.copy("/home/one", "hung"))
    await until(lambda: gate.waiting)
    bench.receive("second", server="other.example")
    run = await bench.begin(bench.copy("/home/two", "00", share="second"))
    await asyncio.wait_for(run.ended.wait(), 5)
    assert (run.state, hanging.state) == ("done", "running")
    gate.open()
    await hanging.ended.wait()


async def test_so_many_copies_run_and_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies_module, "RUNNING_MOST", 2)
    monkeypatch.setattr(copies_module, "FINISHED_KEPT", 1)
    many(bench)
    gate = Gate(bench)
    runs = [await bench.begin(bench.copy(f"/home/{name}")) for name in ("one", "two")]
    with pytest.raises(Busy):
        await bench.begin(bench.copy("/home/three"))
    gate.open()
    await asyncio.gather(*(run.ended.wait() for run in runs))
    await bench.keep(bench.copy("/home/three"))
    with pytest.raises(NoSuch):
        bench.copies.find("alice", bench.copy("/home/one"))
    assert bench.copies.find("alice", bench.copy("/home/two")).state == "done"


# --- how it ends ----------------------------------------------------------------------------------------------------


async def stopped(bench: Bench, stop: Callable[[], object]) -> tuple[str, str]:
    """Stop a copy of ten files while the sixth is on its way; return its state and why."""
    many(bench)
    gate = Gate(bench, "05")
    run = await bench.begin()
    await until(lambda: gate.waiting)
    stop()
    await until(lambda: run.reason is not None)
    gate.open()
    await asyncio.wait_for(run.ended.wait(), 5)
    present = bench.files()
    assert {"00", "01", "02"} <= present.keys(), "what was copied stays"
    assert "05" not in present
    assert all(content == b"%d" % int(name) for name, content in present.items()), "each is whole"
    return run.state, run.reason or ""


async def test_a_share_that_is_revoked_stops_the_copy(bench: Bench) -> None:
    state, reason = await stopped(bench, lambda: set_state(bench, "revoked"))
    assert (state, "revoked" in reason) == ("stopped", True)


async def test_a_share_that_expires_stops_the_copy(bench: Bench) -> None:
    bench.store.run_sync(lambda tx: received_shares._set(tx, "share", expiration=NOW + 60))
    state, reason = await stopped(bench, lambda: bench.clock.advance(61))
    assert (state, "expired" in reason) == ("stopped", True)


async def test_a_user_who_is_disabled_stops_the_copy(bench: Bench) -> None:
    watching = asyncio.create_task(bench.watch.run())
    stop = lambda: bench.store.run_sync(lambda tx: users.set_disabled(tx, "alice", True))  # noqa: E731
    assert await stopped(bench, stop) == ("stopped", "alice may no longer do this")
    watching.cancel()


async def test_whoever_may_stops_the_copy(bench: Bench) -> None:
    with pytest.raises(NoSuch):
        bench.copies.stop("alice", bench.copy(), "alice")
    assert await stopped(bench, lambda: bench.copies.stop("alice", bench.copy(), "alice")) == (
        "stopped",
        "alice has stopped it",
    )


async def test_a_copy_that_is_stopped_gives_its_turns_back(bench: Bench) -> None:
    """Those that it has, and those that it waits for: other copies from the same server need them."""
    many(bench)
    gate = Gate(bench)
    other = await bench.begin(bench.copy("/home/other"))
    await until(lambda: gate.waiting == copies_module.AT_ONCE)
    run = await bench.begin()
    (turns,) = bench.copies._turns.values()
    await until(lambda: turns._waiters and len(turns._waiters) == 2)
    other.stop("enough")
    gate.open()
    await other.ended.wait()
    run.stop("enough")
    await run.ended.wait()
    assert turns._value == copies_module.AT_ONCE
    assert counts(await bench.keep())[0] == "done"


async def test_a_gateway_that_stops_ends_its_copies_and_the_next_goes_on(bench: Bench) -> None:
    many(bench)
    gate = Gate(bench, "05")
    run = await bench.begin()
    await until(lambda: gate.waiting)
    closing = asyncio.create_task(bench.copies.close(5))
    await asyncio.sleep(0)
    gate.open()
    await closing
    assert (run.state, run.reason) == ("stopped", copies_module.GATEWAY_STOPS)
    again = await bench.keep()
    assert (again.state, again.files + again.skipped, again.skipped > 0) == ("done", 10, True)


async def test_a_full_storage_stops_the_copy_and_says_so(bench: Bench) -> None:
    many(bench)
    bench.mine.refusing = lambda where: OutOfSpace("the disk is full") if where.endswith("05") else None
    run = await bench.keep()
    assert (run.state, run.reason) == ("stopped", "/home/kept: the disk is full")
    assert "00" in bench.files()
    bench.mine.refusing = lambda _: None
    again = await bench.keep()
    assert (again.state, again.files + again.skipped) == ("done", 10)


async def test_a_source_that_is_down_as_a_whole_stops_the_copy(bench: Bench) -> None:
    many(bench)

    def down(_: str) -> None:
        raise Unavailable("carol's server does not answer")

    def reading(where: str) -> None:
        if where == "05":
            bench.theirs.looking = down
            raise Unavailable("cut off")

    bench.theirs.reading = reading
    run = await bench.keep()
    assert (run.state, run.reason) == ("stopped", "the sender's storage: carol's server does not answer")
    assert run.failed == 0, "it is no file's fault"
    assert "00" in bench.files()


async def test_a_source_that_lets_nobody_in_any_more_has_its_reason_from_the_share(bench: Bench) -> None:
    many(bench)

    def refuse(_: str) -> None:
        set_state(bench, "revoked")
        raise PermissionDenied("401")

    bench.copies._every = 60  # so that nothing but the refusal tells
    bench.theirs.looking = refuse
    run = await bench.keep()
    assert (run.state, run.reason) == ("stopped", "the Share was revoked; what was copied before stays")


async def test_one_file_that_fails_at_the_source_is_told_and_the_rest_is_copied(bench: Bench) -> None:
    many(bench)

    def reading(where: str) -> None:
        if where == "05":
            raise Unavailable("this file's own disk is broken")

    bench.theirs.reading = reading
    run = await bench.keep()
    assert counts(run) == ("incomplete", 9, 0, 1)
    assert failed(run) == {"05": "this file's own disk is broken"}


async def test_so_many_failures_are_told_and_all_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "FAILURES_TOLD", 3)
    many(bench)
    bench.mine.refusing = lambda _: PermissionDenied("no")
    run = await bench.keep()
    assert (run.failed, len(run.failures)) == (10, 3)


# --- what is written down -------------------------------------------------------------------------------------------


async def test_each_copy_is_audited_and_its_end_is_a_row(bench: Bench, log: list[dict[str, object]]) -> None:
    many(bench, 2)
    bench.theirs.put(".ocm-gateway-x", b"")
    await bench.keep()
    (row,) = bench.rows()
    assert (str(row.target), row.state, row.files, row.bytes, row.failed) == ("home/kept", "incomplete", 2, 2, 1)
    assert (row.begun, row.ended) == (NOW, NOW)
    begun, ended = bench.store.read_sync(lambda tx: events.about(tx, "share"))
    assert (begun.actor, begun.action, begun.detail) == ("alice", "share.copy", {"to": "/home/kept"})
    assert ended.action == "share.copied"
    counted = {"state": "incomplete", "files": 2, "bytes": 2, "skipped": 0, "failed": 1}
    assert ended.detail == {"to": "/home/kept", **counted}
    assert {"share.copy", "keeping.failed", "share.copied"} <= {line["event"] for line in log}


async def test_a_copy_that_a_process_has_died_over_is_shown_as_interrupted(bench: Bench) -> None:
    many(bench)
    gate = Gate(bench)
    run = await bench.begin()
    await until(lambda: gate.waiting)
    assert [row.state for row in bench.rows()] == ["running"]
    await bench.copies.start()  # as the next process does
    assert [row.state for row in bench.rows()] == ["interrupted"]
    gate.open()
    await run.ended.wait()


async def test_what_is_known_of_the_files_ends_with_the_share_and_where_it_was_kept_stays(bench: Bench) -> None:
    many(bench, 1)
    await bench.keep()
    known = lambda: bench.store.read_sync(lambda tx: kept.version(tx, "share", "storage", path("kept/00")))  # noqa: E731
    assert isinstance(known(), Version)
    share = bench.store.read_sync(lambda tx: received_shares.get(tx, "share"))
    assert share is not None
    bench.store.run_sync(lambda tx: Receiving.end(None, tx, share, "left", NOW))
    assert known() is None
    assert len(bench.rows()) == 1


async def test_a_file_that_is_written_while_its_share_ends_leaves_nothing_known(bench: Bench) -> None:
    """What is noted after the end would stay for ever."""
    many(bench, 1)
    bench.copies._every = 60.0
    share = bench.store.read_sync(lambda tx: received_shares.get(tx, "share"))
    assert share is not None
    bench.theirs.reading = lambda _: bench.store.run_sync(lambda tx: Receiving.end(None, tx, share, "left", NOW))
    assert counts(await bench.keep()) == ("done", 1, 0, 0)
    assert bench.store.read_sync(lambda tx: kept.version(tx, "share", "storage", path("kept/00"))) is None
