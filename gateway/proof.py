"""Proof of the peer is a value: `Peer(server, evidence)`, made by the verifying code and asked for by the use cases.

Most products sign nothing, so the result is not yes or no. Each use case names the weakest evidence it accepts,
and takes a Peer, not a host name: forgetting to verify is then a type error (wire.md, "What counts as proof").
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from gateway.errors import Unproven


class Evidence(IntEnum):
    """How a peer was proved; the greater, the stronger."""

    NONE = 0  # the host is only claimed
    CALLBACK = 1  # the claimed host has answered with the secret that came in the message
    SECRET = 2  # providerId and sharedSecret of a stored Share both match
    CAVAGE = 3  # a signature of draft-cavage by the RSA key in the host's discovery
    LABELLED = 4  # a signature of the drafts up to 06: label `ocm`, no tag
    RFC9421 = 5  # a signature with tag "ocm" by a key that the host publishes

    @classmethod
    def of(cls, word: str | None) -> Evidence:
        """Return the evidence that `word` means; NONE for no word."""
        return cls[word.upper()] if word else cls.NONE

    @property
    def word(self) -> str:
        """Return the name that the state and the command line show."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Peer:
    """A server and how it was proved to be the one that speaks."""

    server: str  # host[:port]
    evidence: Evidence

    def require(self, weakest: Evidence) -> None:
        """Return if the evidence is at least `weakest`; raises Unproven."""
        if self.evidence < weakest:
            raise Unproven(
                "SIGNATURE_REQUIRED",
                f"{self.server} is proved by {self.evidence.word} only; {weakest.word} is needed here",
            )

    def with_secret(self) -> Peer:
        """Return the peer after it has named the id and the secret of a stored Share."""
        return replace(self, evidence=max(self.evidence, Evidence.SECRET))
