"""The local backend with none of the newer kernel's abilities: component walk, named temporaries, link and unlink."""

from __future__ import annotations

from backends.linux import Abilities

from .conformance import BackendConformance, RandomWritingConformance, ResumingConformance
from .local_contract import LocalConformance


class TestLocalWalk(BackendConformance, ResumingConformance, RandomWritingConformance, LocalConformance):
    abilities = Abilities(openat2=False, unnamed_files=False, rename_noreplace=False)
