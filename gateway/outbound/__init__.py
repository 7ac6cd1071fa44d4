"""The one guarded way out: every connection to an address that somebody else chose is made here.

A URL is checked, its host is resolved once, each address is checked, and the connection goes to a checked
address, so a name that changes its address between check and use gains nothing. Certificates are verified
against the system's store, or the host's own authority alone. There are no environment proxies. Redirects are
followed for bare GETs that ask for it, and their targets checked like any other URL; elsewhere a 3xx is an answer.
"""

from gateway.outbound.asynchronous import AsyncOutbound, Response
from gateway.outbound.errors import OutboundError, OutboundRefused, PeerUnreachable, Step
from gateway.outbound.guard import EVERYWHERE, Destination, Guard
from gateway.outbound.own_certificates import OwnCertificates, TLSFiles
from gateway.outbound.synchronous import SyncOutbound, SyncResponse, SyncUpload

__all__ = [
    "EVERYWHERE",
    "AsyncOutbound",
    "Destination",
    "Guard",
    "OutboundError",
    "OutboundRefused",
    "OwnCertificates",
    "PeerUnreachable",
    "Response",
    "Step",
    "SyncOutbound",
    "SyncResponse",
    "SyncUpload",
    "TLSFiles",
]
