"""A root with something outside of it that must never be touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.interface import Features
from backends.linux import Abilities
from backends.local import LocalBackend

SECRET = b"not for anybody on the other side"


@dataclass(frozen=True)
class Place:
    """Three directories: the root, its neighbour, and that of the journals."""

    base: Path
    abilities: Abilities

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def outside(self) -> Path:
        return self.base / "outside"

    @property
    def journals(self) -> Path:
        return self.base / "journals"

    def open(self, **settings: Any) -> LocalBackend:
        """Open a backend as another process would: nothing is shared but the disk."""
        return LocalBackend(self.root, self.journals, abilities=self.abilities, **settings)

    def everything(self) -> list[str]:
        """List every name below the root as the disk has it, temporaries too."""
        return sorted(str(found.relative_to(self.root)) for found in self.root.rglob("*"))

    def outside_is_untouched(self) -> bool:
        names = sorted(str(found.relative_to(self.outside)) for found in self.outside.rglob("*"))
        return names == ["folder", "folder/secret", "secret"] and all(
            (self.outside / name).read_bytes() == SECRET and (self.outside / name).stat().st_mtime_ns == 1_000_000_000
            for name in ("secret", "folder/secret")
        )


class PlaceFixtures:
    """The fixtures of the contract for a local tree; `abilities` says which of the kernel's are used."""

    abilities: Abilities
    expected = Features(
        atomic_replace=True,
        server_side_copy=True,
        random_write=True,
        set_modified=True,
        quota=True,
        identity=True,
        foreign_changes=True,
        resumable=True,
        modified_precision=1,
    )

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        place = Place(tmp_path, self.abilities)
        for directory in (place.root, place.outside, place.journals, place.outside / "folder"):
            directory.mkdir()
        for secret in (place.outside / "secret", place.outside / "folder" / "secret"):
            secret.write_bytes(SECRET)
            os.utime(secret, ns=(1_000_000_000, 1_000_000_000))
        return place

    @pytest.fixture
    def backend(self, place: Place) -> Iterator[LocalBackend]:
        """A backend that leaves neither a temporary nor a journal behind, whatever the test did."""
        backend = place.open()
        yield backend
        backend.close()
        assert not [name for name in place.everything() if _is_debris(name)]
        assert list(place.journals.iterdir()) == []


def _is_debris(name: str) -> bool:
    tail = name.rsplit("/", 1)[-1].removeprefix(".ocm-gateway-")
    return len(tail) == 32 and set(tail) <= set("0123456789abcdef")
