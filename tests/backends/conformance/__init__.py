"""What every backend must do, whatever it stands on: subclass BackendConformance and give it a `backend` fixture."""

from .features import FeatureConformance
from .names import NameConformance
from .random_writing import InOrderConformance, RandomWritingConformance
from .reading import ReadingConformance
from .resuming import ResumingConformance, UnresumableConformance
from .threads import ThreadConformance
from .writing import PreconditionConformance, WritingConformance


class BackendConformance(
    ReadingConformance,
    WritingConformance,
    PreconditionConformance,
    UnresumableConformance,
    InOrderConformance,
    NameConformance,
    FeatureConformance,
    ThreadConformance,
):
    """The whole contract. `expected` are the features that the backend is known to have: none is lost unnoticed.

    One that is resumable adds ResumingConformance, one with random_write RandomWritingConformance.
    """


__all__ = ["BackendConformance", "RandomWritingConformance", "ResumingConformance"]
