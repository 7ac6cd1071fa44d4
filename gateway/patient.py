"""The transport of received Shares with the patience that users have: who is silent is given up soon, and once.

Before a folder is listed or a file is opened this side looks at it (PROPFIND of Depth 0). That look is the pulse: it
has `PATIENCE` seconds, and its silence opens the server's breaker, so that the next request does not wait at all. What
has begun to move has the idle time of the transport, as long as it may take in all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from backends.errors import Unreachable
from backends.webdav.transport import Response, Upload
from gateway.breaker import PATIENCE, Breakers
from gateway.errors import PeerFailed
from gateway.outbound import OutboundError, PeerUnreachable, SyncOutbound

RETRY = 30  # seconds to wait where no breaker says how long


class PatientTransport:
    """`outbound` for the Shares of one server; the shape of `Transport` in `backends.webdav`."""

    failures: tuple[type[Exception], ...] = (OutboundError,)

    def __init__(self, outbound: SyncOutbound, breakers: Breakers, server: str) -> None:
        self._outbound = outbound
        self._breakers = breakers
        self._server = server

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """Send a request and return its answer; raises Unreachable, OutboundRefused."""
        is_pulse = method in ("HEAD", "OPTIONS") or headers.get("Depth") == "0"
        with self._calling():
            response = self._outbound.request(method, url, headers, body, patience=PATIENCE if is_pulse else None)
        return _PatientResponse(self, response)

    def upload(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> Upload:
        """Begin a request whose body is pushed; raises Unreachable, OutboundRefused."""
        with self._calling():
            upload = self._outbound.upload(method, url, headers, size)
        return _PatientUpload(self, upload)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        try:
            with self._breakers.call(self._server), _as_silence():
                yield
        except PeerFailed as error:
            raise Unreachable(str(error), retry_after=error.retry_after or RETRY) from error

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Note the silence of a server that has answered before."""
        begun = time.monotonic()
        try:
            yield
        except PeerUnreachable as error:
            self._breakers.silent(self._server, str(error), time.monotonic() - begun)
            raise Unreachable(str(error), retry_after=RETRY) from error


@contextmanager
def _as_silence() -> Iterator[None]:
    """Say what the transport says in the words that a breaker understands."""
    try:
        yield
    except PeerUnreachable as error:
        raise PeerFailed("PEER_UNREACHABLE", str(error)) from error


class _PatientResponse:
    def __init__(self, transport: PatientTransport, response: Response) -> None:
        self._transport = transport
        self._response = response
        self.status = response.status
        self.headers = response.headers

    def read(self, size: int) -> bytes:
        with self._transport.going_on():
            return self._response.read(size)

    def close(self) -> None:
        self._response.close()


class _PatientUpload:
    def __init__(self, transport: PatientTransport, upload: Upload) -> None:
        self._transport = transport
        self._upload = upload
        self.send = upload.send
        self.abort = upload.abort

    def finish(self) -> Response:
        with self._transport.going_on():
            return _PatientResponse(self._transport, self._upload.finish())
