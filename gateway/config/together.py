"""What several keys say together.

These checks look at the document itself, so they speak also where another key keeps the model from being built.
What is wrong in one key alone is reported there, and passed over here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from gateway.config.mistakes import Mistake, shown
from gateway.config.model import FederationConfig
from gateway.config.values import DEFAULT_PORTS, public_url


@dataclass(frozen=True, slots=True)
class Document:
    """What the file holds, unchecked, and the directory that its paths are relative to."""

    content: Mapping[str, Any]
    directory: Path

    def mounts(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield what looks like mounts, with their numbers."""
        mounts = self.content.get("mounts")
        for index, mount in enumerate(mounts if isinstance(mounts, list) else []):
            if isinstance(mount, Mapping):
                yield index, mount

    def at(self, *steps: str | int) -> object:
        """Return what stands at a place; None when nothing does."""
        found: object = self.content
        for step in steps:
            found = found.get(step) if isinstance(found, Mapping) else None
        return found

    def section(self, key: str) -> Mapping[str, Any]:
        """Return the mapping under `key`, empty when there is none."""
        section = self.content.get(key)
        return section if isinstance(section, Mapping) else {}


def _mounts_name_backends(document: Document) -> Iterator[Mistake]:
    known = document.section("backends")
    allowed = f"a name under backends: {', '.join(map(str, known)) or 'there is none'}"
    for index, mount in document.mounts():
        backend = mount.get("backend")
        if isinstance(backend, str) and backend not in known:
            yield Mistake(f"mounts[{index}].backend", shown(backend), allowed)


def _mounts_name_groups(document: Document) -> Iterator[Mistake]:
    known = document.section("groups")
    allowed = f"a name under groups: {', '.join(map(str, known)) or 'there is none'}"
    for index, mount in document.mounts():
        groups = mount.get("groups")
        for position, group in enumerate(groups if isinstance(groups, list) else []):
            if isinstance(group, str) and group not in known:
                yield Mistake(f"mounts[{index}].groups[{position}]", shown(group), allowed)


def _mount_names_differ(document: Document) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for index, mount in document.mounts():
        name = mount.get("name")
        if isinstance(name, str) and first.setdefault(name.casefold(), index) != index:
            allowed = f"a name that differs from that of mounts[{first[name.casefold()]}] in more than capitals"
            yield Mistake(f"mounts[{index}].name", shown(name), allowed)


def _plain_http_is_meant(document: Document) -> Iterator[Mistake]:
    try:
        url = urlsplit(public_url(document.content.get("public_url")))
        context = {"directory": document.directory}
        federation = FederationConfig.model_validate(document.section("federation"), context=context)
    except (PydanticCustomError, ValidationError):
        return
    host = url.hostname or ""
    if url.scheme == "http" and not federation.http_allowed(host):
        allowed = f"https; plain http, for tests and closed labs, if federation.allow_http lists {host}"
        yield Mistake("public_url", shown(document.content["public_url"]), allowed)


def _state_is_not_shared(document: Document) -> Iterator[Mistake]:
    """A state directory inside a backend would put keys and password hashes into the users' trees."""
    state = document.content.get("state_dir")
    for name, backend in document.section("backends").items():
        is_here = isinstance(backend, Mapping) and backend.get("type") == "local"
        root = backend.get("root") if is_here else None
        if isinstance(state, str) and isinstance(root, str) and _inside(document.directory, state, root):
            yield Mistake("state_dir", shown(state), f"a directory outside backends.{name}.root: it holds the keys")


def _memory_is_of_one_process(document: Document) -> Iterator[Mistake]:
    workers = document.section("listen").get("workers", 1)
    for name, backend in document.section("backends").items():
        if (
            isinstance(backend, Mapping)
            and backend.get("type") == "memory"
            and isinstance(workers, int)
            and workers > 1
        ):
            allowed = f"1 beside backends.{name}: memory is each process's own, so several would show different files"
            yield Mistake("listen.workers", shown(workers), allowed)


def _inside(directory: Path, inner: str, outer: str) -> bool:
    try:
        return (directory / inner).resolve().is_relative_to((directory / outer).resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a NUL
        return False


def _upstream_is_another_server(document: Document) -> Iterator[Mistake]:
    url = document.section("upstream").get("url")
    allowed = "the address of the server behind; this one is the gateway's own, so requests would go round for ever"
    try:
        parts = urlsplit(public_url(url))
    except PydanticCustomError:
        return
    address = f"{parts.hostname}:{parts.port or DEFAULT_PORTS[parts.scheme]}".replace("localhost", "127.0.0.1")
    listening = str(document.section("listen").get("http", "127.0.0.1:8080")).replace("localhost", "127.0.0.1")
    if address == listening or url == document.content.get("public_url"):
        yield Mistake("upstream.url", shown(url), allowed)


def _directories_differ(document: Document) -> Iterator[Mistake]:
    directories = document.section("federation").get("directories")
    known: dict[object, int] = {}
    for index, directory in enumerate(directories if isinstance(directories, list) else []):
        for key in ("url", "name"):
            value = directory.get(key) if isinstance(directory, Mapping) else None
            if isinstance(value, str) and known.setdefault(value, index) != index:
                allowed = f"one that federation.directories[{known[value]}] has not: commands name directories by it"
                yield Mistake(f"federation.directories[{index}].{key}", shown(value), allowed)


CHECKS: tuple[Callable[[Document], Iterator[Mistake]], ...] = (
    _mounts_name_backends,
    _mounts_name_groups,
    _mount_names_differ,
    _plain_http_is_meant,
    _state_is_not_shared,
    _upstream_is_another_server,
    _memory_is_of_one_process,
    _directories_differ,
)
