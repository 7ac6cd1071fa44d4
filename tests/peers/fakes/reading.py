"""Reading what others write: addresses, bodies, and discovery documents."""

from __future__ import annotations

from urllib.parse import urlsplit

from .journal import Refused
from .messages import Document


def bare_server(server: str) -> str:
    """Return host[:port] of a server that may be written as a URL."""
    return server.rpartition("://")[2].rstrip("/")


def one_host(address: str) -> str:
    """Return an address without a scheme, and with its host once: oCIS and OpenCloud write it twice."""
    user, _, host = address.rpartition("@")
    while (parts := user.rpartition("@"))[1] and bare_server(parts[2]) == bare_server(host):
        user = parts[0]
    return f"{user}@{bare_server(host)}"


def lacking(body: Document, *names: str) -> list[str]:
    """Return which of `names` are not in a body, or empty."""
    return [name for name in names if body.get(name) in (None, "", {}, [])]


def file_entry(document: Document) -> Document:
    """Return the entry `file` of a document's resourceTypes; raises Refused."""
    for entry in document.get("resourceTypes") or ():
        if isinstance(entry, dict) and entry.get("name") == "file":
            return entry
    raise Refused(400, "resourceTypes has no entry `file`")


def webdav_path(document: Document) -> str:
    """Return the webdav path of the entry `file`; raises Refused unless it is a string."""
    path = (file_entry(document).get("protocols") or {}).get("webdav")
    if not isinstance(path, str):
        raise Refused(400, f"protocols.webdav of `file` is no string: {path!r}")
    return path


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
