"""Configured WebDAV backends for tests, by the keys of their section."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.webdav import WebDAVBackend
from gateway.config import WebDAVConfig
from gateway.webdav_storage import open_webdav

from .conformance.actions import ROOT, path

Open = Callable[..., WebDAVBackend]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Open a backend by the keys of its section; files are given as what they hold."""
    with_backends: list[WebDAVBackend] = []

    def open_by(url: str, *, idle: float = 5.0, **keys: Any) -> WebDAVBackend:
        for key, value in keys.items():
            if isinstance(value, bytes):
                keys[key] = str(tmp_path / key)
                Path(keys[key]).write_bytes(value)
        section = WebDAVConfig.model_validate({"type": "webdav", "url": url, **keys}, context={"directory": tmp_path})
        with_backends.append(open_webdav("remote", section, idle=idle, work=2 * idle))
        return with_backends[-1]

    yield open_by
    for backend in with_backends:
        backend.close()


def fresh(opened: Open, url: str, **keys: Any) -> WebDAVBackend:
    """Make a directory on the server and return it as a backend whose features are known."""
    name = uuid.uuid4().hex
    opened(url, **keys).make_directory(path(name))
    backend = opened(f"{url}/{name}", **keys)
    assert backend.stat(ROOT).is_directory
    return backend
