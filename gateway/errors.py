"""What the use cases refuse, in one small tree; each edge translates it once, and no code of HTTP or SFTP stands here.

    Refusal
        Invalid         the request makes no sense as it is
        Unproven        who asks could not be proved as far as this needs
        NotAllowed      who asks is known, and may not
        NoSuch          the thing named does not exist, or not for who asks
        Conflict        it exists already and differs, or its state forbids the step
        Locked          somebody holds a lock that does not go together with this
        NotBuilt        part of the protocol that this gateway does not do
        PeerFailed      another server could not be reached or gave a wrong answer
        Busy            too much at once; try again later
        TooMany         who asks does so too often
        Full            who asks has used up what one may have of something

`code` is stable and machine-readable; the sentence says what happened, why, and what to do.
"""

from __future__ import annotations


class Refusal(Exception):
    """Never raised itself; its subclasses say what happened."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Invalid(Refusal):
    """The request makes no sense as it is; `field` names the part, in the words of who sent it."""

    def __init__(self, code: str, sentence: str, field: str | None = None) -> None:
        super().__init__(code, sentence)
        self.field = field


class Unproven(Refusal):
    """Who asks could not be proved as far as this needs."""


class NotAllowed(Refusal):
    """Who asks is known, and may not do this."""


class NoSuch(Refusal):
    """The thing named does not exist, or not for who asks."""


class Conflict(Refusal):
    """It exists already and differs, or its state forbids the step."""


class Locked(Refusal):
    """Somebody holds a lock that does not go together with this; `roots` are the paths that are locked."""

    def __init__(self, code: str, sentence: str, roots: tuple[bytes, ...] = ()) -> None:
        super().__init__(code, sentence)
        self.roots = roots


class NotBuilt(Refusal):
    """Part of the protocol that this gateway does not do."""


class PeerFailed(Refusal):
    """Another server could not be reached or gave a wrong answer; `status` is its HTTP status, if it gave one.

    `retry_after`, in seconds, is given where it is known to be silent, and not asked before that time has passed.
    """

    def __init__(self, code: str, sentence: str, status: int | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(code, sentence)
        self.status = status
        self.retry_after = retry_after

    @property
    def is_final(self) -> bool:
        """Tell whether the peer has understood and said no, so that asking again changes nothing."""
        later = self.status in (408, 425, 429)
        return self.status is not None and (400 <= self.status < 500 or self.status == 501) and not later


class Busy(Refusal):
    """Too much at once, or storage that does not answer; `retry_after` is in seconds."""

    def __init__(self, code: str, sentence: str, retry_after: int = 30) -> None:
        super().__init__(code, sentence)
        self.retry_after = retry_after


class TooMany(Refusal):
    """Who asks does so too often; `retry_after` is in seconds."""

    def __init__(self, code: str, sentence: str, retry_after: int = 1) -> None:
        super().__init__(code, sentence)
        self.retry_after = retry_after


class Full(Refusal):
    """Who asks has used up what one may have of something."""
