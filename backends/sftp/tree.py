"""What of a remote tree is visible: nothing that links show outside of the root, or of the bounds of a path.

SFTP opens by name alone, so confinement is a question (REALPATH) and then an act on the name without links that was
the answer. Whoever may rename directories on the server itself can come in between; through the gateway nobody can,
since it makes no links. The server's REALPATH has to resolve links, as OpenSSH's does.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass

from backends import temporaries
from backends.errors import IsADirectory, NotADirectory, NotFound, PermissionDenied, StorageError, Unavailable
from backends.interface import Entry
from backends.paths import StoragePath, printable
from backends.sftp.answers import Answer
from backends.sftp.session import Request, Session
from backends.sftp.versions import entry_of
from backends.sftp_packets import Attributes, Type, string


@dataclass(frozen=True, slots=True)
class Found:
    """A visible file or directory; `place` is its name on the server, absolute and without links."""

    entry: Entry
    place: bytes
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Taken:
    """What holds a name: `entry` is what it shows, None if that must not be seen; `attributes` not through a link."""

    entry: Entry | None
    attributes: Attributes

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.attributes.mode or 0)


def below(directory: bytes, name: bytes) -> bytes:
    return directory.rstrip(b"/") + b"/" + name


def is_beneath(place: bytes, top: bytes) -> bool:
    """Tell whether `place` is `top` or lies below it, by whole components."""
    return place == top or place.startswith(below(top, b""))


class Tree:
    """The tree below `root`, a path on the server; one that is relative begins where the account logs in."""

    def __init__(self, root: bytes, hidden: bytes = temporaries.PREFIX) -> None:
        """Names that begin with `hidden` are those of temporaries, and do not exist for anybody else."""
        self.root = root
        self.hidden = hidden

    def look(self, session: Session, path: StoragePath) -> Found:
        """Return what is at `path`; raises NotFound, Unavailable where the root itself is not there."""
        (found,) = self.looks(session, [path])
        if isinstance(found, StorageError):
            if isinstance(found, NotFound):
                self.require_root(session)
            raise found
        return found

    def looks(self, session: Session, paths: Sequence[StoragePath]) -> list[Found | StorageError]:
        """Return what is at each path, or why nothing is; all is asked at once. Raises Lost."""
        questions = [self._question(path) for path in paths]
        answers = iter(session.together(_words(paths), [one for question in questions for one in question]))
        found: list[Found | StorageError] = []
        for path, question in zip(paths, questions, strict=True):
            mine = [next(answers) for _ in question]
            try:
                found.append(self._judge(path, mine))
            except StorageError as error:
                found.append(error)
        return found

    def require_root(self, session: Session) -> None:
        """Raise Unavailable where the root is no directory."""
        (answer,) = session.together("the root", [(Type.STAT, string(self.root))])
        missing = isinstance(answer, StorageError)
        if isinstance(answer, StorageError) or not stat.S_ISDIR(answer.attributes().mode or 0):
            state = "does not exist, or may not be reached" if missing else "is not a directory"
            raise Unavailable(f"{session.name}: the root {printable(self.root)} {state}")

    def parent(self, session: Session, path: StoragePath) -> bytes:
        """Return the place of the directory that holds the name of `path`, for a change in it.

        Raises NotFound, NotADirectory where that is a file or lies below one, PermissionDenied for a name of ours.
        """
        if temporaries.is_hidden(path.name, self.hidden):
            raise PermissionDenied(f"/{path}: names that begin with {self.hidden.decode()} are reserved")
        try:
            found = self.look(session, path.parent)
        except NotFound:
            self._require_no_file_above(session, path.parent)
            raise
        if not found.entry.is_directory:
            raise NotADirectory(f"/{path.parent} is not a directory")
        return found.place

    def parent_of_existing(self, session: Session, path: StoragePath) -> bytes:
        """Return the place of the directory that holds the name of `path`; raises NotFound where that cannot exist."""
        if temporaries.hides(path, self.hidden):
            raise _nothing(path)
        found = self.look(session, path.parent)
        if not found.entry.is_directory:
            raise _nothing(path)
        return found.place

    def taken(self, session: Session, path: StoragePath, directory: bytes) -> Taken | None:
        """Return what has the name of `path` in the directory at the place `directory`, None where nothing has."""
        try:
            attributes = session.ask(f"/{path}", Type.LSTAT, string(below(directory, path.name))).attributes()
        except NotFound:
            return None
        return self.judge_taken(session, path, attributes)

    def judge_taken(self, session: Session, path: StoragePath, attributes: Attributes) -> Taken:
        """Return what has the name of `path`, of which LSTAT has said `attributes`."""
        try:
            if stat.S_ISLNK(attributes.mode or 0):
                return Taken(self.look(session, path).entry, attributes)
            return Taken(entry_of(path.name, attributes), attributes)
        except (NotFound, PermissionDenied):
            return Taken(None, attributes)

    def visible(self, session: Session, path: StoragePath, directory: bytes) -> tuple[Entry, Taken]:
        """Return what can be seen under the name of `path` in that directory; raises NotFound."""
        taken = self.taken(session, path, directory)
        if taken is None or taken.entry is None:
            raise _nothing(path)
        return taken.entry, taken

    def on_server(self, path: StoragePath) -> bytes:
        """Return the name of `path` as the server is asked for it; links in it are not resolved."""
        return below(self.root, bytes(path)) if path.parts else self.root

    def _question(self, path: StoragePath) -> list[Request]:
        """Ask for the root without links, for each piece beneath it, and for what is there."""
        names, here = [self.root], b""
        for piece, _ in path.steps():
            here = here + b"/" + piece if here else piece
            names.append(below(self.root, here))
        return [*((Type.REALPATH, string(name)) for name in names), (Type.STAT, string(self.on_server(path)))]

    def _judge(self, path: StoragePath, answers: list[Answer | StorageError]) -> Found:
        if temporaries.hides(path, self.hidden):
            raise _nothing(path)
        fields = []
        for answer in answers:
            if isinstance(answer, StorageError):
                raise answer
            fields.append(answer)
        *resolved, status = fields
        top, *places = [_place(one) for one in resolved]
        for place, (piece, follow) in zip(places, path.steps(), strict=True):
            if not is_beneath(place, top) or not (follow or place == below(top, piece)):
                raise _nothing(path)
            top = place
        attributes = status.attributes()
        return Found(entry_of(path.name, attributes), top, attributes)

    def _require_no_file_above(self, session: Session, path: StoragePath) -> None:
        while not path.is_root:
            path = path.parent
            (found,) = self.looks(session, [path])
            if isinstance(found, Found):
                if not found.entry.is_directory:
                    raise NotADirectory(f"/{path} is not a directory")
                return


def require_file(found: Found, path: StoragePath) -> None:
    if found.entry.is_directory:
        raise IsADirectory(f"/{path} is a directory")


def _place(answer: Answer) -> bytes:
    answer.u32()  # how many: it is one
    return answer.string()


def _nothing(path: StoragePath) -> NotFound:
    return NotFound(f"/{path}: nothing there")


def _words(paths: Sequence[StoragePath]) -> str:
    return f"/{paths[0]}" if len(paths) == 1 else f"/{paths[0].parent}"
