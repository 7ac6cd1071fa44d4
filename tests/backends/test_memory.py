"""The reference backend keeps the contract."""

from __future__ import annotations

import pytest

from backends.interface import Features
from backends.memory import MemoryBackend

from .conformance import BackendConformance, RandomWritingConformance, ResumingConformance


class TestMemory(BackendConformance, ResumingConformance, RandomWritingConformance):
    expected = Features(
        atomic_replace=True,
        server_side_copy=True,
        random_write=True,
        set_modified=True,
        identity=True,
        conditional_write=True,
        resumable=True,
        modified_precision=1,
    )

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()
