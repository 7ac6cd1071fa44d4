"""Renaming, which S3 cannot: everything is copied, and then what was copied is removed.

A crash before the first removal leaves the source whole and perhaps copies, one after it leaves the target whole and
perhaps a rest of the source. While a directory is renamed, both names can be seen. What other programs change there
meanwhile is left where it is.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial

from backends.errors import StorageError, Unavailable
from backends.paths import StoragePath
from backends.s3.bucket import Found
from backends.s3.copying import copy_object, is_copied_in_parts
from backends.s3.tree import MARKERS
from backends.s3.writing import Store

TOGETHER = 16  # objects at a time


def rename_file(store: Store, source: str, found: Found, target: str, path: StoragePath) -> None:
    """Rename the object `found`; `path` is the target's. Raises Unavailable where it is another by now."""
    copy_object(store, source, found, target, path)
    if store.bucket.find(source) != found:
        raise _changed(store, source)
    store.bucket.delete(source)


def rename_directory(store: Store, source: str, target: str, path: StoragePath) -> None:
    """Rename all keys that begin with `source`, which then begin with `target`, the directory at `path` if it is there.

    When a copy fails the copies are removed, and an empty directory that they were to replace stays. Raises
    Unavailable where something has changed meanwhile.
    """
    was_there = store.tree.is_directory(path)
    recent: dict[str, Found] = {}  # what was copied within the second of its own time

    def copied(key: str, found: Found) -> None:
        made = copy_object(store, key, found, target + key[len(source) :], path)
        if made.modified <= found.modified:
            recent[key] = found

    def dropped(key: str, _: Found) -> None:
        name = key[len(source) :]
        if not was_there or name not in MARKERS:
            store.bucket.delete(target + name)

    try:
        _each(store, store.bucket.walk(source), copied)
    except BaseException:
        with contextlib.suppress(StorageError):
            _each(store, store.bucket.walk(source), dropped)
            if was_there:
                store.tree.keep(path)
        raise
    changed: list[str] = []

    def removed(key: str, found: Found) -> None:
        if recent.get(key) == found or _is_older(store, found, target + key[len(source) :]):
            store.bucket.delete(key)
        else:
            changed.append(key)

    _each(store, store.bucket.walk(source), removed)
    if changed:
        raise _changed(store, changed[0])


def _is_older(store: Store, found: Found, target: str) -> bool:
    """Tell whether a copy is there that was made in a later second than the source's present content."""
    made = store.bucket.find(target)
    return made is not None and made.size == found.size and made.modified > found.modified


def _each(store: Store, objects: Iterable[tuple[str, Found]], act: Callable[[str, Found], None]) -> None:
    """Do something with each object, several at a time; raises what the first failure was, when all have ended.

    What is copied in parts needs threads itself: in one of them it would wait for others that do the same.
    """
    under_way: deque[Future[None]] = deque()
    try:
        for key, found in objects:
            if is_copied_in_parts(found):
                act(key, found)
                continue
            if len(under_way) >= TOGETHER:
                under_way.popleft().result()
            under_way.append(store.threads.submit(partial(act, key, found)))
        while under_way:
            under_way.popleft().result()
    finally:
        for future in under_way:
            future.exception()


def _changed(store: Store, key: str) -> Unavailable:
    return Unavailable(f"{store.bucket.location}: /{key} changed while it was renamed, so it was not removed")
