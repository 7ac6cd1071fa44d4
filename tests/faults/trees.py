"""What a tree has to look like after an operation of the storage contract, as far as names and content go.

A tree is a mapping of paths to digests, with None for a directory; an operation is a tuple of words.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from backends.interface import StorageBackend
from backends.paths import StoragePath

from . import content

Tree = Mapping[str, str | None]
Operation = tuple[str, ...]

DIRECTORIES = ("d", "e", "d/s")
FILES = ("f", "g", "d/f", "d/g", "e/f", "d/s/f")
_EVERYWHERE = DIRECTORIES + FILES


def chosen(choices: random.Random) -> Operation:
    """Return one operation, without the digest of what it writes; many make no sense where they are tried."""
    a, b = choices.sample(_EVERYWHERE, 2)
    overwrite = choices.choice(("overwrite", "keep"))
    file = choices.choice(FILES)
    operations = (
        ("put", file),
        ("put", file),
        ("put_new", file),
        ("put_over", file),
        ("rename", a, b, overwrite),
        ("rename", *choices.sample(FILES, 2), "overwrite"),
        ("copy", *choices.sample(FILES, 2), overwrite),
        ("remove", file),
        ("remove", a),
        ("make", choices.choice(DIRECTORIES)),
    )
    return choices.choice(operations)


def after(tree: Tree, operation: Operation) -> Tree | None:
    """Return the tree that follows on `operation`, None where it has to be refused."""
    name, *arguments = operation
    return _EFFECTS[name](tree, *arguments)


def seen(backend: StorageBackend, directory: StoragePath | None = None) -> Tree:
    """Return what the storage shows; fails for content that is not whole."""
    directory = directory or StoragePath()
    found: dict[str, str | None] = {}
    with backend.scan(directory) as scan:
        for entry in scan:
            path = directory.child(entry.name)
            if entry.is_directory:
                found[str(path)] = None
                found |= seen(backend, path)
            else:
                with backend.open_read(path) as reader:
                    found[str(path)] = content.digest(reader.read_at(0, reader.entry.size))
    return found


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def below(tree: Tree, path: str) -> list[str]:
    return [name for name in tree if name.startswith(f"{path}/")]


def moved(tree: Tree, source: str, target: str) -> Tree:
    """Return what is at and below `source`, as it is called at `target`."""
    return {target + name[len(source) :]: tree[name] for name in (source, *below(tree, source))}


def without(tree: Tree, path: str) -> Tree:
    gone = {path, *below(tree, path)}
    return {name: digest for name, digest in tree.items() if name not in gone}


def is_directory(tree: Tree, path: str) -> bool:
    return path == "" or (path in tree and tree[path] is None)


def _put(tree: Tree, path: str, digest: str) -> Tree | None:
    if is_directory(tree, path) or not is_directory(tree, parent(path)):
        return None
    return {**tree, path: digest}


def _put_new(tree: Tree, path: str, digest: str) -> Tree | None:
    return None if path in tree else _put(tree, path, digest)


def _put_over(tree: Tree, path: str, digest: str) -> Tree | None:
    return _put(tree, path, digest) if path in tree else None


def _make(tree: Tree, path: str) -> Tree | None:
    if path in tree or not is_directory(tree, parent(path)):
        return None
    return {**tree, path: None}


def _remove(tree: Tree, path: str) -> Tree | None:
    return None if path not in tree or below(tree, path) else without(tree, path)


def _rename(tree: Tree, source: str, target: str, overwrite: str) -> Tree | None:
    if source not in tree or target.startswith(f"{source}/") or not is_directory(tree, parent(target)):
        return None
    if target in tree:
        kinds_differ = is_directory(tree, source) != is_directory(tree, target)
        if overwrite == "keep" or kinds_differ or below(tree, target):
            return None
    return {**without(tree, source), **moved(tree, source, target)}


def _copy(tree: Tree, source: str, target: str, overwrite: str) -> Tree | None:
    if tree.get(source) is None or is_directory(tree, target) or not is_directory(tree, parent(target)):
        return None
    if target in tree and overwrite == "keep":
        return None
    return {**tree, target: tree[source]}


_EFFECTS: Mapping[str, Callable[..., Tree | None]] = {
    "put": _put,
    "put_new": _put_new,
    "put_over": _put_over,
    "make": _make,
    "remove": _remove,
    "rename": _rename,
    "copy": _copy,
}
