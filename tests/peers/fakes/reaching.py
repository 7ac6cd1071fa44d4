"""The small WebDAV client behind every fake: reads and writes a Share of the other side and complains as products do.

What a product cannot live with is a complaint (peers.md §3b), also where this client could.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

from .journal import Failed, NotGranted
from .serving import DAV, OC, OCM, OCS

if TYPE_CHECKING:
    from .fake import Fake
    from .messages import Answer

PERMISSIONS = (f"{{{OC}}}permissions", f"{{{OCS}}}share-permissions", f"{{{OCM}}}share-permissions")


@dataclass(frozen=True)
class Habits:
    """How a product's client asks, and what it needs."""

    properties: tuple[str, ...] | None = None  # of its PROPFIND; None sends no body at all
    sends_depth: bool = True
    needs_permissions: bool = False  # without the properties, Nextcloud shows a read-only Share as writable
    polls_root_etag: bool = False  # looks for changes at the root alone
    upload_headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One <response>: the decoded path of its href without a slash at the end, and its properties by name."""

    path: str
    properties: dict[str, ElementTree.Element]

    @property
    def is_folder(self) -> bool:
        kind = self.properties.get(f"{{{DAV}}}resourcetype")
        return kind is not None and kind.find(f"{{{DAV}}}collection") is not None

    def text(self, name: str) -> str:
        element = self.properties.get(name)
        return (element.text or "") if element is not None else ""


class Reached:
    """A Share of the other side at `url`; every request asks `authorization` for its Authorization headers.

    Several are tried in turn, each after the one before was answered with 401. `writable` is None where the body of
    the Share did not say; what the properties say is then in `is_writable`.
    """

    def __init__(
        self,
        fake: Fake,
        url: str,
        authorization: Callable[[], Awaitable[list[str]]],
        habits: Habits,
        *,
        writable: bool | None,
    ) -> None:
        self._fake = fake
        self._url = url.rstrip("/")
        self._authorization = authorization
        self._habits = habits
        self._writable = writable
        self.is_writable = writable

    async def names(self) -> list[str]:
        """Return the names in the Share, none if it is a file."""
        root, *inner = await self._propfind()
        return [entry.path.removeprefix(root.path).strip("/") for entry in inner] if root.is_folder else []

    async def files(self) -> list[str]:
        """Return the names of the files in the Share, "" alone if it is a file itself."""
        root, *inner = await self._propfind()
        if not root.is_folder:
            return [""]
        return [entry.path.removeprefix(root.path).strip("/") for entry in inner if not entry.is_folder]

    async def read(self, path: str = "") -> bytes:
        """Return the content of a file, "" being the Share itself."""
        return (await self._request("GET", path, wanted=(200,))).body

    async def write(self, path: str, content: bytes) -> None:
        """Store a file, whole and in one request."""
        before = await self._root_etag()
        await self._request("PUT", path, content, wanted=(201, 204), headers=self._habits.upload_headers)
        if await self.read(path) != content:
            self._complain(f"PUT {path} was acknowledged, and GET returns something else")
        await self._expect_change(before, f"PUT {path}")

    async def make_folder(self, path: str) -> None:
        before = await self._root_etag()
        await self._request("MKCOL", f"{path}/", wanted=(201,))
        await self._expect_change(before, f"MKCOL {path}")

    async def move(self, source: str, target: str) -> None:
        headers = {"Destination": self._at(target), "Overwrite": "F"}
        await self._request("MOVE", source, headers=headers, wanted=(201, 204))

    async def remove(self, path: str, *, folder: bool = False) -> None:
        before = await self._root_etag()
        await self._request("DELETE", f"{path}/" if folder else path, wanted=(204,))
        await self._expect_change(before, f"DELETE {path}")

    async def is_refused(self, method: str = "PROPFIND", path: str = "", body: bytes | None = None) -> bool:
        """Tell whether the other side answers 401, 403 or 404, as it should when a Share has ended or forbids this."""
        try:
            answer = await self._ask(method, path, body, {"Depth": "0"} if method == "PROPFIND" else {})
        except NotGranted:
            return True
        return answer.status in (401, 403, 404)

    async def _propfind(self) -> list[Entry]:
        headers = {"Depth": "1"} if self._habits.sends_depth else {}
        answer = await self._request("PROPFIND", "/", self._question(), headers=headers, wanted=(207,))
        entries = self._entries(answer)
        own = unquote(urlsplit(self._url).path).rstrip("/")
        if not entries or entries[0].path != own:
            self._complain(f"the first <response> of PROPFIND is not {own}, which was asked for")
            raise Failed("no listing")
        if self._habits.needs_permissions:
            self._check_permissions(entries[0])
        return entries

    def _entries(self, answer: Answer) -> list[Entry]:
        try:
            responses = ElementTree.fromstring(answer.body).findall(f"{{{DAV}}}response")
        except ElementTree.ParseError as error:
            self._complain(f"PROPFIND is answered with XML that cannot be read: {error}")
            raise Failed("no listing") from error
        return [self._entry(response) for response in responses]

    def _entry(self, response: ElementTree.Element) -> Entry:
        href = response.findtext(f"{{{DAV}}}href", "")
        if not href.startswith("/"):
            self._complain(f"an href is no absolute path: {href!r}")
        properties = {
            element.tag: element
            for propstat in response.findall(f"{{{DAV}}}propstat")
            if " 200 " in propstat.findtext(f"{{{DAV}}}status", "") + " "
            for element in propstat.findall(f"{{{DAV}}}prop/*")
        }
        entry = Entry(unquote(urlsplit(href).path).rstrip("/"), properties)
        lacking = {f"{{{DAV}}}resourcetype", f"{{{DAV}}}getlastmodified"} - properties.keys()
        if lacking:
            self._complain(f"{href} has no {', '.join(sorted(lacking))}")
        if not entry.is_folder and not entry.text(f"{{{DAV}}}getcontentlength").isdigit():
            self._complain(f"{href} is a file without getcontentlength")
        return entry

    def _check_permissions(self, root: Entry) -> None:
        """Read them in Nextcloud's order; without any of the properties everything is permitted (peers.md §3b)."""
        found = [name for name in PERMISSIONS if name in root.properties]
        if not found:
            self._complain(f"none of {', '.join(PERMISSIONS)} is there: all is shown as permitted")
            return
        number, letters = root.text(PERMISSIONS[1]), root.text(PERMISSIONS[0])
        shown = bool(int(number) & 2) if number.isdigit() else "W" in letters
        self.is_writable = shown
        if self._writable not in (None, shown):
            self._complain(f"the Share is {'writable' if self._writable else 'read-only'}, its properties say no")

    async def _root_etag(self) -> str:
        return (await self._propfind())[0].text(f"{{{DAV}}}getetag") if self._habits.polls_root_etag else ""

    async def _expect_change(self, before: str, what: str) -> None:
        if self._habits.polls_root_etag and await self._root_etag() == before:
            self._complain(f"the root's ETag is {before!r} after {what} as it was before")

    def _question(self) -> bytes | None:
        if self._habits.properties is None:
            return None
        elements = "".join(_element(name) for name in self._habits.properties)
        return f'<?xml version="1.0"?><d:propfind xmlns:d="DAV:"><d:prop>{elements}</d:prop></d:propfind>'.encode()

    async def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        wanted: tuple[int, ...],
        headers: dict[str, str] | None = None,
    ) -> Answer:
        try:
            answer = await self._ask(method, path, body, headers or {})
        except NotGranted as error:
            self._complain(f"{method} {path or '/'} of the Share: {error}")
            raise
        if answer.status not in wanted:
            self._complain(f"{method} {path or '/'} of the Share is answered {answer.status}, wanted {wanted}")
            raise Failed(f"{method} {path}", answer.status)
        return answer

    async def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        for authorization in (ways := await self._authorization()):
            sent = headers | {"Authorization": authorization}
            answer = await self._fake.call(method, self._at(path), sent, body)
            if answer.status != 401 or authorization is ways[-1]:
                return answer
        raise Failed("the product has no credential for this Share")

    def _at(self, path: str) -> str:
        return f"{self._url}/{quote(path.lstrip('/'))}" if path else self._url

    def _complain(self, text: str) -> None:
        self._fake.journal.complain(text)


def _element(name: str) -> str:
    namespace, _, local = name.lstrip("{").partition("}")
    return f'<x:{local} xmlns:x="{namespace}"/>'
