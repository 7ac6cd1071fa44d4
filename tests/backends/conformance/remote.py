"""What holds instead where the storage is another's, and one request comes after the other."""

from __future__ import annotations

import threading

import pytest

from backends.errors import Unavailable
from backends.interface import StorageBackend

from .actions import get, names, path, put


class OneRequestAfterTheOther:
    """Comes before BackendConformance: nothing joins a look and an act, or a description and a content."""

    def test_a_reader_keeps_its_content_when_the_name_changes_hands(self, backend: StorageBackend) -> None:
        """It cannot: but it never shows one content under the description of another, nor a mixture."""
        put(backend, "file", b"old")
        with backend.open_read(path("file")) as unread, backend.open_read(path("file")) as reader:
            assert reader.read_at(0, 1) == b"o"
            put(backend, "file", b"new content")
            with pytest.raises(Unavailable, match="changed"):
                unread.read_at(0, 100)
            with pytest.raises(Unavailable, match="changed"):
                reader.read_at(0, 3)

    def test_threads_do_not_disturb_each_other(self, backend: StorageBackend) -> None:
        """Each thread on names of its own; on the same names, a change between look and act shows as an error."""
        surprises: list[Exception] = []

        def work(name: str) -> None:
            try:
                backend.make_directory(path(name))
                for turn in range(10):
                    content = f"{name}-{turn}".encode() * 1000
                    put(backend, f"{name}/file", content)
                    assert get(backend, f"{name}/file") == content
                    backend.rename(path(f"{name}/file"), path(f"{name}/{turn}"), overwrite=False)
                    assert len(names(backend, name)) == turn + 1
            except Exception as error:
                surprises.append(error)

        threads = [threading.Thread(target=work, args=(f"thread-{number}",)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert surprises == []
        assert len(names(backend)) == 6
