"""Whose Shares are taken at all, and which are accepted without asking their user: the operator's and the user's word.

What is demanded of senders is advertised: a peer should know before it sends (draft-07, Decision to Discard).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

from gateway.errors import NotAllowed
from gateway.ocm.address import OCMAddress
from gateway.proof import Evidence
from gateway.store.contacts import Contact

SIGNED, CONTACTS, ALLOWLIST = "signed", "contacts", "allowlist"

# What `federation.accept` may demand, in the words of our discovery document.
CRITERIA: Mapping[str, str] = {SIGNED: "must-use-http-sig", CONTACTS: "must-invite", ALLOWLIST: "allowlist"}


async def _nobody(_server: str) -> bool:
    return False


class Admitting:
    """The policy for incoming Shares."""

    def __init__(
        self,
        accept: Collection[str] = (),
        auto_accept: Collection[str] = (),
        is_listed: Callable[[str], Awaitable[bool]] = _nobody,
    ) -> None:
        """`accept` holds words of CRITERIA, all of which have to be met; `auto_accept` servers and OCM Addresses."""
        self._accept = frozenset(accept)
        self._auto_accept = frozenset(auto_accept)
        self._is_listed = is_listed

    async def require_server(self, server: str) -> None:
        """Return if people at `server` may send Shares here, and be invited to; raises NotAllowed."""
        if ALLOWLIST in self._accept and not await self._is_listed(server):
            sentence = f"{server} is not listed here, as federation.accept demands; `peer trust {server}` lists it"
            raise NotAllowed("UNTRUSTED_PROVIDER", sentence)

    def admits(self, contact: Contact | None) -> bool:
        """Tell whether somebody may be sent Shares by a sender who is his `contact`, or none."""
        return contact is not None or CONTACTS not in self._accept

    def require_no_contact(self, sender: OCMAddress, recipient: str) -> None:
        """Raise NotAllowed where only contacts are admitted: it is then the answer for whoever gets no Share."""
        if CONTACTS in self._accept:
            sentence = f"{sender} is no contact of {recipient}, and federation.accept demands it; an invite makes one"
            raise NotAllowed("NOT_A_CONTACT", sentence)

    def accepts_at_once(self, evidence: Evidence, sender: OCMAddress, contact: Contact | None) -> bool:
        """Tell whether a Share is accepted for its user; never one whose sender is only claimed."""
        if evidence < Evidence.LABELLED:
            return False
        chosen = not self._auto_accept.isdisjoint({sender.server, str(sender)})
        return chosen or (contact is not None and contact.auto_accept)
