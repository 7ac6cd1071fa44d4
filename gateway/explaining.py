"""What would be sent to share something with somebody, and why in that form, before anything is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.access import Grant
from gateway.errors import PeerFailed
from gateway.generations import signature_for
from gateway.ocm.secret import Secret
from gateway.ocm.shares import serialise_share
from gateway.offering import Offer, Ourselves, offer, other_offer, share_creation_notification
from gateway.peers import Peers, api_url
from gateway.profiles import Recognised, recognise
from gateway.sending import Sending, ShareRequest
from gateway.store import peers, users
from gateway.store.engine import Store
from gateway.store.sent_shares import SentShare

HIDDEN = Secret("***")  # no secret is made


@dataclass(frozen=True, slots=True)
class Explanation:
    """A Share Creation Notification that is not sent; the bodies are None where none would be."""

    server: str
    recognised: Recognised
    url: str
    signature: str
    body: Mapping[str, Any] | None
    other_body: Mapping[str, Any] | None  # the second attempt, after 400 or 501
    problem: str | None  # why nothing would be sent


class Explaining:
    """Plans Shares and tells; nothing is stored, and nothing sent but the request for the peer's discovery."""

    def __init__(
        self, store: Store, sending: Sending, known: Peers, *, server: str, dav_url: str, ssh: str | None = None
    ) -> None:
        """Explain for `sending`, which has the same names."""
        self._store = store
        self._sending = sending
        self._peers = known
        self._ourselves = Ourselves(server, dav_url, ssh)

    async def explain(self, owner: Grant, request: ShareRequest) -> Explanation:
        """Return what `share create` would send; its id is another one each time.

        Raises Invalid, NotAllowed, NoSuch, what the storage raises, and PeerFailed when the peer has no discovery.
        """
        share = await self._sending.plan(owner, request)
        discovery = await self._peers.discover(share.server)
        recognised = recognise(discovery)
        known = await self._store.read(lambda tx: peers.recall(tx, share.server, recognised.profile.product))
        body = other_body = problem = None
        try:
            offered = offer(share, discovery, known.body, has_door=self._ourselves.ssh is not None)
        except PeerFailed as error:
            problem = str(error)
        else:
            other = other_offer(share, discovery, offered)
            name = await self._store.read(lambda tx: users.shown_name(tx, share.owner))
            body, other_body = self._body(share, offered, name), self._body(share, other, name) if other else None
        url, signature = api_url(discovery, "/shares"), signature_for(discovery).scheme
        return Explanation(share.server, recognised, url, signature, body, other_body, problem)

    def _body(self, share: SentShare, offered: Offer, owner_name: str) -> Mapping[str, Any]:
        hidden = replace(share, ssh_login=f"s-{HIDDEN.reveal()}")
        notification = share_creation_notification(hidden, offered, HIDDEN, self._ourselves, owner_name)
        return serialise_share(notification, offered.form)
