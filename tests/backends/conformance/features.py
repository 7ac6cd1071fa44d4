"""What a backend declares beyond the mandatory part: it works, or it is refused as Unsupported."""

from __future__ import annotations

import os

import pytest

from backends.errors import AlreadyExists, IsADirectory, NotADirectory, NotFound, StorageError, Unsupported
from backends.interface import MODIFIED_MAX, MODIFIED_MIN, Features, StorageBackend

from .actions import get, make, names, path, put

CONTENT = os.urandom(3 * 1024 * 1024 + 1)
SECOND = 1_000_000_000  # nanoseconds


class FeatureConformance:
    expected: Features

    def test_the_features_are_those_it_is_known_for(self, backend: StorageBackend) -> None:
        """A feature that is dropped would otherwise only make tests skip."""
        assert backend.features == self.expected

    def test_an_identity_survives_a_renaming(self, backend: StorageBackend) -> None:
        if not backend.features.identity:
            assert put(backend, "file").identity is None
            return
        make(backend, "folder", "other")
        put(backend, "file")
        for old, new in (("file", "other/file"), ("folder", "other/folder")):
            before = backend.stat(path(old)).identity
            assert before is not None
            backend.rename(path(old), path(new), overwrite=False)
            assert backend.stat(path(new)).identity == before

    def test_two_files_have_two_identities(self, backend: StorageBackend) -> None:
        one, other = put(backend, "one").identity, put(backend, "other").identity
        assert (one is None and not backend.features.identity) or one != other

    def test_a_copy_has_the_same_content(self, backend: StorageBackend) -> None:
        put(backend, "source", CONTENT)
        if not backend.features.server_side_copy:
            with pytest.raises(Unsupported):
                backend.copy(path("source"), path("target"), overwrite=False)
            return
        entry = backend.copy(path("source"), path("target"), overwrite=False)
        assert entry == backend.stat(path("target"))
        assert (get(backend, "source"), get(backend, "target")) == (CONTENT, CONTENT)
        put(backend, "source", b"changed")
        assert get(backend, "target") == CONTENT

    def test_a_copy_replaces_only_when_told(self, backend: StorageBackend) -> None:
        put(backend, "source", b"source")
        put(backend, "target", b"target")
        if not backend.features.server_side_copy:
            return
        with pytest.raises(AlreadyExists):
            backend.copy(path("source"), path("target"), overwrite=False)
        assert get(backend, "target") == b"target"
        backend.copy(path("source"), path("target"), overwrite=True)
        assert get(backend, "target") == b"source"

    def test_an_empty_file_is_copied(self, backend: StorageBackend) -> None:
        put(backend, "source")
        if backend.features.server_side_copy:
            backend.copy(path("source"), path("target"), overwrite=False)
            assert get(backend, "target") == b""

    @pytest.mark.parametrize(
        ("source", "target", "error"),
        [
            ("missing", "new", NotFound),
            ("file/below", "new", NotFound),
            ("folder", "new", IsADirectory),
            ("file", "folder", IsADirectory),
            ("file", "", IsADirectory),
            ("file", "missing/new", NotFound),
            ("file", "file/new", NotADirectory),
        ],
    )
    def test_a_copy_is_refused(
        self, backend: StorageBackend, source: str, target: str, error: type[StorageError]
    ) -> None:
        make(backend, "folder")
        put(backend, "file", b"x")
        expected = error if backend.features.server_side_copy else Unsupported
        for overwrite in (False, True):
            with pytest.raises(expected):
                backend.copy(path(source), path(target), overwrite=overwrite)
        assert names(backend) == [b"file", b"folder"]

    @pytest.mark.parametrize("modified", [0, 1_700_000_000 * SECOND, 981_173_106_123_456_789, -5 * SECOND])
    def test_a_time_that_is_set_is_shown(self, backend: StorageBackend, modified: int) -> None:
        make(backend, "folder")
        put(backend, "file", b"x")
        for name in ("file", "folder"):
            if not backend.features.set_modified:
                with pytest.raises(Unsupported):
                    backend.set_modified(path(name), modified)
                continue
            entry = backend.set_modified(path(name), modified)
            assert entry == backend.stat(path(name))
            assert abs(entry.modified - modified) < backend.features.modified_precision
        assert get(backend, "file") == b"x"

    def test_a_content_that_hides_behind_an_old_time_has_another_etag(self, backend: StorageBackend) -> None:
        """What rsync -t and cp -p do: the same size, the same time, another content."""
        if not backend.features.set_modified:
            return
        etags = set()
        for content in (b"one", b"two"):
            put(backend, "file", content)
            etags.add(backend.set_modified(path("file"), 1_700_000_000 * SECOND).etag)
        assert len(etags) == 2

    @pytest.mark.parametrize("modified", [MODIFIED_MIN - 1, MODIFIED_MAX + 1, 1 << 80, -(1 << 80)])
    def test_a_time_that_no_date_can_express_is_refused(self, backend: StorageBackend, modified: int) -> None:
        put(backend, "file", b"x")
        before = backend.stat(path("file"))
        with pytest.raises(Unsupported):
            backend.set_modified(path("file"), modified)
        assert backend.stat(path("file")) == before

    def test_a_time_cannot_be_set_on_nothing(self, backend: StorageBackend) -> None:
        put(backend, "file")
        for missing in ("missing", "file/below"):
            with pytest.raises(NotFound if backend.features.set_modified else Unsupported):
                backend.set_modified(path(missing), 0)

    def test_space_is_told_or_refused(self, backend: StorageBackend) -> None:
        if not backend.features.quota:
            with pytest.raises(Unsupported):
                backend.space()
            return
        space = backend.space()
        assert 0 <= space.free <= space.total
        assert space.total > 0
