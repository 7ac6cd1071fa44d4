"""A transfer that cannot be cut keeps no other from being cut."""

from __future__ import annotations

import asyncio

import structlog
from parts import until

from backends.errors import Unavailable
from gateway.access import Grant
from gateway.errors import Unproven
from gateway.ocm.shares import Permission
from gateway.watch import Watch


class Ended:
    """An Access for which every Grant has ended."""

    async def renew(self, grant: Grant) -> Grant:
        raise Unproven("ACCESS_DENIED", f"{grant.principal} has ended")


async def test_a_transfer_that_fails_to_end_keeps_no_other_from_being_cut() -> None:
    watch, grant = Watch(Ended(), every=0.01), Grant("share:1", "bob@peer.example", frozenset(Permission), None)
    calls = {"broken": 0, "other": 0}

    def broken() -> None:
        calls["broken"] += 1
        raise RuntimeError("the transport is gone")

    def other() -> None:
        calls["other"] += 1

    task = asyncio.create_task(watch.run())
    with structlog.testing.capture_logs() as lines:
        with watch.over(grant, Permission.READ, broken), watch.over(grant, Permission.READ, other):
            await until(lambda: calls["broken"] > 1 and calls["other"] > 1)
        assert not task.done()
        with watch.over(grant, Permission.READ, other):
            before = calls["other"]
            await until(lambda: calls["other"] > before)
    task.cancel()
    await asyncio.wait([task])
    assert any(line["event"] == "transfer.uncut" and line["exc_info"] for line in lines)


async def test_a_grant_that_cannot_be_read_for_a_while_keeps_no_other_from_being_cut() -> None:
    hung, ended = (
        Grant(f"share:{name}", "bob@peer.example", frozenset(Permission), None) for name in ("hung", "ended")
    )
    looks = 0

    class Sometimes(Ended):
        async def renew(self, grant: Grant) -> Grant:
            nonlocal looks
            if grant == hung:
                looks += 1
                await asyncio.Event().wait()
            return await super().renew(grant)

    watch, cut = Watch(Sometimes(), every=0.01), asyncio.Event()
    task = asyncio.create_task(watch.run())
    with watch.over(hung, Permission.READ, lambda: None):
        await until(lambda: looks)
        with watch.over(ended, Permission.READ, cut.set):
            await until(cut.is_set)
            await asyncio.sleep(0.1)
    assert looks == 1, "nobody asks again before that is answered"
    task.cancel()
    await asyncio.wait([task])


async def test_a_state_that_gives_no_answer_cuts_nothing_and_is_told_in_one_line() -> None:
    class Away:
        async def renew(self, grant: Grant) -> Grant:
            raise Unavailable("the disk is gone")

    grant, cut = Grant("share:1", "bob@peer.example", frozenset(Permission), None), asyncio.Event()
    watch = Watch(Away(), every=0.01)
    task = asyncio.create_task(watch.run())
    with structlog.testing.capture_logs() as lines, watch.over(grant, Permission.READ, cut.set):
        await until(lambda: len(lines) > 1)
    task.cancel()
    await asyncio.wait([task])
    assert not cut.is_set()
    told = {"event": "transfer.unwatched", "log_level": "warning", "principal": "share:1", "reason": "the disk is gone"}
    assert lines[0] == told
