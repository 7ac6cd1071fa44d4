"""The way out for worker threads: bodies of any size in both directions, on urllib3's connections.

urllib3's own pool takes a body only by pulling it from an iterator, which would cost a thread and a queue for
each upload, and sends it under the connect time-out. So its connections are driven here step by step, and a body
is pushed. It has the shape of `Transport` in `backends.webdav`.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from gateway.outbound.certificates import Certificates, Verifying
from gateway.outbound.errors import OutboundError, PeerUnreachable, Step, in_words
from gateway.outbound.guard import Destination, Guard, check_headers, is_address

CONNECT_SECONDS = 5.0  # for all addresses together, and again for the handshake
IDLE_SECONDS = 30.0  # between two reads or writes; a transfer as a whole has no limit, so large files finish
INVITATION_SECONDS = 2.0  # for the answer to the header Expect
KEEP_SECONDS = 4.0  # Apache closes idle connections after 5: one that may be closing is not used again
KEEP_CONNECTIONS = 8  # idle ones to one host
DRAIN_MAX = 64 * 1024  # bytes of an unread answer worth reading to keep the connection

Resolve = Callable[[str, int], list[str]]


def _ask_system(host: str, port: int) -> list[str]:
    return [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class _PlainConnection(HTTPConnection):
    """urllib3's connection over a socket that the guard has let pass."""

    open_socket: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.open_socket()


class _TLSConnection(HTTPSConnection):
    """The same with TLS; SNI and certificate are for the host of the URL."""

    open_socket: Callable[[], socket.socket]

    def _new_conn(self) -> socket.socket:
        return self.open_socket()


_Connection = _PlainConnection | _TLSConnection


@dataclass(frozen=True, slots=True)
class _Failing:
    """Translates what socket, ssl, http.client and urllib3 raise on the way to `destination`."""

    destination: Destination
    certificates: Verifying

    @contextmanager
    def at(self, step: Step) -> Iterator[None]:
        """Raise PeerUnreachable at `step` for whatever fails in the block."""
        try:
            yield
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, ValueError) as error:
            cause: BaseException = error
            while isinstance(cause, urllib3.exceptions.HTTPError) and cause.__cause__ is not None:
                cause = cause.__cause__
            cut = isinstance(cause, http.client.IncompleteRead | urllib3.exceptions.ProtocolError)
            # In TLS 1.3 a server judges our certificate after the handshake is over for us.
            words = self.certificates.in_words(cause, self.destination.host)
            raise PeerUnreachable(step, str(self.destination), "the answer was cut off" if cut else words) from None


class _Reading(io.RawIOBase):
    """What an answer is read from: its socket, and until `without_end` within so many seconds in all.

    The socket's own time-out begins anew with each byte, and so never ends for a server that trickles.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._idle = connection.gettimeout()
        self._deadline: float | None = None
        self._raw = connection.makefile("rb", buffering=0)  # keeps the socket open, also when its owner closes it
        self._file: io.BufferedReader | None = None  # until it is asked for

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the file that http.client asks its socket for."""
        file, self._file = self._file or io.BufferedReader(self), None
        return file

    def within(self, seconds: float | None) -> None:
        """Let what comes now take so long in all; None: as long as the idle time is kept."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def hurry(self) -> None:
        """Let what comes now take the idle time in all, if it has no other bound."""
        if self._deadline is None:
            self.within(self._idle)

    def has_begun(self, seconds: float) -> bool:
        """Wait so long for the first byte; without one, nothing can be read from here any more."""
        self.within(seconds)
        self._file = io.BufferedReader(self)
        try:
            self._file.peek(1)
        except TimeoutError:
            self.close()
            return False
        finally:
            self.without_end()  # the body, which is sent next, has its own time
        return True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
        return self._raw.readinto(buffer)

    def without_end(self) -> None:
        """From now on each read has the idle time of the socket."""
        self._deadline = None
        self._socket.settimeout(self._idle)

    def close(self) -> None:
        self._file = None
        self._raw.close()
        super().close()


class SyncResponse:
    """An answer whose body is read piece by piece; `close` it in any case."""

    def __init__(
        self,
        failing: _Failing,
        connection: _Connection,
        method: str,
        keep: Callable[[], None] | None,
        head_time: float | None,
        begun: _Reading | None = None,
        *,
        whole: bool = False,
    ) -> None:
        """Read the status and the headers, within `head_time` seconds, which with `whole` are for the body as well.

        `keep` takes the connection back, None when it cannot be used again. `begun`: what has been read from already.
        """
        self._failing = failing
        self._connection = connection
        self._keep = keep
        self._closed = False
        with failing.at("http"):
            self._reading = reading = begun or _Reading(connection.sock)
            reading.within(head_time)
            # urllib3's getresponse() answers only to its own request(), which cannot be pushed to. http.client calls
            # what makes the answer, which may be anything that takes a socket; its stubs want a class.
            connection.response_class = partial(_answer_from, reading)  # type: ignore[assignment]
            self._raw = http.client.HTTPConnection.getresponse(connection)
            if not whole:
                reading.without_end()
            self._body = urllib3.HTTPResponse(
                body=self._raw,
                headers=urllib3.HTTPHeaderDict(self._raw.msg.items()),
                status=self._raw.status,
                preload_content=False,
                decode_content=False,
                original_response=self._raw,
                request_method=method,
            )
            if self._body.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
                # RFC 9112 section 6.1: read to the end of the connection, the chunks would pass for content.
                raise http.client.HTTPException
        self.status = self._body.status
        self.headers: Mapping[str, str] = self._body.headers

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the true end; raises PeerUnreachable when the answer is cut off."""
        pieces: list[bytes] = []
        wanted = size
        keep, self._keep = self._keep, None  # what was cut off may go on, and would pass for the next answer
        with self._failing.at("http"):
            while wanted > 0 and (piece := self._body.read(wanted)):
                pieces.append(piece)
                wanted -= len(piece)
        self._keep = keep
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Release the connection, for the next request if next to nothing of the answer is unread; may be repeated."""
        if self._closed:
            return
        self._closed = True
        left = self._body.length_remaining
        if left is not None and left <= DRAIN_MAX:
            self._reading.hurry()
            self._body.drain_conn()
        # urllib3 has closed the answer also where it could not be read to its end.
        is_read = self._raw.isclosed() and not self._body.length_remaining
        if self._keep is not None and is_read and not self._connection.is_closed:
            self._reading.without_end()
            self._keep()
        else:
            self._body.close()
            self._connection.close()


def _answer_from(reading: _Reading, _socket: socket.socket, **named: Any) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(cast("socket.socket", reading), **named)


class SyncUpload:
    """A request whose body is pushed piece by piece; `finish` or `abort` it."""

    def __init__(
        self,
        failing: _Failing,
        connection: _Connection,
        method: str,
        size: int | None,
        keep: Callable[[], None],
    ) -> None:
        self._failing = failing
        self._connection = connection
        self._method = method
        self._left = size
        self._keep = keep
        self._accepting = True
        self._begun: _Reading | None = None

    def wait_for_invitation(self) -> None:
        """Wait a moment for 100, or an answer, which `finish` reads (RFC 9110 section 10.1.1); raises PeerUnreachable.

        Then the body is sent in any case: some servers do not know this expectation.
        """
        with self._failing.at("http"):
            reading = _Reading(self._connection.sock)
            if reading.has_begun(INVITATION_SECONDS):
                self._begun = reading

    def send(self, data: bytes) -> bool:
        """Send `data`; False means that the server takes no more, and `finish` tells its answer."""
        if self._left is not None:
            self._left -= len(data)
            self._push(data)
        elif data:
            self._push(b"%x\r\n%b\r\n" % (len(data), data))
        return self._accepting

    def _push(self, data: bytes) -> None:
        if data and self._accepting:
            try:
                self._connection.send(data)
            except OSError:
                self._accepting = False

    def finish(self, patience: float | None = None, *, whole: bool = False) -> SyncResponse:
        """End the body and return the answer, whose head has `patience` seconds to come, or else the idle time.

        With `whole` these are for the body of the answer as well. A server that has taken no more of the body gets no
        patience. Raises PeerUnreachable, and ValueError when the body has another size than announced.
        """
        try:
            if self._left is None:
                self._push(b"0\r\n\r\n")
            elif self._left and self._accepting:
                raise ValueError(f"the body and its announced size differ by {self._left} bytes")
            keep = self._keep if self._accepting else None
            is_idle = patience is None or not self._accepting
            head_time = self._connection.sock.gettimeout() if is_idle else patience
            return SyncResponse(
                self._failing, self._connection, self._method, keep, head_time, self._begun, whole=whole
            )
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Close the connection in the middle of the body, so that the server sees it cut off."""
        if self._begun is not None:
            self._begun.close()
        self._connection.close()


class SyncOutbound:
    """Sends requests from any number of threads at once; keeps idle connections for the next."""

    failures: tuple[type[Exception], ...] = (OutboundError,)

    def __init__(
        self,
        guard: Guard,
        *,
        user_agent: str,
        authorities: Mapping[str, Path] | None = None,
        certificates: Verifying | None = None,
        resolve: Resolve = _ask_system,
        connect_timeout: float = CONNECT_SECONDS,
        idle_timeout: float = IDLE_SECONDS,
    ) -> None:
        """`authorities` are those of `Certificates`, unless `certificates` are given; the time-outs are in seconds."""
        self._guard = guard
        self._user_agent = user_agent
        self._certificates = certificates or Certificates(ssl.SSLContext, authorities)
        self._resolve = resolve
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._lock = threading.Lock()
        self._idle: dict[Destination, list[tuple[float, _Connection]]] = {}

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        patience: float | None = None,
        whole: bool = False,
    ) -> SyncResponse:
        """Send one request and return its answer, whatever the status, with the body unread.

        The head of the answer has `patience` seconds to come in all, or else the idle time; with `whole` these are for
        its body as well.
        Raises OutboundRefused, PeerUnreachable.
        """
        length = {} if body is None else {"Content-Length": str(len(body))}
        upload = self._begin(method, url, {**(headers or {}), **length}, len(body or b""))
        upload.send(body or b"")
        return upload.finish(patience, whole=whole)

    def upload(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> SyncUpload:
        """Begin a request whose body of `size` bytes (None: unknown, then chunked) is pushed by the caller.

        With the header Expect the server has a moment to invite the body. Raises OutboundRefused, PeerUnreachable.
        """
        framing = {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
        upload = self._begin(method, url, {**headers, **framing}, size)
        if "Expect" in headers:
            try:
                upload.wait_for_invitation()
            except BaseException:
                upload.abort()
                raise
        return upload

    def dial(self, server: str) -> socket.socket:
        """Return a connection to an SSH server, host:port, that others have named; raises OutboundRefused,
        PeerUnreachable."""
        return self._open_socket(self._guard.check_ssh(server))

    def _begin(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> SyncUpload:
        fields = {"Accept-Encoding": "identity", "User-Agent": self._user_agent, **headers}
        check_headers(fields)
        destination = self._guard.check_url(url)
        connection = self._take(destination) or self._connect(destination)
        failing = _Failing(destination, self._certificates)
        try:
            with failing.at("http"):
                connection.putrequest(method, destination.target, skip_accept_encoding=True)
                for name, value in fields.items():
                    connection.putheader(name, value)
                connection.endheaders()
        except BaseException:
            connection.close()
            raise
        return SyncUpload(failing, connection, method, size, lambda: self._put_back(destination, connection))

    def _connect(self, destination: Destination) -> _Connection:
        host, port = destination.host, destination.port
        connection: _Connection
        if destination.scheme == "https":
            context = self._certificates.of(host)
            connection = _TLSConnection(host, port, timeout=self._idle_timeout, ssl_context=context)
        else:
            connection = _PlainConnection(host, port, timeout=self._idle_timeout)
        connection.open_socket = lambda: self._open_socket(destination)
        try:
            with _Failing(destination, self._certificates).at("tls"):
                connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock.settimeout(self._idle_timeout)
        return connection

    def _open_socket(self, destination: Destination) -> socket.socket:
        """Resolve once, check, and connect to the first checked address that answers."""
        host, port = destination.host, destination.port
        try:
            answers = [host] if is_address(host) else self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise PeerUnreachable("dns", str(destination), in_words(error)) from None
        addresses = self._guard.passing(host, answers)
        failed = PeerUnreachable("dns", str(destination), "the name has no address")
        deadline = time.monotonic() + self._connect_timeout
        for tried, address in enumerate(addresses):
            share = (deadline - time.monotonic()) / (len(addresses) - tried)
            try:
                opened = socket.create_connection((address, port), timeout=max(share, 0.01))
            except OSError as error:
                failed = PeerUnreachable("tcp", str(destination), in_words(error))
                continue
            opened.settimeout(self._connect_timeout)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
        raise failed

    def _take(self, destination: Destination) -> _Connection | None:
        """Take an idle connection that is young enough and still open."""
        self._sweep()
        while True:
            with self._lock:
                kept = self._idle.get(_origin(destination))
                if not kept:
                    return None
                connection = kept.pop()[1]
            if connection.is_connected:
                return connection
            connection.close()

    def _put_back(self, destination: Destination, connection: _Connection) -> None:
        """Keep a connection whose last answer was read to its end."""
        with self._lock:
            kept = self._idle.setdefault(_origin(destination), [])
            kept.append((time.monotonic(), connection))
            oldest = kept.pop(0)[1] if len(kept) > KEEP_CONNECTIONS else None
        if oldest is not None:
            oldest.close()

    def _sweep(self, older_than: float = KEEP_SECONDS) -> None:
        """Close what has been idle for too long, to whatever host."""
        limit = time.monotonic() - older_than
        with self._lock:
            old = [connection for kept in self._idle.values() for since, connection in kept if since <= limit]
            young = {origin: [one for one in kept if one[0] > limit] for origin, kept in self._idle.items()}
            self._idle = {origin: kept for origin, kept in young.items() if kept}
        for connection in old:
            connection.close()

    def close(self) -> None:
        """Close the idle connections."""
        self._sweep(older_than=0)


def _origin(destination: Destination) -> Destination:
    return Destination(destination.scheme, destination.host, destination.port, "")
