"""What a fake shares: a file, or a folder with files in it, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator


class Resource:
    """A tree by path: bytes are files, None is a folder, and "" is the Resource itself."""

    def __init__(self, nodes: dict[str, bytes | None]) -> None:
        self.nodes = nodes
        self._changes = 0

    @classmethod
    def file(cls, content: bytes) -> Resource:
        return cls({"": content})

    @classmethod
    def folder(cls, **files: bytes) -> Resource:
        """Make a folder; `_` in the names of its files stands for a dot."""
        return cls({"": None, **{name.replace("_", "."): content for name, content in files.items()}})

    @property
    def is_file(self) -> bool:
        return self.nodes[""] is not None

    def etag(self, path: str) -> str:
        """Return an ETag that changes with the content, that of a folder with anything below it."""
        content = self.nodes[path]
        seen = f"{path}-{self._changes}".encode() if content is None else content
        return f'"{hashlib.sha256(seen).hexdigest()[:32]}"'

    def children(self, path: str) -> Iterator[str]:
        prefix = f"{path}/" if path else ""
        for name in sorted(self.nodes):
            if name and name.startswith(prefix) and "/" not in name[len(prefix) :] and name != path:
                yield name

    def has_parent(self, path: str) -> bool:
        parent = path.rpartition("/")[0]
        return parent in self.nodes and self.nodes[parent] is None

    def put(self, path: str, content: bytes | None) -> None:
        self._changes += 1
        self.nodes[path] = content

    def remove(self, path: str) -> None:
        self._changes += 1
        for name in [name for name in self.nodes if name == path or name.startswith(f"{path}/")]:
            del self.nodes[name]

    def move(self, source: str, target: str) -> None:
        self._changes += 1
        for name in [name for name in self.nodes if name == source or name.startswith(f"{source}/")]:
            self.nodes[target + name[len(source) :]] = self.nodes.pop(name)
