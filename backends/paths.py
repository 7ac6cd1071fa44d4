"""StoragePath: a path that was checked once, when it was parsed, and cannot be made unsafe afterwards.

Names are bytes, as POSIX has them, so a name that is not UTF-8 survives the way through. There is no
normalisation: `..` is refused, never resolved, because a normaliser and the kernel may disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote_from_bytes

from backends.errors import InvalidPath

NAME_MAX = 255  # bytes; linux/limits.h, and what NFS, SMB and S3 gateways agree on
PATH_MAX = 4096  # bytes; linux/limits.h


def check_name(name: bytes) -> bytes:
    """Return `name` if it can be one component of a path; raises InvalidPath."""
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise InvalidPath(f"not a file name: {name!r}")
    if len(name) > NAME_MAX:
        raise InvalidPath(f"a file name of {len(name)} bytes; at most {NAME_MAX} fit")
    # Some storage behind us takes `\` as a separator: then `..\x`, `\x` and `x\..` would climb.
    if b"\\" in name and any(piece in (b"", b".", b"..") for piece in name.split(b"\\")):
        raise InvalidPath(f"not a file name: {name!r}")
    return name


def _check_length(parts: tuple[bytes, ...]) -> None:
    if sum(map(len, parts)) + len(parts) > PATH_MAX:
        raise InvalidPath(f"a path of more than {PATH_MAX} bytes")


@dataclass(frozen=True, slots=True, order=True)
class StoragePath:
    """A relative path as a tuple of checked names; the empty tuple is the root.

    `bounds` are lengths of prefixes that confine the rest: where storage has links, none of them may lead out of
    `parts[:bound]`, though it stays in the storage's own root. A mount is one, a Share in it is another. They are no
    part of what the path names: two paths that differ in them alone are equal.

    `walked`, as (first, last), is another such thing: whoever walks a tree has come through the directories
    `parts[first:last]`, and one of them that has become a link since does not exist. A name below them is changed in
    the directory that was meant; what that name shows, if it is a link, may lie anywhere within the bounds.
    """

    parts: tuple[bytes, ...] = ()
    bounds: tuple[int, ...] = field(default=(), compare=False, repr=False)
    walked: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in self.parts:
            check_name(name)
        _check_length(self.parts)

    @classmethod
    def parse(cls, raw: bytes | str) -> StoragePath:
        """Parse `a/b/c`, already percent-decoded; slashes at either end and doubled ones mean nothing.

        In a str, undecodable bytes are surrogates as os.fsdecode makes them. Raises InvalidPath for `.` and `..`
        components, NUL, names that are too long, and a str that stands for no bytes at all.
        """
        try:
            data = raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw
        except UnicodeEncodeError as error:  # a lone surrogate, which JSON can carry
            raise InvalidPath("not a path: it holds a lone surrogate") from error
        return cls(tuple(part for part in data.split(b"/") if part))

    @classmethod
    def _of_checked(cls, parts: tuple[bytes, ...], bounds: tuple[int, ...], walked: tuple[int, int]) -> StoragePath:
        """Return a path of names that have been checked already, which need not be looked at again."""
        path = object.__new__(cls)
        object.__setattr__(path, "parts", parts)
        object.__setattr__(path, "bounds", bounds)
        object.__setattr__(path, "walked", walked)
        _check_length(parts)
        return path

    def child(self, name: bytes) -> StoragePath:
        """Return the path of `name` in this directory; raises InvalidPath."""
        return self._of_checked((*self.parts, check_name(name)), self.bounds, self.walked)

    def join(self, parts: Iterable[bytes]) -> StoragePath:
        """Return this path followed by `parts`; raises InvalidPath."""
        return StoragePath((*self.parts, *parts), self.bounds, self.walked)

    def followed_by(self, other: StoragePath, begin: int = 0) -> StoragePath:
        """Return this path followed by `other` from its component `begin` on; raises InvalidPath where that is long."""
        return self._of_checked((*self.parts, *other.parts[begin:]), self.bounds, self.walked)

    @property
    def is_root(self) -> bool:
        return not self.parts

    @property
    def name(self) -> bytes:
        """Return the last component, empty for the root."""
        return self.parts[-1] if self.parts else b""

    @property
    def parent(self) -> StoragePath:
        """Return the directory that holds this path; the root is its own parent."""
        bounds = tuple(bound for bound in self.bounds if bound < len(self.parts))
        return self._of_checked(self.parts[:-1], bounds, self.walked)

    def bounded(self) -> StoragePath:
        """Return this path as one that nothing below it leads out of."""
        bounds = (*(bound for bound in self.bounds if bound < len(self.parts)), len(self.parts))
        return StoragePath(self.parts, bounds, self.walked)

    def walked_from(self, first: int) -> StoragePath:
        """Return this path of a directory as one that is no link, and neither is any before it from `first` on."""
        return StoragePath(self.parts, self.bounds, (first, len(self.parts)))

    def steps(self) -> Iterator[tuple[bytes, bool]]:
        """Return the path in pieces `a/b`, each with whether links may be followed in it.

        Each must be resolved beneath the one before it: they are cut at its bounds.
        """
        first, last = self.walked
        ends: Iterable[int] = (*self.bounds, len(self.parts))
        walked = first < len(self.parts) <= last
        begin = 0
        for end in sorted((*ends, first)) if walked else ends:
            if end > begin:
                yield b"/".join(self.parts[begin:end]), not (walked and begin >= first)
                begin = end

    def is_within(self, other: StoragePath) -> bool:
        """Tell whether this is `other` or lies below it, by whole components."""
        return self.parts[: len(other.parts)] == other.parts

    def relative_to(self, other: StoragePath) -> tuple[bytes, ...]:
        """Return the components below `other`; raises ValueError when this is not within it."""
        if not self.is_within(other):
            raise ValueError(f"{self} is not within {other}")
        return self.parts[len(other.parts) :]

    def __bytes__(self) -> bytes:
        return b"/".join(self.parts)

    def __str__(self) -> str:
        """Return a form for people and logs: UTF-8 as it is, every other byte and control as %XX."""
        return "/".join(printable(part) for part in self.parts)


def printable(name: bytes) -> str:
    """Return `name` for people: UTF-8 text as it is, undecodable bytes, controls and `%` as %XX."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join(
        char if char.isprintable() and char != "%" else quote_from_bytes(char.encode("utf-8", "surrogateescape"), "")
        for char in text
    )
