"""What people whom nobody here knows make us fetch: only so often, for who causes it and for whom it hits.

Who sends a message in the name of a server makes us ask that server for its discovery document and its keys, which may
lie at a third. Without a bound anybody could point us at anybody. It holds before the first byte, and not for servers
that users or the operator have dealt with. Each process counts for itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from urllib.parse import urlsplit

from gateway.errors import Busy
from gateway.limits import Allowance
from gateway.proxies import subscriber

MINUTE = 60.0  # seconds

# Who is behind the work of this task, as `caused_by` says; None is ourselves, our users and our operator.
_cause: ContextVar[str | None] = ContextVar("first_contacts_cause", default=None)


class FirstContacts:
    """Counts what is fetched from servers that nobody here knows."""

    def __init__(self, per_source: int, per_target: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow so many documents a minute to be fetched for one client, and from one host."""
        self._sources = Allowance(per_source, per_source / MINUTE, clock=clock)
        self._targets = Allowance(per_target, per_target / MINUTE, clock=clock)

    def require(self, server: str) -> None:
        """Count a document that is to be fetched from `server`, host[:port]; raises Busy when it is one too many."""
        cause, host = _cause.get(), urlsplit(f"//{server}").hostname
        if cause is not None and (wait := self._sources.take(cause)):
            raise _too_many(f"{cause} makes this gateway look up too many servers", wait)
        if wait := self._targets.take(host):  # whatever the port: it is one machine that would answer
            raise _too_many(f"{host} is looked up too often, and no user here deals with it", wait)


@contextmanager
def caused_by(address: str | None) -> Iterator[None]:
    """Count what is fetched meanwhile, also by tasks begun here, for the client at `address`."""
    token = _cause.set(None if address is None else subscriber(address))
    try:
        yield
    finally:
        _cause.reset(token)


def _too_many(sentence: str, wait: float) -> Busy:
    return Busy("TOO_MANY_LOOKUPS", f"{sentence} (federation.first_contacts)", math.ceil(wait))
