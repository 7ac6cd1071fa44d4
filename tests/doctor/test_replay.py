"""Traces that make no sense: a file may come from anybody."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.doctor.replay import Replay
from gateway.errors import NoSuch

REQUEST = '{"method": "POST", "url": "https://peer.example/", "headers": [], "body": "", "redacted": false}'


@pytest.mark.parametrize(
    "members",
    [
        f'"server": "peer.example", "at": 1e999, "request": {REQUEST}',
        f'"server": 5, "at": 1, "request": {REQUEST}',
        f'"server": "../x", "at": 1, "request": {REQUEST}',
        f'"server": "peer.example", "at": 1, "request": [{REQUEST}]',
        '"server": "peer.example", "at": 1, "request": {"headers": [1]}',
    ],
)
async def test_a_trace_that_makes_no_sense_is_none(members: str) -> None:
    nobody: Any = None
    with pytest.raises(NoSuch, match="no exchange"):
        await Replay(nobody, server="gateway.example").run(
            json.loads(f'{{"version": 1, "direction": "incoming", {members}}}')
        )
