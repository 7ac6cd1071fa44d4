"""make_directory, remove, rename, and names that other programs have thought of."""

from __future__ import annotations

import pytest

from backends.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidPath,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    StorageError,
)
from backends.interface import StorageBackend
from backends.paths import StoragePath

from .actions import ROOT, get, make, names, path, put

HOSTILE_NAMES = [
    b"\xff\xfe not utf-8 \x80",
    b"n" * 255,
    b"new\nline",
    b"carriage\rreturn",
    b"tab\tbell\x07escape\x1b[31m",
    b"'single' \"double\" `back`",
    b"%2e%2e",
    b"%2F",
    b"..%2f..",
    b"...",
    b" leading and trailing ",
    b"trailing dot.",
    b"-rf",
    b"~",
    b"a\\b",
    b"*?[x]{y}",
    b"$(touch pwned)",
    b"<script>&amp;<",
    b"CON",
    b"name:stream",
    b".hidden",
    "\u202egnp.exe".encode(),
    "\U0001f600".encode(),
    "\ufffe".encode(),
]


class DirectoryConformance:
    def test_a_made_directory_is_there(self, backend: StorageBackend) -> None:
        entry = backend.make_directory(path("folder"))
        assert entry.is_directory
        assert entry == backend.stat(path("folder"))

    @pytest.mark.parametrize(
        ("where", "error"),
        [
            ("folder", AlreadyExists),
            ("file", AlreadyExists),
            ("", AlreadyExists),
            ("missing/folder", NotFound),
            ("file/folder", NotADirectory),
        ],
    )
    def test_a_directory_cannot_be_made_there(
        self, backend: StorageBackend, where: str, error: type[StorageError]
    ) -> None:
        make(backend, "folder")
        put(backend, "file", b"old")
        with pytest.raises(error):
            backend.make_directory(path(where))
        assert get(backend, "file") == b"old"

    def test_files_and_empty_directories_are_removed(self, backend: StorageBackend) -> None:
        make(backend, "folder")
        put(backend, "file")
        for name in ("folder", "file"):
            backend.remove(path(name))
            with pytest.raises(NotFound):
                backend.stat(path(name))
        assert names(backend) == []

    @pytest.mark.parametrize(
        ("where", "error"),
        [
            ("missing", NotFound),
            ("missing/below", NotFound),
            ("full/file/below", NotFound),
            ("full", DirectoryNotEmpty),
            ("", PermissionDenied),
        ],
    )
    def test_a_removal_is_refused(self, backend: StorageBackend, where: str, error: type[StorageError]) -> None:
        make(backend, "full")
        put(backend, "full/file", b"x")
        with pytest.raises(error):
            backend.remove(path(where))
        assert get(backend, "full/file") == b"x"


class NameConformance(DirectoryConformance):
    def test_a_file_is_renamed(self, backend: StorageBackend) -> None:
        make(backend, "folder")
        put(backend, "old", b"content")
        backend.rename(path("old"), path("folder/new"), overwrite=False)
        assert (names(backend), names(backend, "folder")) == ([b"folder"], [b"new"])
        assert get(backend, "folder/new") == b"content"

    def test_a_directory_is_renamed_with_what_is_in_it(self, backend: StorageBackend) -> None:
        make(backend, "old", "old/inner", "other")
        put(backend, "old/inner/file", b"content")
        backend.rename(path("old"), path("other/new"), overwrite=False)
        assert names(backend) == [b"other"]
        assert get(backend, "other/new/inner/file") == b"content"

    @pytest.mark.parametrize("kind", ["file", "folder"])
    @pytest.mark.parametrize("there", ["taken file", "taken folder"])
    def test_a_taken_name_is_kept_without_overwrite(self, backend: StorageBackend, kind: str, there: str) -> None:
        _two_of_each(backend)
        with pytest.raises(AlreadyExists):
            backend.rename(path(kind), path(there), overwrite=False)
        assert names(backend) == [b"file", b"folder", b"taken file", b"taken folder"]
        assert get(backend, "taken file") == b"taken"

    def test_a_file_replaces_a_file(self, backend: StorageBackend) -> None:
        _two_of_each(backend)
        backend.rename(path("file"), path("taken file"), overwrite=True)
        assert names(backend) == [b"folder", b"taken file", b"taken folder"]
        assert get(backend, "taken file") == b"file"

    def test_a_directory_replaces_an_empty_one(self, backend: StorageBackend) -> None:
        _two_of_each(backend)
        put(backend, "folder/inside", b"x")
        backend.rename(path("folder"), path("taken folder"), overwrite=True)
        assert names(backend) == [b"file", b"taken file", b"taken folder"]
        assert get(backend, "taken folder/inside") == b"x"

    @pytest.mark.parametrize(
        ("source", "target", "error"),
        [
            ("file", "taken folder", IsADirectory),
            ("folder", "taken file", NotADirectory),
            ("folder", "full folder", DirectoryNotEmpty),
            ("missing", "new", NotFound),
            ("missing", "file", NotFound),
            ("missing", "missing", NotFound),
            ("missing/below", "new", NotFound),
            ("file/below", "new", NotFound),
            ("file", "missing/new", NotFound),
            ("missing", "file/new", NotFound),
            ("file", "taken file/new", NotADirectory),
            ("folder", "taken file/new", NotADirectory),
            ("folder", "folder/inner", InvalidPath),
            ("folder", "folder/missing/inner", InvalidPath),
            ("", "new", PermissionDenied),
            ("file", "", PermissionDenied),
            ("folder", "", PermissionDenied),
        ],
    )
    def test_a_renaming_is_refused(
        self, backend: StorageBackend, source: str, target: str, error: type[StorageError]
    ) -> None:
        _two_of_each(backend)
        make(backend, "full folder")
        put(backend, "full folder/inside", b"x")
        before = names(backend)
        with pytest.raises(error):
            backend.rename(path(source), path(target), overwrite=True)
        assert names(backend) == before
        assert (get(backend, "file"), get(backend, "taken file")) == (b"file", b"taken")
        assert get(backend, "full folder/inside") == b"x"

    def test_a_directory_with_content_does_not_move_into_itself(self, backend: StorageBackend) -> None:
        make(backend, "folder", "folder/inner")
        for overwrite in (False, True):
            with pytest.raises(InvalidPath):
                backend.rename(path("folder"), path("folder/inner/again"), overwrite=overwrite)
        assert names(backend, "folder/inner") == []

    def test_a_directory_does_not_replace_one_it_is_in(self, backend: StorageBackend) -> None:
        make(backend, "folder", "folder/inner")
        with pytest.raises(DirectoryNotEmpty):
            backend.rename(path("folder/inner"), path("folder"), overwrite=True)
        assert names(backend, "folder") == [b"inner"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_renaming_onto_itself_changes_nothing(self, backend: StorageBackend, overwrite: bool) -> None:
        _two_of_each(backend)
        for name in ("file", "folder"):
            before = backend.stat(path(name))
            backend.rename(path(name), path(name), overwrite=overwrite)
            assert backend.stat(path(name)) == before
        assert get(backend, "file") == b"file"

    def test_a_new_name_is_not_mistaken_for_a_path_inside(self, backend: StorageBackend) -> None:
        """`folder2` is beside `folder`, not in it: paths are compared by whole components."""
        make(backend, "folder")
        backend.rename(path("folder"), path("folder2"), overwrite=False)
        assert names(backend) == [b"folder2"]

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_name_is_a_name_like_any_other(self, backend: StorageBackend, name: bytes) -> None:
        folder = StoragePath((name,))
        file = folder.child(name)
        backend.make_directory(folder)
        with backend.open_write(file) as writer:
            writer.write(name)
            entry = writer.commit()
        assert (entry.name, backend.stat(file).name, names(backend), names(backend, name)) == (
            name,
            name,
            [name],
            [name],
        )
        with backend.open_read(file) as reader:
            assert reader.read_at(0, 1000) == name
        backend.rename(file, path("plain"), overwrite=False)
        backend.rename(path("plain"), file, overwrite=False)
        backend.remove(file)
        backend.remove(folder)
        assert names(backend) == []

    def test_composed_and_decomposed_letters_are_two_names(self, backend: StorageBackend) -> None:
        """Unicode NFC and NFD look alike and are different bytes: nothing normalises."""
        composed, decomposed = "\u00e9".encode(), "e\u0301".encode()
        put(backend, composed, b"NFC")
        put(backend, decomposed, b"NFD")
        assert names(backend) == sorted([composed, decomposed])
        assert (get(backend, composed), get(backend, decomposed)) == (b"NFC", b"NFD")

    def test_upper_and_lower_case_are_two_names(self, backend: StorageBackend) -> None:
        if not backend.features.case_sensitive:
            pytest.skip("feature: case_sensitive")
        put(backend, "Name", b"upper")
        put(backend, "name", b"lower")
        assert (get(backend, "Name"), get(backend, "name")) == (b"upper", b"lower")

    def test_a_deep_tree_works_as_a_shallow_one(self, backend: StorageBackend) -> None:
        """60 levels of 50 bytes: 3,000 bytes of path."""
        here = ROOT
        for _ in range(60):
            here = here.child(b"fifty-bytes".ljust(50, b"-"))
            backend.make_directory(here)
        with backend.open_write(here.child(b"file")) as writer:
            writer.write(b"deep")
            writer.commit()
        assert get(backend, bytes(here.child(b"file"))) == b"deep"
        assert names(backend, bytes(here)) == [b"file"]


def _two_of_each(backend: StorageBackend) -> None:
    make(backend, "folder", "taken folder")
    put(backend, "file", b"file")
    put(backend, "taken file", b"taken")
