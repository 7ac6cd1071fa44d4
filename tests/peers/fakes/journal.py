"""What a fake has seen: every exchange, and everything that the other side did wrong by the product's rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and the status of its answer; `in` is a request that the fake has answered."""

    direction: Literal["in", "out"]
    method: str
    url: str
    status: int


@dataclass(frozen=True, slots=True)
class Complaint:
    """A sentence about what the other side did wrong."""

    text: str


Entry = Exchange | Complaint


class Journal:
    """Keeps the entries in order and tells each to whoever listens."""

    def __init__(self, listener: Callable[[Entry], None] | None = None) -> None:
        self.entries: list[Entry] = []
        self._listener = listener

    @property
    def complaints(self) -> list[str]:
        return [entry.text for entry in self.entries if isinstance(entry, Complaint)]

    @property
    def exchanges(self) -> list[Exchange]:
        return [entry for entry in self.entries if isinstance(entry, Exchange)]

    def note(self, direction: Literal["in", "out"], method: str, url: str, status: int) -> None:
        self._add(Exchange(direction, method, url, status))

    def complain(self, text: str) -> None:
        self._add(Complaint(text))

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self._listener is not None:
            self._listener(entry)


class Refused(Exception):
    """The product's answer to a request that it does not take; `why` is the complaint about it, empty for none."""

    def __init__(self, status: int, why: str = "", body: Any = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.body = {"message": why} if body is None else body


class Failed(Exception):
    """What the fake wanted to do at the other side did not work; the journal has the complaint."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status


class NotGranted(Failed):
    """The other side has refused a token by the rules (RFC 6749 section 5.2), as it must when a Share has ended."""
