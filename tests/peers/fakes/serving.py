"""The small WebDAV server behind every fake: a Resource, below a path, with the permissions of a Share."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from .resources import Resource

DAV, OC = "DAV:", "http://owncloud.org/ns"
OCS, OCM = "http://open-collaboration-services.org/ns", "http://open-cloud-mesh.org/ns"
MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"
WRITING = ("PUT", "MKCOL", "DELETE", "MOVE", "COPY", "PROPPATCH")
OCS_READ, OCS_ALL = 1, 15  # read; read, update, create and delete


@dataclass(frozen=True)
class DavAnswer:
    """What to answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Served:
    """A Resource at `root`, the path of its URL without a slash at the end."""

    resource: Resource
    root: str
    permissions: Collection[str]
    tells_permissions: Collection[str] = ()  # of `oc` and `ocs`, the properties in which a product says them
    read_only_status: int = 403  # the answer to a write that is not permitted
    default_depth: str = "infinity"  # of a PROPFIND without Depth (RFC 4918 section 9.1)

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> DavAnswer:
        """Answer one request for `path`, relative to the Resource."""
        path = path.strip("/")
        if method in WRITING and "write" not in self.permissions:
            return DavAnswer(self.read_only_status)
        if method in ("GET", "HEAD"):
            return self._get(path, headers, with_body=method == "GET")
        if method == "OPTIONS":
            return DavAnswer(200, headers={"DAV": "1"})
        handlers = {
            "PROPFIND": self._propfind,
            "PUT": self._put,
            "MKCOL": self._mkcol,
            "DELETE": self._delete,
            "MOVE": self._move,
            "PROPPATCH": self._proppatch,
        }
        handler = handlers.get(method)
        return DavAnswer(405) if handler is None else handler(path, headers, body)

    def _get(self, path: str, headers: Mapping[str, str], *, with_body: bool) -> DavAnswer:
        content = self.resource.nodes.get(path)
        if content is None:
            return DavAnswer(405 if path in self.resource.nodes else 404)
        about = {"ETag": self.resource.etag(path), "Last-Modified": MODIFIED, "Content-Type": "text/plain"}
        wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", headers.get("Range", ""))
        if wanted is None:
            about["Content-Length"] = str(len(content))
            return DavAnswer(200, content if with_body else b"", about)
        start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
        if start >= len(content):
            return DavAnswer(416, headers={"Content-Range": f"bytes */{len(content)}"})
        end = min(end, len(content) - 1)
        about |= {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return DavAnswer(206, content[start : end + 1] if with_body else b"", about)

    def _put(self, path: str, headers: Mapping[str, str], body: bytes) -> DavAnswer:
        present = path in self.resource.nodes
        if (present and self.resource.nodes[path] is None) or not (present or self.resource.has_parent(path)):
            return DavAnswer(409)
        expected = headers.get("If-Match")
        if expected is not None and (not present or self.resource.etag(path) != expected):
            return DavAnswer(412)
        if headers.get("If-None-Match") == "*" and present:
            return DavAnswer(412)
        self.resource.put(path, body)
        return DavAnswer(204 if present else 201, headers={"ETag": self.resource.etag(path)})

    def _mkcol(self, path: str, _headers: Mapping[str, str], _body: bytes) -> DavAnswer:
        if path in self.resource.nodes:
            return DavAnswer(405)
        if not self.resource.has_parent(path):
            return DavAnswer(409)
        self.resource.put(path, None)
        return DavAnswer(201)

    def _delete(self, path: str, _headers: Mapping[str, str], _body: bytes) -> DavAnswer:
        if path not in self.resource.nodes:
            return DavAnswer(404)
        if not path:
            return DavAnswer(403)
        self.resource.remove(path)
        return DavAnswer(204)

    def _move(self, path: str, headers: Mapping[str, str], _body: bytes) -> DavAnswer:
        target = unquote(urlsplit(headers.get("Destination", "")).path)
        inside = target.startswith(f"{self.root}/") and target[len(self.root) :].strip("/")
        if path not in self.resource.nodes:
            return DavAnswer(404)
        if not path or not inside:
            return DavAnswer(403)
        present = inside in self.resource.nodes
        if present and headers.get("Overwrite", "T") == "F":
            return DavAnswer(412)
        if not self.resource.has_parent(inside):
            return DavAnswer(409)
        if present:
            self.resource.remove(inside)
        self.resource.move(path, inside)
        return DavAnswer(204 if present else 201)

    def _proppatch(self, path: str, _headers: Mapping[str, str], _body: bytes) -> DavAnswer:
        return self._multistatus([f"<d:response>{self._href(path)}<d:status>HTTP/1.1 200 OK</d:status></d:response>"])

    def _propfind(self, path: str, headers: Mapping[str, str], body: bytes) -> DavAnswer:
        if path not in self.resource.nodes:
            return DavAnswer(404)
        depth = headers.get("Depth", self.default_depth)
        if depth not in ("0", "1"):
            return DavAnswer(403)
        names = [path, *(self.resource.children(path) if depth == "1" else ())]
        asked = _asked_for(body)
        return self._multistatus([self._response(name, asked) for name in names])

    def _response(self, path: str, asked: list[str] | None) -> str:
        known = self._properties(path)
        wanted = list(known) if asked is None else asked
        found = "".join(known[name] for name in wanted if name in known)
        lacking = "".join(_empty(name) for name in wanted if name not in known)
        propstats = _propstat(found, "200 OK") + (_propstat(lacking, "404 Not Found") if lacking else "")
        return f"<d:response>{self._href(path)}{propstats}</d:response>"

    def _properties(self, path: str) -> dict[str, str]:
        """Return the elements of what is at `path`, by their names as ElementTree writes them."""
        content = self.resource.nodes[path]
        writable = "write" in self.permissions
        found = {f"{{{DAV}}}getlastmodified": f"<d:getlastmodified>{MODIFIED}</d:getlastmodified>"}
        found[f"{{{DAV}}}getetag"] = f"<d:getetag>{escape(self.resource.etag(path))}</d:getetag>"
        if content is None:
            found[f"{{{DAV}}}resourcetype"] = "<d:resourcetype><d:collection/></d:resourcetype>"
        else:
            found[f"{{{DAV}}}resourcetype"] = "<d:resourcetype/>"
            found[f"{{{DAV}}}getcontentlength"] = f"<d:getcontentlength>{len(content)}</d:getcontentlength>"
            found[f"{{{DAV}}}getcontenttype"] = "<d:getcontenttype>text/plain</d:getcontenttype>"
        if "oc" in self.tells_permissions:
            letters = ("RDNVW" if content is not None else "RDNVCK") if writable else "R"
            found[f"{{{OC}}}permissions"] = f"<oc:permissions>{letters}</oc:permissions>"
        if "ocs" in self.tells_permissions:
            number = OCS_ALL if writable else OCS_READ
            found[f"{{{OCS}}}share-permissions"] = f"<ocs:share-permissions>{number}</ocs:share-permissions>"
        return found

    def _href(self, path: str) -> str:
        url = quote(f"{self.root}/{path}" if path else self.root)
        return f"<d:href>{url}{'/' if self.resource.nodes.get(path) is None else ''}</d:href>"

    @staticmethod
    def _multistatus(responses: list[str]) -> DavAnswer:
        namespaces = f'xmlns:d="{DAV}" xmlns:oc="{OC}" xmlns:ocs="{OCS}" xmlns:ocm="{OCM}"'
        text = f'<?xml version="1.0" encoding="utf-8"?><d:multistatus {namespaces}>{"".join(responses)}</d:multistatus>'
        return DavAnswer(207, text.encode(), {"Content-Type": "application/xml; charset=utf-8"})


def _asked_for(body: bytes) -> list[str] | None:
    """Return the properties that a PROPFIND names, None if it wants all."""
    if not body.strip():
        return None
    prop = ElementTree.fromstring(body).find(f"{{{DAV}}}prop")
    return None if prop is None else [element.tag for element in prop]


def _propstat(elements: str, status: str) -> str:
    return f"<d:propstat><d:prop>{elements}</d:prop><d:status>HTTP/1.1 {status}</d:status></d:propstat>"


def _empty(name: str) -> str:
    namespace, _, local = name.lstrip("{").partition("}")
    return f'<x:{local} xmlns:x="{escape(namespace)}"/>'
