"""Links that stay beneath the root: followed by openat2, invisible to the component walk."""

from __future__ import annotations

import os

import pytest

from backends.errors import (
    AlreadyExists,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unsupported,
)
from backends.local import LocalBackend

from ..conformance.actions import get, make, names, path, put
from .place import Place


class LinkTests:
    @pytest.fixture
    def linked(self, place: Place, backend: LocalBackend) -> LocalBackend:
        """Two links in `folder`: to a file beside it, and to a directory with a file in it."""
        make(backend, "folder", "real", "real/inner")
        put(backend, "real/file", b"content")
        (place.root / "folder" / "to-file").symlink_to("../real/file")
        (place.root / "folder" / "to-directory").symlink_to("../real")
        return backend

    def test_a_link_shows_what_it_leads_to(self, linked: LocalBackend) -> None:
        if not self.follows:
            assert names(linked, "folder") == []
            return
        with linked.scan(path("folder")) as scan:
            entries = {entry.name: entry for entry in scan}
        for name, target in ((b"to-file", "real/file"), (b"to-directory", "real")):
            shown, real = linked.stat(path(b"folder/" + name)), linked.stat(path(target))
            assert entries[name] == shown
            assert (shown.name, shown.kind, shown.etag, shown.identity) == (name, real.kind, real.etag, real.identity)

    def test_a_link_is_read_through(self, linked: LocalBackend) -> None:
        if not self.follows:
            for ask in (linked.open_read, linked.stat):
                with pytest.raises(NotFound):
                    ask(path("folder/to-directory/file"))
            with pytest.raises(NotFound):
                linked.scan(path("folder/to-directory"))
            return
        assert get(linked, "folder/to-file") == b"content"
        assert get(linked, "folder/to-directory/file") == b"content"
        assert names(linked, "folder/to-directory") == [b"file", b"inner"]

    def test_below_a_linked_directory_writes_arrive(self, linked: LocalBackend) -> None:
        if not self.follows:
            with pytest.raises(NotFound):
                put(linked, "folder/to-directory/new", b"new")
            return
        put(linked, "folder/to-directory/new", b"new")
        assert get(linked, "real/new") == b"new"

    def test_a_write_onto_a_link_puts_a_file_in_its_place(self, place: Place, linked: LocalBackend) -> None:
        if not self.follows:
            with pytest.raises(PermissionDenied):
                put(linked, "folder/to-file", b"new")
            return
        entry = put(linked, "folder/to-file", b"new", if_match=linked.stat(path("folder/to-file")).etag)
        assert not (place.root / "folder" / "to-file").is_symlink()
        assert entry == linked.stat(path("folder/to-file"))
        assert (get(linked, "folder/to-file"), get(linked, "real/file")) == (b"new", b"content")

    def test_a_link_counts_as_the_content_it_shows(self, linked: LocalBackend) -> None:
        if not self.follows:
            return
        old = linked.stat(path("folder/to-file")).etag
        put(linked, "real/file", b"changed behind the link")
        with pytest.raises(PreconditionFailed):
            linked.open_write(path("folder/to-file"), if_match=old)
        with pytest.raises(PreconditionFailed):
            linked.open_write(path("folder/to-file"), if_none_match=True)
        with pytest.raises(IsADirectory):
            linked.open_write(path("folder/to-directory"))
        with pytest.raises(AlreadyExists):
            linked.make_directory(path("folder/to-directory"))

    def test_removing_a_link_leaves_what_it_led_to(self, linked: LocalBackend) -> None:
        """Also a link to a directory that is not empty."""
        for name in ("folder/to-file", "folder/to-directory"):
            if self.follows:
                linked.remove(path(name))
                continue
            with pytest.raises(NotFound):
                linked.remove(path(name))
        assert names(linked, "real") == [b"file", b"inner"]
        assert names(linked, "folder") == []

    def test_a_link_is_renamed_only_where_it_leads_to_the_same(self, place: Place, linked: LocalBackend) -> None:
        if not self.follows:
            return
        for name in ("to-file", "to-directory"):
            linked.rename(path(f"folder/{name}"), path(f"folder/new-{name}"), overwrite=False)
            assert (place.root / "folder" / f"new-{name}").is_symlink()
            with pytest.raises(Unsupported):
                linked.rename(path(f"folder/new-{name}"), path(name), overwrite=False)
        assert get(linked, "folder/new-to-file") == b"content"

    def test_renaming_onto_a_link_keeps_the_rules_for_what_it_shows(self, linked: LocalBackend) -> None:
        if not self.follows:
            return
        put(linked, "file", b"file")
        make(linked, "empty")
        for source, target, error in (
            ("file", "folder/to-directory", IsADirectory),
            ("empty", "folder/to-file", NotADirectory),
            ("empty", "folder/to-directory", NotADirectory),
        ):
            with pytest.raises(error):
                linked.rename(path(source), path(target), overwrite=True)
        linked.rename(path("file"), path("folder/to-file"), overwrite=True)
        assert (get(linked, "folder/to-file"), get(linked, "real/file")) == (b"file", b"content")

    def test_a_renaming_onto_another_hard_link_leaves_one_name(self, place: Place, backend: LocalBackend) -> None:
        """rename(2) does nothing between two names of one file, and a MOVE would leave both."""
        put(backend, "one", b"content")
        os.link(place.root / "one", place.root / "other")
        backend.rename(path("one"), path("other"), overwrite=True)
        assert names(backend) == [b"other"]
        assert get(backend, "other") == b"content"

    def test_a_write_to_one_hard_link_leaves_the_other(self, place: Place, backend: LocalBackend) -> None:
        put(backend, "one", b"content")
        os.link(place.root / "one", place.root / "other")
        put(backend, "one", b"new")
        assert (get(backend, "one"), get(backend, "other")) == (b"new", b"content")

    @property
    def follows(self) -> bool:
        return self.abilities.openat2
