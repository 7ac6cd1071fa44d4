"""Why a request did not happen, in one small tree.

OutboundError               `code` is machine-readable, the text is a sentence without secrets
    OutboundRefused         this gateway does not go there: URL_, SCHEME_, USERINFO_, HOST_, PORT_, ADDRESS_,
                            HEADER_REFUSED
    PeerUnreachable         the attempt failed at `step`: dns, tcp, tls or http
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Literal

Step = Literal["dns", "tcp", "tls", "http"]

FAILED: dict[Step, str] = {
    "dns": "NAME_UNRESOLVED",
    "tcp": "CONNECT_FAILED",
    "tls": "TLS_FAILED",
    "http": "HTTP_FAILED",
}


class OutboundError(Exception):
    """Never raised itself; its subclasses say what happened."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class OutboundRefused(OutboundError):
    """This gateway does not connect there, whatever the other side would answer."""


class PeerUnreachable(OutboundError):
    """The attempt failed at `step`; `host` is host:port."""

    def __init__(self, step: Step, host: str, reason: str) -> None:
        super().__init__(FAILED[step], f"{host}: {reason} ({step})")
        self.step = step
        self.host = host


def in_words(error: BaseException) -> str:
    """Say what the lower library met; its own text may hold addresses of memory, or the header it did not like."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved: {error.strerror or 'unknown'}"
    if isinstance(error, UnicodeError):
        return "the name cannot be resolved: a label is empty or too long"
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else "the connection was closed"
    return "the answer is not valid HTTP"
