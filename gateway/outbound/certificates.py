"""Which certificates are believed: the system's store, and for hosts with an authority of their own that one alone.

A host's own authority takes the place of the store and does not join it: who names one knows who signs for the host,
and any other signature, also one that the rest of the world believes, is somebody else's.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from gateway.outbound.errors import in_words

# OpenSSL's X509_V_ERR_*: no chain from the certificate to an authority that is believed (x509_vfy.h).
_NO_CHAIN = frozenset({2, 7, 18, 19, 20, 21})


class Verifying(Protocol):
    """What a way out asks about TLS."""

    def of(self, host: str) -> ssl.SSLContext:
        """Return the context for `host`, as `Destination` writes it; raises PeerUnreachable."""
        ...

    def in_words(self, error: BaseException, host: str) -> str:
        """Say what went wrong on the way to `host`, and which key of the configuration may be about it."""
        ...


class Certificates:
    """A context for each host; `kind` is the class of context."""

    def __init__(self, kind: type[ssl.SSLContext], authorities: Mapping[str, Path] | None = None) -> None:
        """`authorities`: by host, without port, the PEM file of the authority that alone may sign for it."""
        self._public = new_context(kind)
        self._public.load_default_certs(ssl.Purpose.SERVER_AUTH)
        self._own = {host.lower(): new_context(kind) for host in authorities or {}}
        for host, path in (authorities or {}).items():
            self._own[host.lower()].load_verify_locations(cafile=path)

    def of(self, host: str) -> ssl.SSLContext:
        """Return the context that verifies `host`, as `Destination` writes it."""
        return self._own.get(host, self._public)

    def in_words(self, error: BaseException, host: str) -> str:
        """Say what went wrong on the way to `host`, and which key of the configuration may be about it."""
        words = in_words(error)
        if not has_no_chain(error):
            return words
        key = f"federation.peers.{host}.ca_file"
        if host in self._own:
            return f"{words}; {key} alone may sign for this host"
        return f"{words}; if the host has an authority of its own, name that in {key}"


def has_no_chain(error: BaseException) -> bool:
    """Tell whether a certificate was refused because no authority that is believed has signed it."""
    return isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _NO_CHAIN


def new_context(kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
    """Return a context that checks the certificate and its name, and believes nobody yet."""
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
