"""The TLS of one backend: who may sign for its server, and what we show to it.

Client certificates may be proxies (RFC 3820), which live for hours: a file that has changed is read again before the
next connection.
"""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from gateway.outbound.certificates import has_no_chain, new_context
from gateway.outbound.errors import PeerUnreachable, in_words

# Alerts by which a server says that it does not like our certificate, or the lack of one (RFC 8446 section 6.2).
_ABOUT_US = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")

Seen = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """What a backend's section says of TLS; without authorities the system's are believed."""

    ca_file: Path | None = None
    ca_path: Path | None = None
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None  # None: the key is in the file with the certificate, as in a proxy's

    def names(self) -> dict[str, Path]:
        """Return the files by their keys."""
        keys = ("ca_file", "ca_path", "client_certificate_file", "client_key_file")
        return {key: path for key in keys if (path := getattr(self, key)) is not None}


class OwnCertificates:
    """The context of one backend; `section` is its place in the configuration, for errors."""

    def __init__(self, section: str, files: TLSFiles, *, also_system: bool = False) -> None:
        """`also_system`: the system's authorities are believed beside those in `files`."""
        self._section = section
        self._files = files
        self._also_system = also_system
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._context = new_context()

    def of(self, host: str) -> ssl.SSLContext:
        """Return the context, made of the files as they are now; raises PeerUnreachable."""
        with self._lock:
            seen = tuple(map(_state, self._files.names().values()))
            if seen != self._seen:
                self._context = self._read(host)
                self._seen = seen
            return self._context

    def in_words(self, error: BaseException, host: str) -> str:
        """Say what went wrong on the way to `host`, and which key may be about it."""
        words = in_words(error)
        given = [f"{self._section}.{key}" for key in self._files.names() if key.startswith("ca_")]
        if has_no_chain(error) and given:
            return f"{words}; the authorities in {given[0]} alone may sign for this server"
        if has_no_chain(error):
            return f"{words}; if the server has an authority of its own, name that in {self._section}.ca_file"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"{words} ({self._section}.url)"
        if isinstance(error, ssl.SSLError) and _is_about_us(error):
            key = f"{self._section}.client_certificate_file"
            return f"{words}; {key} has run out" if self._has_run_out() else f"{words}; the server judges {key}"
        return words

    def _has_run_out(self) -> bool:
        try:
            pem = b"" if (path := self._files.client_certificate_file) is None else path.read_bytes()
            return x509.load_pem_x509_certificate(pem).not_valid_after_utc < datetime.now(UTC)
        except (OSError, ValueError):
            return False

    def _read(self, host: str) -> ssl.SSLContext:
        context, files = new_context(), self._files
        key = "ca_path" if files.ca_path else "ca_file"
        try:
            if files.ca_file or files.ca_path:
                context.load_verify_locations(cafile=files.ca_file, capath=files.ca_path)
            if self._also_system or not (files.ca_file or files.ca_path):
                context.load_default_certs(ssl.Purpose.SERVER_AUTH)
            if files.client_certificate_file is not None:
                key = "client_certificate_file"
                context.load_cert_chain(files.client_certificate_file, files.client_key_file, password=_no_pass_phrase)
        except (ssl.SSLError, ValueError):  # ValueError: a key with a pass phrase
            raise PeerUnreachable("tls", host, f"{self._section}.{key}: not the PEM that belongs there") from None
        except OSError as error:
            words = os.strerror(error.errno or 0)
            raise PeerUnreachable("tls", host, f"{self._section}.{key}: {words}") from None
        return context


def _is_about_us(error: ssl.SSLError) -> bool:
    """Tell whether the server may have ended this because of our certificate; XRootD 5 does it without an alert."""
    reason = error.reason or ""
    return isinstance(error, ssl.SSLEOFError) or ("ALERT" in reason and any(word in reason for word in _ABOUT_US))


def _no_pass_phrase() -> bytes:
    """Refuse a key with a pass phrase instead of asking for it on the terminal."""
    return b""


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
