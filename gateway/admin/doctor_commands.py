"""`doctor` and `peer trace`, for the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.admin.calling import Arguments, Caller, Command, number, optional, path, server, text
from gateway.doctor.itself import Itself
from gateway.doctor.peer import PeerDoctor, Trial
from gateway.doctor.replay import Replay
from gateway.traces import Traces, parse

WAIT = 60  # seconds that a trial Share waits to be opened


class DoctorCommands:
    """Examines this gateway and its peers."""

    def __init__(self, itself: Itself, peer: PeerDoctor, replay: Replay, traces: Traces) -> None:
        self._itself = itself
        self._peer = peer
        self._replay = replay
        self._traces = traces
        self.table: Mapping[str, Command] = {
            "doctor.self": self._examine_itself,
            "doctor.peer": self._examine_peer,
            "doctor.replay": self._run_again,
            "peer.trace": self._trace,
        }

    async def _examine_itself(self, caller: Caller, _arguments: Arguments) -> Any:
        caller.require_operator()
        return (await self._itself.examine()).as_json()

    async def _examine_peer(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        trial = _trial(caller, arguments) if optional(arguments, "with") else None
        return (await self._peer.examine(server(arguments), trial, caller.actor)).as_json()

    async def _run_again(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        return (await self._replay.run(parse(text(arguments, "trace")))).as_json()

    async def _trace(self, caller: Caller, arguments: Arguments) -> Any:
        caller.require_operator()
        return self._traces.list(server(arguments))


def _trial(caller: Caller, arguments: Arguments) -> Trial:
    owner = caller.acting_as(optional(arguments, "as"))
    wait = number(arguments, "wait")
    return Trial(owner, path(arguments), text(arguments, "with"), WAIT if wait is None else wait)
