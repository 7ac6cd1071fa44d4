"""From the file to the model: YAML, defaults, and all mistakes together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from gateway.config.mistakes import ConfigError, Loc, Mistake, dotted, from_pydantic, shown
from gateway.config.model import Config
from gateway.config.together import CHECKS, Document
from gateway.config.values import resolve


def load(path: Path, *, absent_roots: bool = False) -> Config:
    """Read and check the configuration; relative paths in it are relative to its own directory.

    With `absent_roots` the directories of backends are not looked at: they may be on a NAS that is away or hangs.
    Raises ConfigError with every mistake in it.
    """
    document, mistakes = _read(path)
    config = None
    context = {"directory": document.directory, "absent_roots": absent_roots}
    try:
        config = Config.model_validate(_with_defaults(document), context=context)
    except ValidationError as error:
        mistakes += [from_pydantic(details) for details in error.errors(include_url=False)]
    for check in CHECKS:
        mistakes += check(document)
    if mistakes or config is None:
        raise ConfigError(mistakes)
    return config


def admin_socket(path: Path) -> Path:
    """Return the admin socket that the file names, whatever else in it is wrong or unreadable to this user.

    Raises ConfigError.
    """
    document, _ = _read(path)
    if not isinstance(document.content.get("state_dir"), str):
        raise ConfigError([Mistake("state_dir", shown(document.content.get("state_dir")), "a path")])
    listen = _with_defaults(document)["listen"]
    admin = listen.get("admin") if isinstance(listen, Mapping) else None
    if not isinstance(admin, str):
        raise ConfigError([Mistake("listen.admin", shown(admin), "a path")])
    return resolve(admin, document.directory)


def _with_defaults(document: Document) -> dict[str, Any]:
    """Fill in what depends on `state_dir`; a key without a value counts as left out."""
    given = {key: value for key, value in document.content.items() if value is not None}
    state_dir = given.get("state_dir")
    state = resolve(state_dir if isinstance(state_dir, str) else "", document.directory)
    given.setdefault("database", f"sqlite:///{state}/state.sqlite")
    listen = given.setdefault("listen", {})
    if isinstance(listen, Mapping):
        given["listen"] = {"admin": f"{state}/admin.sock", **listen}
    return given


def _read(path: Path) -> tuple[Document, list[Mistake]]:
    """Return the document and its duplicate keys; raises ConfigError when there is no document to speak of."""
    try:
        loader = yaml.SafeLoader(path.read_bytes())
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except OSError as error:
        raise ConfigError([Mistake("", os.strerror(error.errno or 0).lower(), "a file that can be read")]) from None
    except yaml.MarkedYAMLError as error:
        # The text around it is not shown: a secret may stand there by mistake.
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError([Mistake("", f"{where}{error.problem or error.context}", "valid YAML")]) from None
    except (yaml.YAMLError, ValueError):  # ValueError: a date that is none, or bytes that are no text
        raise ConfigError([Mistake("", "what YAML cannot read", "valid YAML in UTF-8")]) from None
    if node is None or not isinstance(content, dict):
        raise ConfigError([Mistake("", shown(content), "a mapping with the keys of config.example.yaml")])
    named = {str(key): value for key, value in content.items()}
    return Document(named, path.absolute().parent), list(_duplicates(node, (), set()))


def _duplicates(node: yaml.Node, loc: Loc, seen: set[int]) -> Iterator[Mistake]:
    """Yield the keys that stand twice in one mapping; YAML itself lets the last one win."""
    if id(node) in seen:  # an alias, perhaps to what it stands in
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, (*loc, index), seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                yield Mistake(dotted((*loc, name)), f"the key twice, in lines {lines[name]} and {line}", "one of them")
            lines[name] = line
            yield from _duplicates(value, (*loc, name), seen)
