"""Invite Sender and Invite Receiver: an invite makes two people at two servers each other's contacts (draft-07)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from gateway.admitting import Admitting
from gateway.errors import Conflict, Invalid, NoSuch, NotAllowed, PeerFailed, Refusal
from gateway.ocm.errors import ProtocolError
from gateway.ocm.invites import (
    InviteAcceptance,
    InviteString,
    Party,
    parse_party,
    serialise_invite_acceptance,
)
from gateway.ocm.secret import Secret
from gateway.ocm.text import line
from gateway.peers import Answer, Peers
from gateway.proof import Evidence, Peer
from gateway.store import contacts, events, invites, users
from gateway.store.contacts import Contact, Source
from gateway.store.engine import Store
from gateway.store.invites import Invite
from gateway.store.sealing import secret_hash
from gateway.store.users import User

TOKEN_BYTES = 32  # the draft asks for hard to guess; wire.md for 128 bits
# Seconds an invite lives unless its sender says otherwise. Products say a day; but people read mail after a weekend,
# and a token of 256 bits that works once loses nothing by waiting as long as our own messages do.
LIFE = 7 * 86400
LIFE_MAX = 366 * 86400
NOTE_MAX = 200  # characters
ALREADY_ACCEPTED = "INVITE_ALREADY_ACCEPTED"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class InviteView:
    """An invite as its sender sees it: `state` as of now."""

    invite: Invite
    state: str


@dataclass(frozen=True, slots=True)
class NewInvite:
    """An invite with its token, which is nowhere else: what is stored is its hash."""

    view: InviteView
    invite_string: Secret
    link: Secret


class Inviting:
    """The use cases of both sides."""

    def __init__(
        self,
        store: Store,
        peers: Peers,
        *,
        server: str,
        public_url: str,
        policy: Admitting | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._policy = policy or Admitting()
        self._store = store
        self._peers = peers
        self._server = server
        self._public_url = public_url
        self._clock = clock

    # --- the Invite Sender --------------------------------------------------------------------------------------

    async def create(self, user: str, note: str | None, expires: int | None, actor: str) -> NewInvite:
        """Make an invite of `user`'s, valid once and until `expires`; raises Invalid."""
        now = int(self._clock())
        expires = now + LIFE if expires is None else expires
        if not now < expires <= now + LIFE_MAX:
            raise Invalid("INVALID_EXPIRATION", "an invite ends in the future, and within a year")
        cleaned = line(note or "").strip()
        if len(cleaned) > NOTE_MAX:
            raise Invalid("NOTE_TOO_LONG", f"the note has more than {NOTE_MAX} characters")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        invite = Invite(secrets.token_hex(8), user, cleaned or None, now, expires)

        def work(tx: Connection) -> None:
            invites.add(tx, invite, secret_hash(token))
            events.add(tx, at=now, actor=actor, action="invite.create", subject=invite.id, user=user)

        await self._store.run(work)
        made = InviteString(Secret(token), self._server)
        return NewInvite(self._view(invite), Secret(made.encode()), Secret(made.link(self._public_url)))

    async def list(self, user: str | None) -> list[InviteView]:
        """Return the invites of `user`, or everybody's."""
        return [self._view(invite) for invite in await self._store.read(lambda tx: invites.of_user(tx, user))]

    async def revoke(self, user: str | None, invite_id: str, actor: str) -> InviteView:
        """End an invite that nobody has accepted; raises NoSuch, Conflict."""
        now = int(self._clock())

        def work(tx: Connection) -> Invite:
            invite = invites.get(tx, invite_id)
            if invite is None or user not in (None, invite.user):
                raise NoSuch("NO_SUCH_INVITE", "you have made no such invite; `invite list` shows those you have")
            if invite.accepted is not None:
                raise Conflict("INVITE_ACCEPTED", "it was accepted; `contact remove` ends what it began")
            if invite.revoked is None:
                invites.set_revoked(tx, invite_id, now)
                events.add(tx, at=now, actor=actor, action="invite.revoke", subject=invite_id)
            return invites.get(tx, invite_id) or invite

        return self._view(await self._store.run(work))

    async def require_open(self, acceptance: InviteAcceptance) -> None:
        """Return if the token is one of ours, and its use allowed: before that no server is asked who it is.

        Raises Invalid, NotAllowed.
        """
        now = self._clock()
        await self._store.read(lambda tx: self._meant(tx, acceptance, now))
        await self._policy.require_server(acceptance.recipient_provider)

    async def accepted(self, peer: Peer, acceptance: InviteAcceptance) -> tuple[Party, bool]:
        """Take an Invite Acceptance Request: whoever it is becomes a contact of the inviter.

        Returns who the inviter is, and whether the same Party had accepted before. An unsigned acceptance makes a
        contact that is not verified. Raises Invalid, and Conflict for a second Party.
        """
        now = int(self._clock())
        party = acceptance.party

        def work(tx: Connection) -> tuple[User, bool]:
            invite = self._meant(tx, acceptance, now)
            inviter = _user(tx, invite.user)
            if invite.accepted is not None:
                if (invite.server, invite.user_id) != (peer.server, party.user_id):
                    raise Conflict(ALREADY_ACCEPTED, f"invite {invite.id} was accepted by somebody else")
                return inviter, True
            invites.set_accepted(tx, invite.id, peer.server, party.user_id, now)
            contact = self._met(tx, invite.user, peer.server, party, Source.INVITE_SENT, verified=_is_proved(peer))
            detail = {"contact": contact.address, "evidence": peer.evidence.word}
            events.add(tx, at=now, actor=peer.server, action="invite.accepted", subject=invite.id, **detail)
            return inviter, False

        inviter, again = await self._store.run(work)
        return self._party(inviter), again

    def _meant(self, tx: Connection, acceptance: InviteAcceptance, now: float) -> Invite:
        """Return the invite of the token, open or accepted; raises Invalid."""
        if acceptance.recipient_provider == self._server:
            raise Invalid("SAME_SERVER", "nobody is invited from here to here", "recipientProvider")
        invite = invites.by_token_hash(tx, secret_hash(acceptance.token.reveal()))
        state = invite.state(now) if invite is not None and users.is_enabled(tx, invite.user) else "unknown"
        if state == "expired":
            raise Invalid("TOKEN_EXPIRED", "the invite has expired; its sender can make another", "token")
        if invite is None or state not in ("open", "accepted"):
            raise Invalid("TOKEN_INVALID", "no invite has this token", "token")
        return invite

    # --- the Invite Receiver ------------------------------------------------------------------------------------

    async def accept(self, user: str, invite: InviteString, actor: str) -> Contact:
        """Accept an invite for `user`; returns the contact that it made.

        Raises Invalid, NotAllowed, Conflict, PeerFailed; nothing is stored then.
        """
        await self._policy.require_server(invite.provider)
        me = self._party(await self._store.read(lambda tx: _user(tx, user)))
        request = serialise_invite_acceptance(InviteAcceptance(self._server, invite.token, me))
        answer = await self._peers.post(invite.provider, "/invite-accepted", request)
        party = _answered(answer, invite)
        now = int(self._clock())

        def work(tx: Connection) -> Contact:
            contact = self._met(tx, user, invite.provider, party, Source.INVITE_ACCEPTED, verified=True)
            events.add(tx, at=now, actor=actor, action="invite.accept", subject=contact.address, user=user)
            return contact

        contact = await self._store.run(work)
        log.info("invite accepted", user=user, contact=contact.address)
        return contact

    def read(self, text: str, provider: str | None = None) -> InviteString:
        """Return the invite that `text` is, or whose token it is at `provider`; raises Invalid, as for one of ours."""
        try:
            invite = InviteString.read(text) if provider is None else InviteString.of(text, provider)
        except ProtocolError as error:
            sentence = (
                "this is no invite: give its link, its Invite String, or TOKEN@SERVER if you have the token alone"
            )
            raise Invalid(error.code, sentence) from error
        if invite.provider == self._server:
            sentence = "this invite is from this server itself; give it to somebody at another one"
            raise Invalid("SAME_SERVER", sentence)
        return invite

    # --- both ---------------------------------------------------------------------------------------------------

    def _met(self, tx: Connection, user: str, server: str, party: Party, source: Source, *, verified: bool) -> Contact:
        """Enter `party` at `server` into the address book of `user`."""
        address = str(party.address(server))
        contact = Contact(
            user=user,
            address=address,
            user_id=party.user_id,
            name=party.name,
            email=party.email,
            source=source,
            verified=verified,
            auto_accept=False,
            created=int(self._clock()),
        )
        contacts.meet(tx, contact)
        return contacts.get(tx, user, address) or contact

    def _party(self, user: User) -> Party:
        """Return what we say of `user`: Nextcloud needs a name and an address that looks like one (peers.md §7).

        The id is the identifier of the user's OCM Address byte for byte: oCIS compares (peers.md §10, trap 21).
        """
        host = self._server if self._server.endswith("]") else self._server.rpartition(":")[0] or self._server
        return Party(user.name, user.email or f"{user.name}@{host}", user.display_name or user.name)

    def _view(self, invite: Invite) -> InviteView:
        return InviteView(invite, invite.state(self._clock()))


def _user(tx: Connection, name: str) -> User:
    user = users.get(tx, name)
    if user is None:
        raise NoSuch("NO_SUCH_USER", f"there is no user {name}; `user list` shows who there is")
    return user


def _is_proved(peer: Peer) -> bool:
    return peer.evidence >= Evidence.LABELLED


def _answered(answer: Answer, invite: InviteString) -> Party:
    """Return who the inviter is, by the answer of their server; raises Invalid, NotAllowed, Conflict, PeerFailed.

    The one who has accepted already, as after an answer that was lost, gets 409 with the same body, or 200 from
    OpenCloud (peers.md section 7).
    """
    server, reason = invite.provider, answer.reason(invite.token)
    is_identity = answer.status < 300 or (answer.status == 409 and bool(answer.body.get("userID")))
    if is_identity:
        try:
            return parse_party(answer.body, server)
        except ProtocolError as error:
            raise PeerFailed("BAD_ANSWER", f"{server} has taken the invite, but does not say whose it is") from error
    raise _refusal(answer.status, server, reason)


def _refusal(status: int, server: str, reason: str) -> Refusal:
    """Return what a refusal means to the person who holds the invite."""
    if status in (400, 404):  # OpenCloud answers an unknown token 404
        sentence = f"{server} does not know this invite, or it has expired; ask for a new one ({reason})"
        return Invalid("INVITE_REFUSED", sentence)
    if status == 403:
        sentence = f"{server} accepts no invites from this server until its operator lists it ({reason})"
        return NotAllowed("NOT_TRUSTED_THERE", sentence)
    if status == 409:
        return Conflict(ALREADY_ACCEPTED, f"this invite was used before; ask {server} for a new one")
    return PeerFailed("REFUSED_BY_PEER", f"{server} answered {status}: {reason}", status)
