"""MKCOL, DELETE and PROPPATCH by WsgiDAV, on a provider over a Place; the whole of it runs in the storage's threads.

WsgiDAV sees a path below the place's root, still percent-encoded, so that it handles ASCII alone and every byte
survives. It has no locks, no dead properties and no log-in of its own here; preconditions and locks are checked before
it, and what the storage refuses passes through it to the door's own table.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from aiohttp import web
from wsgidav.dav_error import DAVError
from wsgidav.dav_provider import DAVCollection, DAVNonCollection, DAVProvider
from wsgidav.request_resolver import RequestResolver
from wsgidav.wsgidav_app import WsgiDAVApp

from backends.errors import NotFound, StorageError
from backends.interface import Entry
from gateway.belongings import Belongings
from gateway.dav.call import Call, address, in_pool, read_body, require_conditions
from gateway.dav.errors import DavError, root_stays, translate
from gateway.dav.guard import Guard
from gateway.dav.multistatus import href_of
from gateway.dav.patching import Patch, changes
from gateway.dav.xml import BadXml, parse_body, property_names, serialise
from gateway.files import Moves
from gateway.removing import Incomplete
from gateway.tree import Place

_CALL = "gateway.call"
_FILES = "gateway.files"
_BELONGINGS = "gateway.belongings"
_PATCH = "gateway.patch"
_REFUSAL = "gateway.refusal"  # what a resource refused with, where WsgiDAV would answer 500

# What WsgiDAV itself refuses: code and sentence by status.
_REFUSALS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        400: ("BAD_REQUEST", "a header or the body is not what the method takes"),
        404: ("NOT_FOUND", "there is nothing here"),
        405: ("ALREADY_EXISTS", "there is something here already"),
        409: ("PARENT_MISSING", "the folder that it would be in does not exist"),
        415: ("UNEXPECTED_BODY", "the method takes no body"),
    }
)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes


class LongTail:
    """The bridge from aiohttp to WsgiDAV and back."""

    def __init__(self, files: Moves, belongings: Belongings, guard: Guard) -> None:
        self._files = files
        self._belongings = belongings
        self._guard = guard
        self._app = WsgiDAVApp(
            {
                "provider_mapping": {"/": _Provider()},
                # Without its ErrorPrinter every exception reaches the door, which has the one table.
                "middleware_stack": [RequestResolver],
                "lock_storage": False,
                "property_manager": False,
                "http_authenticator": {"accept_basic": False, "accept_digest": False},
                "hotfixes": {"re_encode_path_info": False},
                "logging": {"enable": False},
                "verbose": 1,
            }
        )

    async def make_collection(self, call: Call) -> web.StreamResponse:
        return await self._serve(call, b"")

    async def delete(self, call: Call) -> web.StreamResponse:
        if call.place.is_root:
            raise root_stays()
        return await self._serve(call, b"")

    async def patch_properties(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request)
        try:
            update = parse_body(body, "propertyupdate")
            if not property_names(update.iterfind("*/{DAV:}prop/*")):
                raise BadXml("a propertyupdate sets or removes something")
        except BadXml as error:
            raise DavError(400, "INVALID_XML", str(error)) from None
        patch = Patch(call.place, changes(update), self._belongings)
        return await self._serve(call, serialise(update), patch)

    async def _serve(self, call: Call, body: bytes, patch: Patch | None = None) -> web.StreamResponse:
        answer = await in_pool(call.place, self._run, call, body, patch)
        if answer.status != 207:  # its pages are for browsers
            return web.Response(status=answer.status)
        return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type})

    def _run(self, call: Call, body: bytes, patch: Patch | None) -> _Answer:
        require_conditions(call)
        self._guard.require(call)
        environ = _environ(call, body) | {_FILES: self._files, _BELONGINGS: self._belongings, _PATCH: patch}
        started: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
            started.update(status=int(status[:3]), headers={name.lower(): value for name, value in headers})

        try:
            content = b"".join(self._app(environ, start_response))
        except DAVError as error:
            if _REFUSAL not in environ:
                code, sentence = _REFUSALS.get(error.value, ("WEBDAV", "the request was refused"))
                raise DavError(error.value, code, sentence) from None
        if _REFUSAL in environ:
            raise environ[_REFUSAL]
        return _Answer(started["status"], started["headers"].get("content-type", ""), content)


def _environ(call: Call, body: bytes) -> dict[str, Any]:
    names = call.place.path.relative_to(call.place.root)
    environ = {
        "REQUEST_METHOD": call.request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "".join(f"/{quote_from_bytes(name, safe='')}" for name in names) or "/",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/xml",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgidav.auth.user_name": call.grant.principal,
        _CALL: call,
    }
    if "Depth" in call.request.headers:
        environ["HTTP_DEPTH"] = call.request.headers["Depth"].strip()
    return environ


class _Provider(DAVProvider):  # type: ignore[misc]  # WsgiDAV has no types
    """One provider for every call: what it serves is in the environ."""

    def get_resource_inst(self, path: str | None, environ: dict[str, Any]) -> _Folder | _File | None:
        if path is None:  # WsgiDAV asks for the parent of the root
            return None
        call: Call = environ[_CALL]
        names = (unquote_to_bytes(part) for part in path.split("/") if part)
        place = replace(call.place, path=call.place.root.join(names))
        try:
            entry = place.backend.stat(place.path)
        except NotFound:
            return None
        return (_Folder if entry.is_directory else _File)(path, environ, place, entry)


class _Resource:
    """What WsgiDAV asks of files and folders alike in these three methods."""

    environ: dict[str, Any]
    is_collection: bool
    place: Place
    entry: Entry

    def get_href(self) -> str:
        call: Call = self.environ[_CALL]
        return address(call.place, call.location, self.place.path).href(is_directory=self.is_collection)

    def get_etag(self) -> str:
        return self.entry.etag

    def support_etag(self) -> bool:
        return True

    def handle_delete(self) -> bool | list[tuple[str, DAVError]]:
        call: Call = self.environ[_CALL]
        try:
            self.environ[_FILES].remove(self.place)
        except Incomplete as error:
            return [
                (href_of(failure.place, [(call.place, call.location)]), DAVError(translate(failure.error).status))
                for failure in error.failures
            ]
        except StorageError as error:
            if self.is_collection:
                call.begun.set()  # what was in it may be gone
            raise self._refused(error) from error
        return True

    def set_property_value(self, name: str, value: Any, *, dry_run: bool = False) -> None:
        """Follow WsgiDAV, which tries every change in turn and then, if none has failed, makes them."""
        patch: Patch = self.environ[_PATCH]
        patch.judge() if dry_run else patch.apply()

    def _refused(self, error: StorageError) -> DAVError:
        self.environ[_REFUSAL] = error
        return DAVError(translate(error).status)


class _Folder(_Resource, DAVCollection):  # type: ignore[misc]  # WsgiDAV has no types
    def __init__(self, path: str, environ: dict[str, Any], place: Place, entry: Entry) -> None:
        DAVCollection.__init__(self, path, environ)
        self.place = place
        self.entry = entry

    def get_member_names(self) -> list[str]:
        with self.place.scan() as scan:
            return [quote_from_bytes(entry.name, safe="") for entry in scan]

    def create_collection(self, name: str) -> None:
        made = self.place.below((unquote_to_bytes(name),))
        self.environ[_BELONGINGS].make_way(made)
        self.place.backend.make_directory(made.path)


class _File(_Resource, DAVNonCollection):  # type: ignore[misc]  # WsgiDAV has no types
    def __init__(self, path: str, environ: dict[str, Any], place: Place, entry: Entry) -> None:
        DAVNonCollection.__init__(self, path, environ)
        self.place = place
        self.entry = entry

    def get_content_length(self) -> int:
        return self.entry.size

    def get_content(self) -> Any:
        raise DAVError(405)  # GET never comes this way
