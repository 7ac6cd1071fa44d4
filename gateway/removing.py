"""Removing trees, and what it takes to walk one: the failures on the way.

Trees are walked without recursion and with one open directory at a time, because a path may have two thousand
components. A name that another program removes meanwhile is no error; a full disk or a storage that does not answer
ends the walk; any other failure ends that branch only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from backends.errors import DirectoryNotEmpty, NotFound, OutOfSpace, StorageError, Unavailable
from backends.interface import Entry, Scan
from gateway.tree import Place

_HOPELESS = (OutOfSpace, Unavailable)  # the next file will fare no better


@dataclass(frozen=True, slots=True)
class Failure:
    """One file or directory that could not be worked on."""

    place: Place
    error: StorageError


class Incomplete(Exception):
    """Part of a tree could not be worked on; everything else was."""

    def __init__(self, failures: list[Failure]) -> None:
        super().__init__(f"{len(failures)} failed, the first: {failures[0].error}")
        self.failures = tuple(failures)


def remove_tree(place: Place) -> None:
    """Remove the file or directory with everything in it; a link is removed, not what it leads to.

    Also one that takes the place of a directory while this runs: nothing is removed through it.
    Raises what the storage says of `place` itself, and Incomplete when only something below it could not be removed.
    """
    failures: list[Failure] = []
    top = max(0, len(place.path.parts) - 1)
    pending = [(place, False)]  # directories, and whether they have been emptied
    while pending:
        here, emptied = pending.pop()
        try:
            # Tried before looking inside: it may be empty, or a link to a directory.
            here.backend.remove(here.path)
        except DirectoryNotEmpty as error:
            if not emptied:
                pending.append((here, True))
                inside = replace(here, path=here.path.walked_from(top))
                pending.extend((child, False) for child in _remove_files(inside, failures))
            elif not any(failure.place.path.is_within(here.path) for failure in failures):
                failures.append(Failure(here, error))  # another program has put something into it
        except NotFound:
            if here is place and not emptied:
                raise
        except StorageError as error:
            record(failures, here, error)
    raise_for(failures, place)


def _remove_files(directory: Place, failures: list[Failure]) -> list[Place]:
    """Remove the files in `directory` and return its directories."""
    directories = []
    try:
        for entry, child in children(directory, directory.backend.scan(directory.path)):
            if entry.is_directory:
                directories.append(child)
                continue
            try:
                child.backend.remove(child.path)
            except NotFound:
                continue
            except StorageError as error:
                record(failures, child, error)
    except StorageError as error:
        record(failures, directory, error)
    return directories


def children(directory: Place, scan: Scan) -> Iterator[tuple[Entry, Place]]:
    """Yield what `scan`, of `directory`, finds, each with its place; the scan is closed afterwards."""
    with scan:
        for entry in scan:
            yield entry, directory.below((entry.name,))


def record(failures: list[Failure], place: Place, error: StorageError) -> None:
    """Note a failure and go on; raises it where going on is hopeless."""
    if isinstance(error, _HOPELESS):
        raise error
    failures.append(Failure(place, error))


def raise_for(failures: list[Failure], place: Place) -> None:
    """Raise what has failed in the tree at `place`: the error itself if that is all of it, else Incomplete."""
    if [failure.place.path for failure in failures] == [place.path]:
        raise failures[0].error
    if failures:
        raise Incomplete(failures)
