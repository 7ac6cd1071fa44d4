"""What an examination found: steps, each with what was sent, what came back, and the likely cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from gateway.errors import Refusal
from gateway.ocm.errors import ProtocolError
from gateway.outbound import OutboundError


class Verdict(StrEnum):
    """How a step went; only `failed` makes an examination fail."""

    OK = "ok"
    NOTE = "note"  # works, and should be looked at
    FAILED = "failed"
    SKIPPED = "skipped"  # an earlier step failed, or nobody has asked for this one


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `name` is stable for scripts, everything else is for people and holds no secret."""

    name: str
    verdict: Verdict
    sent: str | None = None
    received: str | None = None
    cause: str | None = None  # of what is not ok: what is likely, and what to do


class Report:
    """The steps of one examination, in their order."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.steps: list[Step] = []

    def add(
        self, name: str, verdict: Verdict, *, sent: str | None = None, received: str | None = None, cause: str = ""
    ) -> None:
        self.steps.append(Step(name, verdict, sent, received, cause or None))

    def ok(self, name: str, received: str, *, sent: str | None = None) -> None:
        self.add(name, Verdict.OK, sent=sent, received=received)

    def note(self, name: str, received: str, cause: str, *, sent: str | None = None) -> None:
        self.add(name, Verdict.NOTE, sent=sent, received=received, cause=cause)

    def failed(self, name: str, received: str, cause: str, *, sent: str | None = None) -> None:
        self.add(name, Verdict.FAILED, sent=sent, received=received, cause=cause)

    def skipped(self, cause: str, *names: str) -> None:
        for name in names:
            self.add(name, Verdict.SKIPPED, cause=cause)

    @property
    def has_failed(self) -> bool:
        return any(step.verdict is Verdict.FAILED for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """Return the report in stable words."""
        return {
            "subject": self.subject,
            "ok": not self.has_failed,
            "steps": [asdict(step) for step in self.steps],
        }

    @contextmanager
    def step(self, name: str, *, sent: str, cause: str) -> Iterator[None]:
        """Turn whatever is refused inside into a failed step, and end the examination there by Ended."""
        try:
            yield
        except (Refusal, ProtocolError, OutboundError) as error:
            self.failed(name, str(error), cause, sent=sent)
            raise Ended from error


class Ended(Exception):
    """Nothing after this step can be looked at."""
