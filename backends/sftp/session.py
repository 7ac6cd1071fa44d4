"""One SFTP channel, shared by threads: requests go out with numbers of their own, and every answer is looked at.

No thread reads for the others: one of those that wait does, hands out what is not its own, and gives way to another
when it has its answer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import paramiko

from backends.errors import StorageError, Unavailable
from backends.sftp.answers import ANSWERS, Answer
from backends.sftp.statuses import Lost, refusal
from backends.sftp_packets import VERSION_SPOKEN, Status, Type, string, u32

PACKET_MAX = 1 << 20  # bytes; an answer that announces more is none
RECEIVE = 512 * 1024  # bytes taken from the channel at once
SAFE_DATA = 32 * 1024  # bytes of data in one packet that every server takes (draft-ietf-secsh-filexfer-02 section 3)
BEST_DATA = 255 * 1024  # what OpenSSH takes, and the fastest
BESIDE_DATA = 1024  # more than the other fields of such a packet take

# A disk may take longer to write out all that it was given; meanwhile a server answers nobody on this connection.
SLOW_KINDS, SLOW_FACTOR = frozenset({Type.EXTENDED, Type.CLOSE}), 4
LOOKS = frozenset({Type.REALPATH, Type.STAT, Type.LSTAT})  # whatever is asked for begins with them

POSIX_RENAME, FSYNC, STATVFS = b"posix-rename@openssh.com", b"fsync@openssh.com", b"statvfs@openssh.com"
LIMITS, COPY_DATA = b"limits@openssh.com", b"copy-data"

# What ends a connection below: paramiko raises EOFError where a socket has been closed under it
BROKEN = (OSError, EOFError, paramiko.SSHException)

Request = tuple[Type, bytes]  # its kind and its fields


class Session:
    """Raises StorageError alone; after Lost nothing works any more, and another session has to be opened."""

    def __init__(
        self,
        channel: paramiko.Channel,
        name: str,
        window: int,
        patience: float,
        pulse: float | None = None,
        fell_silent: Callable[[str, float], None] = lambda _why, _seconds: None,
    ) -> None:
        """`name` names server and account in errors; the server may send `window` bytes before they are taken.

        `patience` is how many seconds an answer may take, or `pulse` where only looks were asked for. `fell_silent` is
        told when the server took longer.
        """
        self.name = name
        self.patience = patience
        self.load = 0  # by whom it is in use now; who lends it keeps count
        self.idle_since = time.monotonic()  # of no meaning while it is in use
        self._channel = channel
        self._pulse = patience if pulse is None else pulse
        self._fell_silent = fell_silent
        channel.settimeout(min(self.patience, self._pulse))  # until one looks whether that was all the time there is
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._has_reader = False
        self._last = 0
        self._asked: dict[int, tuple[Type, str]] = {}  # requests without an answer yet, each with kind and words
        self._answers: dict[int, tuple[int, Answer]] = {}
        self._unwanted: set[int] = set()
        self._lost: str | None = None
        self._received = bytearray()
        self.extensions = self._hello()
        self.read_size, self.write_size = self._limits()
        self.reads_ahead = window // 2 // self.read_size  # READs that may be left untaken: half is for other answers

    # --- asking ---------------------------------------------------------------------------------------------------

    def ask(self, what: str, kind: Type, *fields: bytes) -> Answer:
        """Send one request and return the fields of its answer; `what` names the path in errors.

        Raises what its status means (statuses.py), Lost.
        """
        return self.end(self.begin(what, kind, *fields))

    def together(self, what: str, requests: Iterable[Request]) -> list[Answer | StorageError]:
        """Send requests at once, and return the answer of each or what its status means; raises Lost."""
        numbers = [self.begin(what, kind, fields) for kind, fields in requests]
        return [self._outcome(number) for number in numbers]

    def all_of(self, what: str, requests: Iterable[Request]) -> list[Answer]:
        """Send requests at once and return their answers; raises what the first status means that is not OK, Lost."""
        answers = []
        for outcome in self.together(what, requests):
            if isinstance(outcome, StorageError):
                raise outcome
            answers.append(outcome)
        return answers

    def begin(self, what: str, kind: Type, *fields: bytes) -> int:
        """Send a request and return its number, with which `end` or `forget` has to be called; raises Lost."""
        size = 5 + sum(map(len, fields))
        with self._changed:
            self._require_alive()
            self._last = number = self._last + 1 & 0xFFFF_FFFF
            self._asked[number] = (kind, what)
        self._send(b"".join((u32(size), bytes((kind,)), u32(number), *fields)))
        return number

    def end(self, number: int) -> Answer:
        """Wait for the answer to a request and return its fields; raises what its status means, Lost."""
        with self._changed:
            kind, what = self._asked[number]
            patience = self._patience_now()
        answer, fields = self._wait(number, what, patience)
        if answer == Type.STATUS:
            code, text = fields.u32(), _text(fields)
            if code != Status.OK:
                raise refusal(code, text, f"{self.name}: {what}")
            if kind not in ANSWERS:
                return fields
        elif answer == ANSWERS.get(kind, Type.EXTENDED_REPLY):
            return fields
        self.lose(f"the server answers with a packet of type {answer} to one of type {kind}")
        raise self._loss()

    def forget(self, numbers: Iterable[int]) -> None:
        """Drop the answers to these requests, when they come; those that `end` was called for have come."""
        with self._changed:
            for number in numbers:
                is_open = self._asked.pop(number, None) is not None
                if is_open and self._answers.pop(number, None) is None:
                    self._unwanted.add(number)

    def close_handle(self, handle: bytes) -> None:
        """Close a handle whose content is of no importance; never raises and never waits for the answer."""
        with contextlib.suppress(StorageError):
            self.forget([self.begin("", Type.CLOSE, string(handle))])

    def offers(self, extension: bytes) -> bool:
        return extension in self.extensions

    # --- its life -------------------------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool:
        transport = self._channel.get_transport()
        return self._lost is None and not self._channel.closed and transport.is_active()

    def lose(self, why: str) -> None:
        """Give the connection up; whoever waits for an answer is told."""
        with self._changed:
            self._lost = self._lost or why
            self._changed.notify_all()
        self._channel.get_transport().close()

    def close(self) -> None:
        self.lose("it was closed")

    def _hello(self) -> dict[bytes, bytes]:
        self._send(u32(5) + bytes((Type.INIT,)) + u32(VERSION_SPOKEN))
        with self._lost_when_broken():
            packet = self._receive(time.monotonic() + self.patience)
        fields = Answer(self.name, packet)
        if packet[0] != Type.VERSION or fields.u32() != VERSION_SPOKEN:
            raise Unavailable(f"{self.name}: the server does not speak version {VERSION_SPOKEN} of SFTP")
        return fields.pairs()

    def _limits(self) -> tuple[int, int]:
        """Return how many bytes of data a READ and a WRITE may carry (limits@openssh.com, PROTOCOL section 4.8)."""
        if not self.offers(LIMITS):
            return SAFE_DATA, SAFE_DATA
        answer = self.ask("limits", Type.EXTENDED, string(LIMITS))
        packet, read, write = answer.u64(), answer.u64(), answer.u64()  # 0 is no limit
        most = max(SAFE_DATA, min(BEST_DATA, packet - BESIDE_DATA)) if packet else BEST_DATA
        return min(read or most, most), min(write or most, most)

    def _patience_now(self) -> float:
        kinds = {kind for kind, _ in self._asked.values()}
        if kinds & SLOW_KINDS:
            return self.patience * SLOW_FACTOR
        return self._pulse if kinds <= LOOKS else self.patience

    def _require_alive(self) -> None:
        if self._lost is not None:
            raise self._loss()

    def _loss(self) -> Lost:
        return Lost(f"{self.name}: {self._lost}")

    # --- packets --------------------------------------------------------------------------------------------------

    def _send(self, packet: bytes) -> None:
        with self._sending, self._lost_when_broken():
            rest, progress = memoryview(packet), time.monotonic()
            while rest:
                try:
                    sent = self._channel.send(rest)
                except TimeoutError:
                    if time.monotonic() - progress > self.patience:
                        raise
                    continue
                if not sent:
                    raise EOFError
                rest, progress = rest[sent:], time.monotonic()

    def _outcome(self, number: int) -> Answer | StorageError:
        try:
            return self.end(number)
        except Lost:
            raise
        except StorageError as error:
            return error

    def _wait(self, number: int, what: str, patience: float) -> tuple[int, Answer]:
        """Return the answer to a request, and read for the others while there is none and nobody else does."""
        deadline = time.monotonic() + patience
        while True:
            with self._changed:
                if number in self._answers:
                    del self._asked[number]
                    return self._answers.pop(number)
                self._require_alive()
                left = deadline - time.monotonic()
                if left > 0 and self._has_reader:
                    self._changed.wait(left)
                    continue
                if left > 0:
                    self._has_reader = True
            if left <= 0:
                self._fell_silent(f"no answer within {patience:g} s", patience)
                self.lose(f"no answer within {patience:g} s ({what})")
            else:
                self._read_one(deadline)

    def _read_one(self, deadline: float) -> None:
        """Take the next packet from the channel and give it to whoever waits for it."""
        packet, is_expected = b"", True
        try:
            with self._lost_when_broken(), contextlib.suppress(TimeoutError):  # who waits sees that its time is over
                packet = self._receive(deadline)
        finally:
            with self._changed:
                self._has_reader = False
                if packet:
                    is_expected = self._deliver(packet)
                self._changed.notify_all()
        if not is_expected:
            self.lose("it sends an answer that nobody waits for")

    def _deliver(self, packet: bytes) -> bool:
        """Keep an answer until it is taken; tell whether one is expected: any other would stay for ever."""
        fields = Answer(self.name, packet)
        number = fields.u32()
        if number in self._unwanted:
            self._unwanted.discard(number)
            return True
        if number not in self._asked or number in self._answers:
            return False
        self._answers[number] = (packet[0], fields)
        return True

    def _receive(self, deadline: float) -> bytes:
        """Return the next packet without its length; raises TimeoutError when the deadline is over."""
        self._fill(4, deadline)
        size = int.from_bytes(self._received[:4], "big")
        if not 5 <= size <= PACKET_MAX:
            raise OSError("it sends packets that are no SFTP")
        self._fill(4 + size, deadline)
        packet = bytes(memoryview(self._received)[4 : 4 + size])
        del self._received[: 4 + size]
        return packet

    def _fill(self, size: int, deadline: float) -> None:
        while len(self._received) < size:
            try:
                data = self._channel.recv(RECEIVE)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
                continue
            if not data:
                raise EOFError
            self._received += data

    @contextlib.contextmanager
    def _lost_when_broken(self) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            self.lose(_words(error, self.patience))
            raise self._loss() from error


def _text(fields: Answer) -> bytes:
    """Return the message of a status, which old servers leave out (section 7)."""
    try:
        return fields.string()
    except Unavailable:
        return b""


def _words(error: BaseException, patience: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing has come for {patience:g} s"
    if isinstance(error, EOFError):
        return "the connection has ended"
    return f"the connection has ended: {error}"
