"""The way to an SFTP session: the server's key is compared before anything is sent that proves who we are."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import paramiko

from backends import temporaries
from backends.errors import Unavailable
from backends.secret_file import SecretFile
from backends.sftp.bounds import PACKET, BoundedPackets, hold_to_window
from backends.sftp.known_hosts import HostKeys, fingerprint, host_keys, name_of
from backends.sftp.session import BROKEN, Session

PATIENCE = 30.0  # seconds that an answer may take
BEGINNING = 20.0  # seconds that all may take until SFTP is spoken
KEEPALIVE = 15  # seconds

# Measured as the fastest with such packets, 252 MB/s both ways on loopback; paramiko's own reach 75 and 143.
WINDOW = 128 * 1024 * 1024  # bytes that a server may send before they are taken

# Without CBC, SHA-1 and MD5, which paramiko offers last. GCM takes no MAC beside it.
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)

# paramiko logs each broken connection with its traceback; here it is an error that somebody gets.
_QUIET = "paramiko.ocm-gateway"
logging.getLogger(_QUIET).addHandler(logging.NullHandler())
logging.getLogger(_QUIET).propagate = False


Link = socket.socket  # a connection without SSH on it yet


class Entrance(ABC):
    """Who logs in where, and what of it somebody else does: a configured account here, a guest in `guests`.

    `patience` is how many seconds an answer may take, `pulse` how many where only looks were asked for, and `beginning`
    how many all may take until SFTP is spoken. The server may make us hold `window` bytes that nobody takes.
    """

    name: str  # in errors, and of the journal
    patience: float = PATIENCE
    pulse: float | None = None  # as long as any other answer
    beginning: float = BEGINNING
    window: int = WINDOW
    where: str  # of the keys that `known` returns, behind the words "the key"
    hidden: bytes = temporaries.PREFIX  # with which the names of temporaries begin there

    @abstractmethod
    def known(self) -> HostKeys:
        """Return the host keys that are believed; raises Unavailable where there is none."""

    def refused(self, sentence: str) -> Unavailable:
        """Return the error for a server with another host key."""
        return Unavailable(f"{self}: {sentence}")

    @abstractmethod
    def open_socket(self) -> Link:
        """Connect; raises Unavailable."""

    @abstractmethod
    def prove(self, transport: paramiko.Transport) -> None:
        """Log in; raises Unavailable, PermissionDenied."""

    def calling(self) -> AbstractContextManager[None]:
        """Watch over what makes a connection."""
        return nullcontext()

    def fell_silent(self, why: str, seconds: float) -> None:
        """Hear that a connection was given up, since no answer came for so long."""


@dataclass(frozen=True)
class Account(Entrance):
    """An account as it is configured: `name` is that of the backend; one of the two files is None."""

    name: str
    host: str
    port: int
    user: str
    known_hosts_file: Path
    key_file: Path | None = None
    password_file: Path | None = None
    patience: float = PATIENCE
    beginning: float = BEGINNING

    @property
    def where(self) -> str:  # type: ignore[override]
        return f"in known_hosts_file {self.known_hosts_file}"

    def __str__(self) -> str:
        """Return a form for errors, without secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}: sftp://{self.user}@{host}:{self.port}"

    def known(self) -> HostKeys:
        try:
            known = host_keys(self.known_hosts_file, self.host, self.port)
        except Unavailable as error:
            raise Unavailable(f"{self}: {error}") from error
        if not known.keys:
            raise Unavailable(
                f"{self}: known_hosts_file {self.known_hosts_file} has no key for {name_of(self.host, self.port)};"
                f" `ssh-keyscan -p {self.port} {self.host}` shows what is there, to be compared with the server's own"
            )
        return known

    def open_socket(self) -> Link:
        try:
            return socket.create_connection((self.host, self.port), timeout=self.beginning)
        except OSError as error:
            raise Unavailable(f"{self}: {error.strerror or error}") from error

    def prove(self, transport: paramiko.Transport) -> None:
        """Log in; the files are read each time, so what is in them may be changed. Raises Unavailable."""
        if self.key_file is not None:
            key = _private_key(self, self.key_file)
            with _refused(f"{self}: the server does not accept the key in key_file {self.key_file} for this user"):
                transport.auth_publickey(self.user, key)
            return
        assert self.password_file is not None
        password = SecretFile(self.password_file, f"{self}: password_file").read()
        with _refused(f"{self}: the server does not accept the password in password_file {self.password_file}"):
            transport.auth_password(self.user, password)


class PatientSocket(socket.socket):
    """paramiko tries again for ever where a peer takes nothing: this one gives up."""

    patience = PATIENCE
    _progress = 0.0

    def send(self, data: bytes, flags: int = 0, /) -> int:  # type: ignore[override]
        try:
            sent = super().send(data, flags)
        except TimeoutError:
            self._progress = self._progress or time.monotonic()
            if time.monotonic() - self._progress > self.patience:
                raise ConnectionError("the server takes nothing any more") from None
            raise
        self._progress = 0.0
        return sent


def connect(entrance: Entrance) -> Session:
    """Connect, compare the server's key, log in and begin SFTP; raises Unavailable, and what `prove` raises."""
    with entrance.calling():
        known = entrance.known()
        with _negotiated(entrance, known) as transport:
            _require_known(entrance, transport, known)
            entrance.prove(transport)
            channel = transport.open_session(timeout=entrance.beginning)
            hold_to_window(channel, entrance.window)
            channel.invoke_subsystem("sftp")
            times = entrance.patience, entrance.pulse, entrance.fell_silent
            session = Session(channel, str(entrance), entrance.window, *times)
    transport.set_keepalive(KEEPALIVE)
    return session


def shown_host_key(entrance: Entrance, kinds: Sequence[str]) -> bytes:
    """Return the key that the server shows when it is asked for one of `kinds`; nothing is sent that proves who we are.

    Raises Unavailable, `Entrance.refused` where the server has none.
    """
    with entrance.calling(), _negotiated(entrance, HostKeys(tuple(kinds), frozenset(), frozenset())) as transport:
        key: bytes = transport.get_remote_server_key().asbytes()
        transport.close()
    return key


@contextlib.contextmanager
def _negotiated(entrance: Entrance, known: HostKeys) -> Iterator[paramiko.Transport]:
    """Give a transport that has a key for its packets, and close it when what follows fails or takes too long."""
    link = _patient(entrance)
    try:
        transport = paramiko.Transport(
            link,
            default_window_size=entrance.window,
            default_max_packet_size=PACKET,
            packetizer_class=BoundedPackets,
        )
    except BROKEN as error:
        link.close()
        raise Unavailable(f"{entrance}: {error}") from error
    try:
        with _in_time(entrance, transport):
            _negotiate(entrance, transport, known)
            yield transport
    except BROKEN as error:
        transport.close()
        raise Unavailable(f"{entrance}: no SFTP session: {_words(error)}") from error
    except BaseException:
        transport.close()
        raise


def _patient(entrance: Entrance) -> PatientSocket:
    plain = entrance.open_socket()
    plain.settimeout(entrance.beginning)
    link = PatientSocket(plain.family, plain.type, plain.proto, plain.detach())
    link.patience = entrance.patience
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # Keepalives that nobody acknowledges end an idle connection too: tcp(7)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(entrance.patience * 1000))
    return link


def _negotiate(entrance: Entrance, transport: paramiko.Transport, known: HostKeys) -> None:
    transport.set_log_channel(_QUIET)
    transport.banner_timeout = transport.auth_timeout = entrance.beginning
    options = transport.get_security_options()
    options.ciphers, options.digests = CIPHERS, MACS
    # Only for kinds of keys that can be compared: else the server may show one that nobody knows.
    kinds = [name for name in known.algorithms if name in options.key_types]
    if not kinds:
        raise entrance.refused(f"the key {entrance.where} is of a kind that is not used any more")
    options.key_types = kinds
    try:
        transport.start_client(timeout=entrance.beginning)
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise entrance.refused(f"nothing in common with the server and the key {entrance.where}: {error}") from error


def _require_known(entrance: Entrance, transport: paramiko.Transport, known: HostKeys) -> None:
    key = transport.get_remote_server_key().asbytes()
    if key in known.revoked or key not in known.keys:
        state = "is revoked" if key in known.revoked else "is not the one"
        raise entrance.refused(
            f"REFUSED: the server's host key {fingerprint(key)} {state} {entrance.where}: either it was changed, or"
            " another machine answers in its place; nothing was sent to it"
        )


def _private_key(account: Account, file: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(file)
    except (TypeError, paramiko.PasswordRequiredException):  # cryptography says the former
        reason = "it has a pass phrase; ssh-keygen -p takes it away"
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except (paramiko.SSHException, ValueError, paramiko.pkey.UnknownKeyType):
        reason = "it holds no private key of a kind that is used"
    raise Unavailable(f"{account}: key_file {file}: {reason}")


@contextlib.contextmanager
def _refused(sentence: str) -> Iterator[None]:
    try:
        yield
    except paramiko.AuthenticationException as error:
        raise Unavailable(sentence) from error


@contextlib.contextmanager
def _in_time(account: Entrance, transport: paramiko.Transport) -> Iterator[None]:
    """Close the connection when it takes too long to begin: paramiko waits for some answers without an end."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        transport.close()

    timer = threading.Timer(account.beginning, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (*BROKEN, Unavailable) as error:
        if late.is_set():
            raise Unavailable(f"{account}: no SFTP session within {account.beginning:g} s") from error
        raise
    finally:
        timer.cancel()


def _words(error: BaseException) -> str:
    return str(error) or "the connection has ended"
