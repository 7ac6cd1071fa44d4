"""Whatever is done in whatever order, the local backend answers as the reference does: content, listing and refusal."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from backends.errors import StorageError
from backends.interface import Kind, StorageBackend, Writer
from backends.linux import Abilities
from backends.local import LocalBackend
from backends.memory import MemoryBackend
from backends.paths import StoragePath

NAMES = st.sampled_from([b"a", b"b", b"\xff"])
PATHS = st.lists(NAMES, max_size=3).map(lambda parts: StoragePath(tuple(parts)))
CONTENTS = st.binary(max_size=5)


class Comparison(RuleBasedStateMachine):
    """Does everything to both and compares the outcomes; writers stay open across other operations."""

    abilities: Abilities
    writers = Bundle("writers")

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        (self.base / "root").mkdir()
        self.local = LocalBackend(self.base / "root", self.base / "journals", abilities=self.abilities)
        self.memory = MemoryBackend()
        self.open: list[Writer] = []

    def teardown(self) -> None:
        for writer in self.open:
            writer.abort()
        self.local.close()
        shutil.rmtree(self.base)

    def both(self, act: Callable[[StorageBackend], object]) -> None:
        assert _outcome(lambda: act(self.local)) == _outcome(lambda: act(self.memory))

    @rule(path=PATHS, content=CONTENTS, fresh=st.booleans())
    def write(self, path: StoragePath, content: bytes, fresh: bool) -> None:
        def act(backend: StorageBackend) -> object:
            with backend.open_write(path, if_none_match=fresh) as writer:
                writer.write(content)
                return _shown(writer.commit())

        self.both(act)

    @rule(target=writers, path=PATHS, content=CONTENTS, expectation=st.sampled_from(["none", "new", "same"]))
    def begin(self, path: StoragePath, content: bytes, expectation: str) -> tuple[Writer, Writer] | None:
        def act(backend: StorageBackend) -> Writer:
            if_match = backend.stat(path).etag if expectation == "same" else None
            writer = backend.open_write(path, if_match=if_match, if_none_match=expectation == "new")
            writer.write(content)
            return writer

        pair: list[Writer] = []
        self.both(lambda backend: pair.append(act(backend)))
        self.open += pair
        return (pair[0], pair[1]) if pair else None

    @rule(target=writers, path=PATHS)
    def begin_update(self, path: StoragePath) -> tuple[Writer, Writer] | None:
        pair: list[Writer] = []
        self.both(lambda backend: pair.append(backend.open_update(path)))
        self.open += pair
        return (pair[0], pair[1]) if pair else None

    @rule(pair=writers, offset=st.integers(0, 9), content=CONTENTS)
    def write_at(self, pair: tuple[Writer, Writer] | None, offset: int, content: bytes) -> None:
        self.to_both(pair, lambda writer: (writer.write_at(offset, content), writer.written, writer.read_at(0, 100)))

    @rule(pair=writers, size=st.integers(0, 9))
    def truncate(self, pair: tuple[Writer, Writer] | None, size: int) -> None:
        self.to_both(pair, lambda writer: (writer.truncate(size), writer.written))

    def to_both(self, pair: tuple[Writer, Writer] | None, act: Callable[[Writer], object]) -> None:
        if pair is not None:
            local, memory = pair
            assert _outcome(lambda: act(local)) == _outcome(lambda: act(memory))

    @rule(pair=writers)
    def commit(self, pair: tuple[Writer, Writer] | None) -> None:
        self.to_both(pair, lambda writer: _shown(writer.commit()))

    @rule(path=PATHS)
    def make_directory(self, path: StoragePath) -> None:
        self.both(lambda backend: _shown(backend.make_directory(path)))

    @rule(path=PATHS)
    def remove(self, path: StoragePath) -> None:
        if not self._holds_an_upload(path):
            self.both(lambda backend: backend.remove(path))

    @rule(old=PATHS, new=PATHS, overwrite=st.booleans())
    def rename(self, old: StoragePath, new: StoragePath, overwrite: bool) -> None:
        if not self._holds_an_upload(new):
            self.both(lambda backend: backend.rename(old, new, overwrite=overwrite))

    @rule(old=PATHS, new=PATHS, overwrite=st.booleans())
    def copy(self, old: StoragePath, new: StoragePath, overwrite: bool) -> None:
        self.both(lambda backend: _shown(backend.copy(old, new, overwrite=overwrite)))

    @rule(path=PATHS)
    def read(self, path: StoragePath) -> None:
        def act(backend: StorageBackend) -> object:
            with backend.open_read(path) as reader:
                return reader.read_at(0, 100), _shown(reader.entry)

        self.both(act)

    @rule(path=PATHS, modified=st.integers(0, 2**62))
    def set_modified(self, path: StoragePath, modified: int) -> None:
        self.both(lambda backend: backend.set_modified(path, modified).kind)

    @invariant()
    def both_show_the_same_tree(self) -> None:
        assert _tree(self.local, StoragePath()) == _tree(self.memory, StoragePath())

    def _holds_an_upload(self, path: StoragePath) -> bool:
        """Tell whether a temporary keeps this directory from being empty, which the reference knows nothing of."""
        if self.abilities.unnamed_files:
            return False
        directory = self.base / "root" / Path(*map(_text, path.parts))
        return directory.is_dir() and any(found.name.startswith(".ocm-gateway-") for found in directory.iterdir())


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _outcome(act: Callable[[], object]) -> object:
    try:
        return act()
    except (StorageError, ValueError) as error:  # ValueError: the Writer is closed
        return type(error)


def _shown(entry: object) -> tuple[object, ...]:
    return tuple(getattr(entry, name) for name in ("name", "kind", "size"))


def _tree(backend: StorageBackend, path: StoragePath) -> dict[bytes, object]:
    with backend.scan(path, batch=2) as scan:
        return {entry.name: _content(backend, path.child(entry.name), entry.kind) for entry in scan}


def _content(backend: StorageBackend, path: StoragePath, kind: Kind) -> object:
    if kind is Kind.DIRECTORY:
        return _tree(backend, path)
    with backend.open_read(path) as reader:
        return reader.read_at(0, 100)


@pytest.mark.parametrize("modern", [True, False], ids=["openat2", "walk"])
def test_the_local_backend_answers_as_the_reference(modern: bool) -> None:
    """25 random stories of up to 30 steps each; the same ones in every run."""
    machine = type("Machine", (Comparison,), {"abilities": Abilities(modern, modern, modern)})
    bounded = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=bounded)
