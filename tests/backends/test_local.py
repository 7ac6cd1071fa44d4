"""The local backend with all that the kernel can do: openat2, unnamed files, renames onto free names only."""

from __future__ import annotations

from backends.linux import Abilities

from .conformance import BackendConformance, RandomWritingConformance, ResumingConformance
from .local_contract import LocalConformance


class TestLocal(BackendConformance, ResumingConformance, RandomWritingConformance, LocalConformance):
    abilities = Abilities(openat2=True, unnamed_files=True, rename_noreplace=True)
