"""A transfer that cannot be cut keeps no other from being cut."""

from __future__ import annotations

import asyncio

import structlog
from parts import until

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
