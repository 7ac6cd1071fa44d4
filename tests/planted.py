"""Small trees on a disk: made from what they shall hold, and read back."""

from __future__ import annotations

from pathlib import Path

Shown = dict[str, bytes | None]  # path -> content, None for a folder


def named(name: str, what: Shown) -> Shown:
    return {f"{name}{path}": content for path, content in what.items()}


def plant(root: Path, name: str, what: Shown) -> Shown:
    """Make `what` under this name below `root`, and return how `disk` shows it."""
    for path, content in named(name, what).items():
        if content is None:
            (root / path).mkdir(parents=True)
        else:
            (root / path).write_bytes(content)
    return named(name, what)


def disk(root: Path) -> Shown:
    """Return everything on the disk, whatever its name."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}
