"""What a tree has to look like after a WebDAV request, and what may be there when nobody has answered it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from .trees import DIRECTORIES, FILES, Operation, Tree, is_directory, moved, parent, without


def chosen(choices: random.Random) -> Operation:
    """Return one request: method, path and destination."""
    a, b = choices.sample(DIRECTORIES + FILES, 2)
    requests = (
        ("PUT", choices.choice(FILES)),
        ("PUT", choices.choice(FILES)),
        ("MKCOL", choices.choice(DIRECTORIES)),
        ("COPY", a, b),
        ("COPY", *choices.sample(DIRECTORIES, 2)),
        ("MOVE", a, b),
        ("MOVE", *choices.sample(DIRECTORIES, 2)),
        ("DELETE", a),
    )
    return choices.choice(requests)


def after(tree: Tree, operation: Operation) -> Tree | None:
    """Return the tree that follows on a request, None where it has to be refused."""
    method, *arguments = operation
    return _EFFECTS[method](tree, *arguments)


def may_be(found: Tree, tree: Tree, operation: Operation | None) -> bool:
    """Tell whether `found` may be there when `operation`, begun on `tree`, has got no answer.

    RFC 4918 §9.6.1 and §9.8.3 do not make DELETE of a folder, and COPY of one to a free name, one step: there each
    name is as it was or as it was to be. Everything else is one step, also in the place of a folder.
    """
    if found == tree or operation is None:
        return found == tree
    then = after(tree, operation)
    if then is None or found == then:
        return then is not None
    in_parts = operation[0] == "DELETE" or (operation[0] == "COPY" and operation[2] not in tree)
    return in_parts and _is_between(found, tree, then)


def _is_between(found: Tree, tree: Tree, then: Tree) -> bool:
    both = {name for name in tree.keys() & then.keys() if tree[name] == then[name]}
    return both <= found.keys() and all(
        found[name] in [each[name] for each in (tree, then) if name in each]
        and is_directory(found, parent(name))
        and (name in tree or name in then)
        for name in found
    )


def _put(tree: Tree, path: str, digest: str) -> Tree | None:
    if is_directory(tree, path) or not is_directory(tree, parent(path)):
        return None
    return {**tree, path: digest}


def _make(tree: Tree, path: str) -> Tree | None:
    return None if path in tree or not is_directory(tree, parent(path)) else {**tree, path: None}


def _delete(tree: Tree, path: str) -> Tree | None:
    return without(tree, path) if path in tree else None


def _copy(tree: Tree, source: str, target: str) -> Tree | None:
    nested = target.startswith(f"{source}/") or source.startswith(f"{target}/")
    if source not in tree or nested or not is_directory(tree, parent(target)):
        return None
    return {**without(tree, target), **moved(tree, source, target)}


def _move(tree: Tree, source: str, target: str) -> Tree | None:
    copied = _copy(tree, source, target)
    return None if copied is None else without(copied, source)


_EFFECTS: Mapping[str, Callable[..., Tree | None]] = {
    "PUT": _put,
    "MKCOL": _make,
    "DELETE": _delete,
    "COPY": _copy,
    "MOVE": _move,
}
