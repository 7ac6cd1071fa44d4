"""What was done by SSH, for the operator: a line for each log-in, session, file and change by name; what is counted.

Each has the Share or user, the fingerprint of the key, and the client's address. No line has a password, nor the whole
log-in of a Share: whoever reads logs could try it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from backends.paths import StoragePath
from gateway.users import USER_NAME

_BYTES = {"ssh.reading": "bytes_read", "ssh.writing": "bytes_written"}
_SHOWN = 6  # characters of a Share's log-in
_SHARES = "s-"  # what every Share's log-in begins with, also one that was cut or mistyped

log = structlog.get_logger()


class _Opened(Protocol):
    path: StoragePath
    count: int


class Audit:
    """The lines of one log-in, and of its sessions."""

    def __init__(self, principal: str, key: str | None, remote: str, count: Callable[[str, int], None]) -> None:
        """`key` is a fingerprint, None for a log-in with a password; `remote` the client's address.

        `count` hears what is counted (`SSH_METRICS`, gateway/admin/tally.py), and how much.
        """
        self._facts = {"principal": principal, "key": key or "password", "remote": remote}
        self._count = count
        self._begun: dict[int, float] = {}
        self._start = time.monotonic()

    def of_session(self) -> Audit:
        """Return one for a session of this log-in."""
        return Audit(**self._facts, count=self._count)

    def logged_in(self) -> None:
        self._count("logins", 1)
        log.info("ssh.login", **self._facts)

    def opened(self, handle: _Opened) -> None:
        self._begun[id(handle)] = time.monotonic()

    def ended(self, handle: _Opened, error: BaseException | None) -> None:
        """Say how much went through a handle, and whether it ended well."""
        seconds = time.monotonic() - self._begun.pop(id(handle), time.monotonic())
        what = f"ssh.{type(handle).__name__.lower()}"
        reason = {"failed": str(error) or type(error).__name__} if error is not None else {}
        counted = _BYTES.get(what)
        if counted:
            self._count(counted, handle.count)
        facts = {"path": str(handle.path), "bytes" if counted else "entries": handle.count}
        log.info(what, **self._facts, **facts, seconds=round(seconds, 3), **reason)

    def did(self, what: str, **facts: object) -> None:
        """Say what was changed by name."""
        log.info(f"ssh.{what}", **self._facts, **facts)

    def began(self, kind: str) -> None:
        self._count(f"sessions_{kind}", 1)
        log.info("ssh.session.begun", kind=kind, **self._facts)

    def session_ended(self, reason: str) -> None:
        log.info("ssh.session.ended", seconds=round(time.monotonic() - self._start, 3), reason=reason, **self._facts)


def shown_login(login: str) -> str:
    """Return what the log may say of a log-in that failed: of a Share's the beginning, of no name at all nothing."""
    if login.startswith(_SHARES) and len(login) > 2 * _SHOWN:
        return login[:_SHOWN] + "…"
    return login if USER_NAME.fullmatch(login) else "(no name)"
