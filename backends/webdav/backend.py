"""The storage contract on WebDAV.

WebDAV deletes and overwrites whole trees where the contract wants a refusal, so this side looks first. Between
the look and the act another client may come; nothing in WebDAV prevents that without locks, which few servers
have. Among the threads of one backend, commits to one path come one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from backends import temporaries
from backends.checks import check_kinds, check_rename, require_below_root
from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    StorageError,
    Unavailable,
    Unsupported,
)
from backends.interface import SCAN_BATCH, Entry, Features, Parked, Scan, Space, StorageBackend
from backends.name_locks import NameLocks
from backends.paths import StoragePath, check_name
from backends.webdav.answers import OddAnswer
from backends.webdav.aside import DELETED, MOVED, Aside, is_hidden, is_stale, require_size
from backends.webdav.configured import Configured
from backends.webdav.dialect import is_literal, require_literal
from backends.webdav.multistatus import RIGHTS, Resource
from backends.webdav.reading import WebDAVReader, entry_of, with_size
from backends.webdav.session import Answer, Session
from backends.webdav.transport import Credential, Transport
from backends.webdav.writing import WebDAVWriter

SWEPT_MAX = 100  # names of crashed uploads that one listing removes
MADE = frozenset({200, 201, 204})

# What servers answer, each in its own way, where a parent is missing or a file; so this side looks.
UNCLEAR = (NotFound, PermissionDenied, OddAnswer)


class WebDAVScan(Scan):
    """Entries as they arrive; the connection stays open until the end or `close`."""

    def __init__(self, answer: Answer, entries: Iterator[Entry], batch: int) -> None:
        self._answer = answer
        self._entries = entries
        self._batch = batch
        self._failure: StorageError | None = None

    def next(self) -> list[Entry]:
        if self._failure is not None:  # an empty list would say that this was all
            raise self._failure
        try:
            found = list(islice(self._entries, self._batch))
        except StorageError as error:
            self._failure = error
            self.close()
            raise
        if not found:
            self.close()
        return found

    def close(self) -> None:
        self._entries = iter(())
        self._answer.close()


class WebDAVBackend(StorageBackend):
    """The tree below `url`, or the single file there; `transport` and `credential` belong to who builds it."""

    def __init__(
        self, url: str, *, transport: Transport, credential: Credential, configured: Configured | None = None
    ) -> None:
        """Nothing is asked of the server yet, and what a `configured` one can do is known after a look at its root.

        Raises InvalidPath for a URL that cannot be a root.
        """
        self.features = Features(server_side_copy=configured is None)
        self._session = Session(url, transport, credential, configured)
        self._configured = configured
        self._is_known = configured is None
        self._aside = Aside(self._session) if configured and configured.aside else None
        self._locks: NameLocks[bytes] = NameLocks()

    def stat(self, path: StoragePath) -> Entry:
        return entry_of(self._look(path), path.name)

    def rights(self) -> frozenset[str] | None:
        """Return what the server allows at the root, of read, write and share; None where it does not say."""
        return self._session.look(StoragePath(), more=RIGHTS).rights

    def scan(self, path: StoragePath, batch: int = SCAN_BATCH) -> WebDAVScan:
        self._require_visible(path)
        self._require_known()
        try:
            answer, listed = self._session.listing(path)
        except StorageError:
            # A file has no URL that ends in a slash; servers say that in many ways.
            if not self._session.look(path).is_collection:
                raise NotADirectory(f"/{path} is not a directory") from None
            raise
        try:
            entries = self._children(path, listed, answer.what)
            return WebDAVScan(answer, entries, batch)
        except BaseException:
            answer.close()
            raise

    def open_read(self, path: StoragePath) -> WebDAVReader:
        resource = self._look(path)
        if resource.is_collection:
            raise IsADirectory(f"/{path} is a directory")
        if resource.size is None:
            resource = with_size(self._session, path, resource)
        return WebDAVReader(self._session, path, resource)

    def open_write(
        self,
        path: StoragePath,
        *,
        size: int | None = None,
        if_match: str | None = None,
        if_none_match: bool = False,
        hashes: tuple[str, ...] = (),
        resume: Parked | None = None,
    ) -> WebDAVWriter:
        if resume is not None:
            raise Unsupported(f"{self._session.host}: WebDAV has no way to go on with a content")
        self._require_ours(path)
        writer = WebDAVWriter(
            self._session,
            path,
            self._locks,
            size=size,
            if_match=if_match,
            if_none_match=if_none_match,
            hashes=hashes,
            aside=self._aside,
        )
        if writer.is_new:
            self._require_parent(path)
        return writer

    def make_directory(self, path: StoragePath) -> Entry:
        self._require_ours(path)
        self._require_free(path)  # some servers make a directory again and call it created
        if self._configured is not None:
            self._require_parent(path)  # XRootD would make it
        try:
            self._session.demand("MKCOL", path, MADE, directory=True)
        except UNCLEAR:
            self._require_free(path)
            self._require_parent(path)
            raise
        return self.stat(path)

    def remove(self, path: StoragePath) -> None:
        require_below_root(path)
        resource = self._look(path)
        if resource.is_collection:
            self._require_empty(path)
        self._session.demand("DELETE", path, DELETED, directory=resource.is_collection)

    def rename(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> None:
        check_rename(source, target)
        self._require_ours(target)
        resource = self._look(source)
        if source == target:
            return
        present = self._session.find(target)
        if present is not None:
            self._require_replaceable(resource, target, present, overwrite=overwrite)
        elif self._configured is not None:  # nginx and XRootD make the directories that are missing
            self._require_parent(target)
        self._transfer("MOVE", source, target, resource, replace_present=present is not None)

    def copy(self, source: StoragePath, target: StoragePath, *, overwrite: bool) -> Entry:
        if not self.features.server_side_copy:
            raise Unsupported(f"{self._session.host} does not copy by itself")
        resource = self._look(source)
        if resource.is_collection:
            raise IsADirectory(f"/{source} is a directory")
        self._require_ours(target)
        present = self._session.find(target)
        if present is not None:
            if present.is_collection:
                raise IsADirectory(f"/{target} is a directory")
            self._require_replaceable(resource, target, present, overwrite=overwrite)
        elif self._configured is not None:
            self._require_parent(target)
        if self._aside is None:
            self._transfer("COPY", source, target, resource, replace_present=present is not None)
        else:
            self._copy_aside(self._aside, source, target, resource, replace_present=present is not None)
        made = self._look(target)
        if made.size != resource.size:
            raise Unavailable(f"{self._session.host}: COPY /{source}: {made.size} of {resource.size} bytes were copied")
        return entry_of(made, target.name)

    def _copy_aside(
        self, aside: Aside, source: StoragePath, target: StoragePath, resource: Resource, *, replace_present: bool
    ) -> None:
        place = aside.place_for(target)
        moving = False
        try:
            self._transfer("COPY", source, place, resource, replace_present=False)
            require_size(self._session, place, resource.size or 0)
            moving = replace_present
            aside.move(place, target, replace=replace_present)
        except StorageError as error:
            if not moving or aside.is_there(target):
                aside.drop(place)
            if isinstance(error, PreconditionFailed):
                raise AlreadyExists(f"/{target}: the name is taken") from error
            raise

    def space(self) -> Space:
        root = self._look(StoragePath())
        if root.available is None or root.used is None:
            raise Unsupported(f"{self._session.host} does not tell its free space")
        return Space(root.available, root.available + root.used)

    def close(self) -> None:
        if self._configured is not None:
            self._configured.release()

    def _look(self, path: StoragePath) -> Resource:
        self._require_visible(path)
        if not path.is_root:
            self._require_known()
            return self._session.look(path)
        resource = self._look_at_root()
        told = resource.available is not None and resource.used is not None
        if told is not self.features.quota:
            self.features = replace(self.features, quota=told)
        return resource

    def _look_at_root(self) -> Resource:
        """Look at the root, at that of a configured server for the first time also at what it can do."""
        if self._configured is None:
            return self._session.look(StoragePath())
        try:
            resource = self._session.look(StoragePath())
        except StorageError as error:
            raise self._configured.about_root(error) from error
        if not resource.is_collection:
            raise self._configured.no_collection(f"{self._session.host}: a file is there")
        if not self._is_known:
            answer = self._session.request("OPTIONS", StoragePath(), directory=True)
            answer.close()
            if answer.status not in MADE and isinstance(answer.refusal(), Unavailable):
                return resource  # it is asked again
            methods = {method.strip() for method in answer.headers.get("Allow", "").split(",")}
            self.features = replace(self.features, server_side_copy="COPY" in methods)
            self._session.is_literal = is_literal(answer.headers.get("Server", ""))
            self._is_known = True
        return resource

    def _require_known(self) -> None:
        """Look at what a configured server can do, and how it writes names, unless that is known."""
        if not self._is_known:
            self._look_at_root()

    def _require_visible(self, path: StoragePath) -> None:
        if self._aside is not None and is_hidden(path):
            raise NotFound(f"/{path}: nothing there")

    def _require_ours(self, path: StoragePath) -> None:
        """Refuse to make a name that could not be seen; raises PermissionDenied, InvalidPath."""
        self._require_known()
        if self._session.is_literal:
            require_literal(path)
        if self._aside is not None and is_hidden(path):
            raise PermissionDenied(f"/{path}: names like this one are for uploads that are on their way")

    def _children(self, path: StoragePath, listed: Iterator[Resource], what: str) -> Iterator[Entry]:
        first, base = self._first(path, listed, what)
        if first.parts == base and not first.is_collection:
            raise NotADirectory(f"/{path} is not a directory")
        return self._visible(path, _below(base, first, listed))

    def _visible(self, path: StoragePath, found: Iterator[tuple[bytes, Resource]]) -> Iterator[Entry]:
        """Yield what may be seen, and remove at the end what a crash has left."""
        stale: list[StoragePath] = []
        for name, resource in found:
            if self._aside is None or not temporaries.is_hidden(name):
                yield entry_of(resource, name)
            elif is_stale(resource) and len(stale) < SWEPT_MAX:
                stale.append(path.child(name))
        for left in stale:
            Aside(self._session).drop(left)

    def _first(self, path: StoragePath, listed: Iterator[Resource], what: str) -> tuple[Resource, tuple[bytes, ...]]:
        """Return the first resource of a listing, and the path by which the server knows the directory.

        That may be another than the one it was asked for, behind a proxy or when the credential names the root;
        then the directory itself comes first. Raises Unavailable.
        """
        wanted = self._session.components + path.parts
        first = next(listed, None)
        if first is None:
            raise Unavailable(f"{what}: the listing is empty")
        if first.parts == wanted or first.parts[:-1] == wanted:
            return first, wanted
        if not first.is_collection:
            raise Unavailable(f"{what}: the listing is of another path than the one asked for")
        return first, first.parts

    def _require_free(self, path: StoragePath) -> None:
        if self._session.find(path) is not None:
            raise AlreadyExists(f"/{path}: the name is taken")

    def _require_parent(self, path: StoragePath) -> None:
        """Say why nothing can be made at `path`, if its parent is the reason; raises NotFound, NotADirectory."""
        ancestor = path.parent
        present = self._session.find(ancestor)
        if present is not None and present.is_collection:
            return
        while present is None and not ancestor.is_root:
            ancestor = ancestor.parent
            present = self._session.find(ancestor)
        if present is not None and not present.is_collection:
            raise NotADirectory(f"/{ancestor} is not a directory")
        raise NotFound(f"/{path.parent}: nothing there")

    def _require_empty(self, path: StoragePath) -> None:
        """Names that no StoragePath can hold count as well: DELETE would take them along."""
        answer, listed = self._session.listing(path)
        try:
            first, base = self._first(path, listed, answer.what)
            if any(resource.parts != base for resource in chain((first,), listed)):
                raise DirectoryNotEmpty(f"/{path} is not empty")
        finally:
            answer.close()

    def _require_replaceable(
        self, resource: Resource, target: StoragePath, present: Resource, *, overwrite: bool
    ) -> None:
        if not overwrite:
            raise AlreadyExists(f"/{target}: the name is taken")
        check_kinds(target, from_directory=resource.is_collection, to_directory=present.is_collection)
        if present.is_collection:
            self._require_empty(target)

    def _transfer(
        self, method: str, source: StoragePath, target: StoragePath, resource: Resource, *, replace_present: bool
    ) -> None:
        """MOVE or COPY (RFC 4918 sections 9.8, 9.9); without `replace_present` a name taken meanwhile is refused."""
        directory = resource.is_collection
        headers = {
            "Destination": self._session.destination(target, directory=directory),
            "Overwrite": "T" if replace_present else "F",
        }
        try:
            self._session.demand(method, source, MOVED, headers, directory=directory)
        except PreconditionFailed as error:
            raise AlreadyExists(f"/{target}: the name is taken") from error
        except UNCLEAR:
            self._require_parent(target)
            raise


def _below(base: tuple[bytes, ...], first: Resource, listed: Iterator[Resource]) -> Iterator[tuple[bytes, Resource]]:
    """Yield the children of `base`; itself, other levels and names that no StoragePath can hold are left out."""
    for resource in chain((first,), listed):
        if len(resource.parts) == len(base) + 1 and resource.parts[:-1] == base:
            try:
                name = check_name(resource.parts[-1])
            except InvalidPath:
                continue
            yield name, resource
