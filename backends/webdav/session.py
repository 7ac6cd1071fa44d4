"""Requests to one root: URLs from paths, the credential and its renewal, and answers or StorageErrors."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote, quote_from_bytes

from backends.errors import InvalidPath, NotFound, StorageError, Unavailable
from backends.paths import StoragePath
from backends.webdav.answers import REDIRECTS, refusal
from backends.webdav.configured import Configured
from backends.webdav.dialect import literal_destination
from backends.webdav.multistatus import PROPERTIES, QUOTA, Resource, path_of, request_body, resources
from backends.webdav.transport import Credential, Response, Transport, Upload

# What servers say of a path below a file, beside 404: Apache 400, XRootD 500, others as to any mistake of the client.
BELOW_A_FILE = frozenset({400, 405, 409, 500})

_ROOT = re.compile(r"(https?://([^/?#@\\\s]+))(/[^?#\s\\]*)?")
_KEPT_IN_URLS = "/%:@!$&'()*+,;=~"  # what a path may hold as it is (RFC 3986 section 3.3), and escapes made before


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose cuts are StorageErrors; `request` is its method and path."""

    response: Response
    host: str
    request: str
    failures: tuple[type[Exception], ...]
    configured: Configured | None = None

    @property
    def what(self) -> str:
        return f"{self.host}: {self.request}"

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self.response.headers

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the true end; raises Unavailable when the answer is cut off."""
        try:
            return self.response.read(size)
        except self.failures as error:
            raise Unavailable(f"{_place(self.configured)}{self.request}: {error}") from error

    def close(self) -> None:
        self.response.close()

    def refusal(self) -> StorageError:
        """Close the answer and return what its status means."""
        self.close()
        refused = refusal(self.status, self.headers, self.what)
        return self.configured.about_credential(refused) if self.configured else refused


class Session:
    """One root on one server; safe for several threads, as its transport and credential are."""

    def __init__(
        self, url: str, transport: Transport, credential: Credential, configured: Configured | None = None
    ) -> None:
        """Raises InvalidPath for a URL that cannot be the root of anything."""
        parts = _ROOT.fullmatch(url)
        components = path_of(parts[3] or "/") if parts else None
        if parts is None or components is None or {b".", b".."} & set(components):
            raise InvalidPath("the URL is not an http or https one without query, fragment and dot segments")
        self.configured = configured
        self.host = f"{_place(configured)}{parts[2]}"  # as errors call it
        self.components: tuple[bytes, ...] = components
        self._origin = parts[1]
        self._given = self._origin + quote(parts[3] or "/", safe=_KEPT_IN_URLS)
        self.is_literal = False  # the server speaks the dialect of `dialect.py`
        self._transport = transport
        self._credential = credential

    def url(self, path: StoragePath, *, directory: bool = False) -> str:
        """Return the URL of `path`: that of a directory ends in a slash, a root that may be a file is as given."""
        if path.is_root and not directory:
            return self._given
        quoted = "".join(f"/{quote_from_bytes(part, safe='')}" for part in path.parts)
        return f"{self._given.rstrip('/')}{quoted}{'/' if directory else ''}"

    def destination(self, path: StoragePath, *, directory: bool = False) -> str:
        """Return the header Destination for `path`."""
        if self.is_literal:
            return literal_destination(self._origin, self.components + path.parts)
        return self.url(path, directory=directory)

    def request(
        self,
        method: str,
        path: StoragePath,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        directory: bool = False,
    ) -> Answer:
        """Send a request and return its answer; one that is refused with 401 is sent again with a new credential.

        Raises Unavailable, and what the credential raises.
        """
        url = self.url(path, directory=directory)
        credential = self._credential(None)
        answer = self._send(method, path, url, {**(headers or {}), **credential}, body)
        if answer.status == 401 and (renewed := self._renewed(answer, credential)) != credential:
            answer.close()
            answer = self._send(method, path, url, {**(headers or {}), **renewed}, body)
        return answer

    def _renewed(self, answer: Answer, refused: Mapping[str, str]) -> Mapping[str, str]:
        try:
            return self._credential(refused)
        except BaseException:
            answer.close()
            raise

    def demand(
        self,
        method: str,
        path: StoragePath,
        expected: Collection[int],
        headers: Mapping[str, str] | None = None,
        *,
        directory: bool = False,
    ) -> None:
        """Send a request whose answer is its status; raises what a status other than `expected` means."""
        answer = self.request(method, path, headers, directory=directory)
        if answer.status not in expected:
            raise answer.refusal()
        answer.close()

    def upload(self, path: StoragePath, headers: Mapping[str, str], size: int | None) -> Upload:
        """Begin a PUT, which cannot be sent again: look at `path` first, which renews the credential.

        Raises Unavailable.
        """
        credential = self._credential(None)
        with self._failing("PUT", path):
            return self._transport.upload("PUT", self.url(path), {**headers, **credential}, size)

    def finish(self, upload: Upload, path: StoragePath) -> Answer:
        """End an upload and return its answer; raises Unavailable."""
        with self._failing("PUT", path):
            return self._answer(upload.finish(), "PUT", path)

    def look(self, path: StoragePath, *, more: tuple[str, ...] = ()) -> Resource:
        """Return what is at `path` (PROPFIND, Depth 0); raises NotFound, RemoteRefused, Unavailable.

        `more` are properties to ask for beside the usual ones.
        """
        answer = self._propfind(path, "0", (*PROPERTIES, *QUOTA, *more) if path.is_root else (*PROPERTIES, *more))
        wanted = self.components + path.parts
        first: Resource | None = None
        try:
            # Servers that know no Depth list everything.
            for resource in resources(answer.read, answer.what, literal=self.is_literal):
                if resource.parts == wanted:
                    return resource
                first = first or resource
        finally:
            answer.close()
        if first is None:
            raise Unavailable(f"{answer.what}: the answer describes nothing")
        return first

    def find(self, path: StoragePath) -> Resource | None:
        """Return what is at `path`, None if nothing is; raises RemoteRefused, Unavailable."""
        try:
            return self.look(path)
        except NotFound:
            return None

    def listing(self, path: StoragePath) -> tuple[Answer, Iterator[Resource]]:
        """Open the listing of a directory (PROPFIND, Depth 1), which the caller closes; raises as `look`."""
        answer = self._propfind(path, "1", PROPERTIES, directory=True)
        return answer, resources(answer.read, answer.what, literal=self.is_literal)

    def _propfind(self, path: StoragePath, depth: str, names: tuple[str, ...], *, directory: bool = False) -> Answer:
        headers = {"Depth": depth, "Content-Type": "application/xml; charset=utf-8"}
        answer = self.request("PROPFIND", path, headers, request_body(names), directory=directory)
        if answer.status in REDIRECTS and not directory:
            # Some servers send clients from the name of a directory to the one with a slash. That one is asked
            # for by itself; where the redirect points makes no difference.
            answer.close()
            answer = self.request("PROPFIND", path, headers, request_body(names), directory=True)
        if answer.status == 207:
            return answer
        refused = answer.refusal()
        if answer.status in BELOW_A_FILE and not path.is_root:
            parent = self.find(path.parent)
            if parent is None or not parent.is_collection:
                raise NotFound(f"{answer.what}: nothing there") from refused
        raise refused

    def _send(self, method: str, path: StoragePath, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        with self._failing(method, path):
            return self._answer(self._transport.request(method, url, headers, body), method, path)

    @contextmanager
    def _failing(self, method: str, path: StoragePath) -> Iterator[None]:
        try:
            yield
        except self._transport.failures as error:
            raise Unavailable(f"{_place(self.configured)}{method} /{path}: {error}") from error

    def _answer(self, response: Response, method: str, path: StoragePath) -> Answer:
        return Answer(response, self.host, f"{method} /{path}", self._transport.failures, self.configured)


def _place(configured: Configured | None) -> str:
    """Return what errors begin with."""
    return f"{configured.section}: " if configured else ""
