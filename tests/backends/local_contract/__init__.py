"""What the local backend promises beyond the contract; the same with and without what newer kernels can do."""

from .confinement import ConfinementTests
from .contents import ContentTests
from .crashes import CrashTests
from .leftovers import LeftoverTests
from .links import LinkTests
from .moved import MovedParentTests
from .parked import ParkedTests
from .place import Place, PlaceFixtures
from .races import RaceTests
from .replaced import ReplacedFileTests
from .roots import RootTests
from .updates import UpdateTests


class LocalConformance(
    PlaceFixtures,
    ConfinementTests,
    LinkTests,
    RaceTests,
    RootTests,
    ContentTests,
    MovedParentTests,
    ReplacedFileTests,
    UpdateTests,
    LeftoverTests,
    ParkedTests,
    CrashTests,
):
    """Everything that is particular to a tree of this machine."""


__all__ = ["LocalConformance", "Place"]
