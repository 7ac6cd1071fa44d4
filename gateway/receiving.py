"""The Receiving Server: admit a Share Creation Notification; accept, decline, leave; follow what the sender says."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sqlalchemy import Connection

from gateway import believing, belongings
from gateway.admitting import Admitting
from gateway.errors import Busy, Conflict, Invalid, NoSuch, PeerFailed, Unproven
from gateway.key_pairs import KeyPairs
from gateway.ocm.address import OCMAddress
from gateway.ocm.invites import address_of
from gateway.ocm.notifications import Notification, NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.shares import WEBDAV, ShareCreated, ShareCreationNotification, ShareType
from gateway.ocm.ssh_keys import PublicKey
from gateway.ocm.states import RECEIVED_LIVE, RECEIVED_ON_EVENT, RECEIVED_ON_NOTIFICATION, ReceivedEvent, ReceivedState
from gateway.offered import recipient_at, require_same_host, row_of, usable_protocols
from gateway.outbox import Outbox
from gateway.peers import Peers
from gateway.profiles import profile_of
from gateway.proof import Evidence, Peer
from gateway.remote import Remote
from gateway.store import contacts, events, exchanged_tokens, kept, last_seen, outbox, received_shares, users
from gateway.store.contacts import Contact
from gateway.store.engine import Store
from gateway.store.events import Event
from gateway.store.kept import Kept
from gateway.store.outbox import Message
from gateway.store.received_shares import ReceivedShare
from gateway.store.sealing import Sealer, secret_hash

ROLE = "receiving"
FIRST_ATTEMPT = 15.0  # seconds that accept waits for the sender's answer
PARTING = 2.0  # seconds that decline and leave wait for it; it is done here in any case
PROBE_TIME = 15.0  # seconds that accept waits for a first look at the Remote Resource
PENDING_FOR_USER = 1000  # Shares that wait for one user's answer, at most
PENDING_FROM_SERVER = 200  # the part of those that one server may have sent
AUTOMATIC = "(automatic)"  # as an actor; no user can have this name


@dataclass(frozen=True, slots=True)
class ReceivedShareView:
    """A received Share as its user sees it: `state` as of now."""

    share: ReceivedShare
    state: str
    history: tuple[Event, ...] = ()
    waiting: str | None = None  # why a message about it is still on its way
    unreachable_since: int | None = None  # when its server was first silent after its last answer
    kept: tuple[Kept, ...] = ()  # where its content was written as files


class Receiving:
    """The use cases of the Receiving Server."""

    def __init__(
        self,
        store: Store,
        peers: Peers,
        outgoing: Outbox,
        remote: Remote,
        sealer: Sealer,
        key_pairs: KeyPairs,
        *,
        server: str,
        policy: Admitting | None = None,
        groups: Mapping[str, Collection[str]] = MappingProxyType({}),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Receive as `server` (host[:port]), for users and for `groups` of them."""
        self._policy = policy or Admitting()
        self._store = store
        self._peers = peers
        self._outbox = outgoing
        self._remote = remote
        self._sealer = sealer
        self._key_pairs = key_pairs
        self._server = server
        self._groups = groups
        self._clock = clock
        self._looks: set[asyncio.Task[str | None]] = set()  # a task that nobody holds may vanish (asyncio)
        self._arrived: Callable[[Connection, ReceivedShare], None] = lambda _tx, _share: None
        outgoing.register(ROLE, self._deliver, self._delivered)

    # --- what the Sending Server says ---------------------------------------------------------------------------

    async def admit(self, peer: Peer, notification: ShareCreationNotification) -> ShareCreated:
        """Store a Share for its user, or each member of its group, to decide on, or accepted where that was decided.

        Returns the display name of whom it is for, and for `ssh` the public keys (MUST of draft-07, Response).

        The same Share again changes nothing; another one under the same id is a Conflict, and the stored one stays.
        An id whose Share has ended may come again: products count theirs, and begin anew when they are set up anew.
        Raises Invalid, NotAllowed, NotBuilt, Busy when too many Shares wait for the user's answer.
        """
        usable = usable_protocols(notification, has_groups=bool(self._groups))
        require_same_host(peer, notification)
        recipient, sender = recipient_at(self._server, notification), address_of(notification.sender)
        await self._policy.require_server(peer.server)
        share = row_of(peer, notification, usable, int(self._clock()))
        secret = usable.secret

        def work(tx: Connection) -> tuple[ShareCreated, list[str]]:
            recipients = self._recipients(tx, recipient, sender, notification.share_type)
            is_group = notification.share_type == ShareType.GROUP
            keys = () if usable.ssh is None else self._key_pairs.told(tx, sorted(recipients))
            shown = ShareCreated(recipient if is_group else users.shown_name(tx, recipient), keys)
            for known in received_shares.by_provider_id(tx, peer.server, share.provider_id):
                if known.payload_digest == share.payload_digest:
                    return shown, []
                # Seafile has one id for everything: in its form, without a uri, the secret joins the key (wire.md).
                is_seafile = share.uri is None and secret is not None
                same_key = not is_seafile or received_shares.with_secret(tx, known.id, secret_hash(secret or ""))
                if known.state in RECEIVED_LIVE and same_key:
                    raise Conflict("SHARE_ALREADY_EXISTS", f"{peer.server} has sent another Share under this id")
            # A member without room gets the Share later, once there is some (`group_shares`).
            with_room = [user for user in recipients if has_room(tx, user, peer.server)]
            if not with_room:
                raise Busy("TOO_MANY_PENDING", f"too many Shares wait for the answer of {recipient}", retry_after=3600)
            given = [self.give(tx, share, secret, user, recipients[user]) for user in with_room]
            return shown, [share_id for share_id in given if share_id is not None]

        answer, accepted = await self._store.run(work)
        self.begin(accepted)
        return answer

    def give(
        self, tx: Connection, share: ReceivedShare, secret: str | None, user: str, contact: Contact | None
    ) -> str | None:
        """Store for `user`, who has its sender as `contact`, a Share that nobody has looked at, under an id of its own.

        Returns the id if it was accepted at once; then `begin` follows.
        """
        mine = replace(share, id=secrets.token_hex(16), user=user)
        hashed, sealed = (secret_hash(secret), self._sealer.seal(secret, mine.id)) if secret else (None, None)
        received_shares.add(tx, mine, hashed, sealed)
        detail = {"evidence": mine.evidence, "for": user}
        events.add(tx, at=mine.created, actor=mine.server, action="share.receive", subject=mine.id, **detail)
        self._arrived(tx, mine)
        if not self._policy.accepts_at_once(Evidence.of(mine.evidence), address_of(mine.sender), contact):
            return None
        if WEBDAV not in mine.protocols:
            return None  # nobody has seen the host key of its SSH server yet
        self._accept(tx, mine, AUTOMATIC, mine.created)
        return mine.id

    def begin(self, accepted: Collection[str]) -> None:
        """Tell the senders of Shares that were accepted at once, and look at each while nobody waits.

        What fails is looked at again like every accepted Share.
        """
        if accepted:
            self._outbox.kick()
        for share_id in accepted:
            look = asyncio.create_task(self._remote.probe(share_id, PROBE_TIME), name=f"look at {share_id}")
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    def tell_of_arrivals(self, arrived: Callable[[Connection, ReceivedShare], None]) -> None:
        """Call `arrived` for each Share that comes, in the transaction that stores it."""
        self._arrived = arrived

    async def notified(self, peer: Peer, notification: Notification) -> None:
        """Take SHARE_UNSHARED or SHARE_CHANGE_PERMISSION from the server that sent the Share.

        Raises NoSuch for a Share that this peer has not sent, Unproven without signature and secret, Conflict.
        """
        now = int(self._clock())

        def work(tx: Connection) -> list[ReceivedShare]:
            spoken_of = self._spoken_of(tx, peer, notification)
            steps = [
                (share, state)
                for share in received_shares.every_row(tx, spoken_of)
                if (state := RECEIVED_ON_NOTIFICATION.get((ReceivedState(share.state), notification.type))) is not None
            ]
            if not steps:
                what = f"Share {spoken_of.id} is {spoken_of.state}: {notification.type.value} means nothing"
                raise Conflict("WRONG_STATE", what)
            for share, state in steps:
                self._follow(tx, share, state, peer, notification, now)
            return [share for share, _ in steps]

        for share in await self._store.run(work):
            self._remote.forget(share.id)

    def _follow(
        self,
        tx: Connection,
        share: ReceivedShare,
        state: ReceivedState,
        peer: Peer,
        notification: Notification,
        now: int,
    ) -> None:
        """Bring a Share to its next state by the word of its sender; raises Invalid."""
        detail: dict[str, object] = {"message": notification.message[:500]} if notification.message else {}
        if notification.type is NotificationType.SHARE_CHANGE_PERMISSION:
            if not notification.permissions:
                raise Invalid("MISSING_PERMISSIONS", "no permissions are named", "notification.permissions")
            received_shares.set_permissions(tx, share.id, notification.permissions, now)
            detail["permissions"] = sorted(permission.value for permission in notification.permissions)
        elif state == share.state:
            return
        if state != share.state:
            self.end(tx, share, state, now)
        action = notification.type.value
        events.add(tx, at=now, actor=peer.server, action=action, subject=share.id, **detail)

    async def server_of(self, notification: Notification) -> str:
        """Return the server that may speak about the Share, for messages that do not say who speaks.

        Without a secret it is the sender of the one live Share with that id, and the signature decides. Raises NoSuch,
        and Unproven where no secret is given either.
        """
        provider_id, secret = notification.provider_id or "", notification.shared_secret
        if secret is None:
            share = await self._store.read(lambda tx: received_shares.only_live(tx, provider_id))
            if share is None:
                raise Unproven("SIGNATURE_REQUIRED", "neither senderDomain, nor secret, nor a known id says who speaks")
            return share.server
        digest = secret_hash(secret.reveal())
        share = await self._store.read(lambda tx: received_shares.by_provider_id_and_secret(tx, provider_id, digest))
        if share is None:
            raise NoSuch("SHARE_NOT_FOUND", f"nobody has proved to have sent a Share {provider_id!r}")
        return share.server

    @staticmethod
    def _spoken_of(tx: Connection, peer: Peer, notification: Notification) -> ReceivedShare:
        """Return the Share that the notification is about, if this peer may speak about it (wire.md, Binding)."""
        provider_id, secret = notification.provider_id or "", notification.shared_secret
        if secret is None:
            peer.require(Evidence.SECRET)  # before looking: whoever guesses an id learns nothing
        else:
            digest = secret_hash(secret.reveal())
            share = received_shares.by_provider_id_and_secret(tx, provider_id, digest)
            if share is not None and share.server == peer.server:
                peer.with_secret().require(Evidence.SECRET)
                return share
        if peer.evidence > Evidence.SECRET:
            shares = received_shares.by_provider_id(tx, peer.server, provider_id)
            meant = [share for share in shares if share.state in RECEIVED_LIVE] or shares[-1:]
            if one := received_shares.the_one(meant):
                return one
        raise NoSuch("SHARE_NOT_FOUND", f"{peer.server} has sent no Share {provider_id!r} that it could prove")

    def _recipients(self, tx: Connection, name: str, sender: OCMAddress, share_type: str) -> dict[str, Contact | None]:
        """Return those whom a Share with `name` is for; raises NotAllowed or Invalid for nobody.

        Which of the two it is depends on the policy alone, and says nothing of who is here.
        """
        found = self.takers(tx, self._groups.get(name, ()) if share_type == ShareType.GROUP else (name,), sender)
        if not found:
            self._policy.require_no_contact(sender, name)
            raise Invalid("RECIPIENT_NOT_FOUND", f"there is no {share_type} {name!r} here", "shareWith")
        return found

    def takers(self, tx: Connection, named: Iterable[str], sender: OCMAddress) -> dict[str, Contact | None]:
        """Return the enabled users of those `named` to whom `sender` may send Shares, and as what contact of theirs."""
        known = {user: contacts.get(tx, user, str(sender)) for user in named}
        return {
            user: contact
            for user, contact in known.items()
            if self._policy.admits(contact) and users.is_enabled(tx, user)
        }

    # --- the user's gestures ------------------------------------------------------------------------------------

    async def list(self, user: str | None) -> list[ReceivedShareView]:
        """Return the Shares sent to `user`, or to everybody."""
        shares = await self._store.read(lambda tx: received_shares.of_user(tx, user))
        return [self._view(share) for share in shares]

    async def show(self, user: str | None, share_id: str) -> ReceivedShareView:
        """Return one Share with its history, and with where it was kept; raises NoSuch."""

        def work(tx: Connection) -> tuple[ReceivedShare, list[Event], list[Message], list[Kept]]:
            share = self.own(tx, user, share_id)
            pending = outbox.pending_of(tx, ROLE, share.id)
            return share, events.about(tx, share.id), pending, kept.of_share(tx, share.id)

        share, history, pending, copies = await self._store.read(work)
        waiting = next((message.last_error or "not sent yet" for message in pending), None)
        return replace(self._view(share, tuple(history), waiting), kept=tuple(copies))

    async def accept(
        self, user: str | None, share_id: str, actor: str, host_key: str | None = None
    ) -> tuple[ReceivedShareView, str | None]:
        """Mount a pending Share under /received/ and tell the sender.

        `host_key` is the fingerprint of the host key of its SSH server that the user believes from now on; without one,
        what is offered by SSH alone is not accepted. Returns the Share and, when its content could not be looked at
        yet, why. Raises NoSuch, Conflict, Invalid, and PeerFailed when the host key cannot be looked at.
        """
        now = int(self._clock())
        believed = await believing.believed(self._remote, await self._acceptable(user, share_id), host_key)

        def work(tx: Connection) -> int | None:
            share = self.own(tx, user, share_id)
            if believed is not None:
                believing.believe(tx, share, believed, actor, now)
            state = self._after(share, ReceivedEvent.ACCEPT)
            if state == share.state:
                return None
            if share.expired(now):
                raise Conflict("SHARE_EXPIRED", "the Share has expired; ask its sender for a new one")
            return self._accept(tx, share, actor, now)

        message_id = await self._store.run(work)
        if message_id is not None:
            await self._outbox.attempted(message_id, FIRST_ATTEMPT)
        if believed is not None:
            self._remote.forget(share_id)
        view = await self.show(user, share_id)
        if not view.share.protocols:
            return view, None  # it is only for fetching, which its user does
        problem = await self._remote.probe(share_id, PROBE_TIME)
        return await self.show(user, share_id), problem

    async def host_key(self, user: str | None, share_id: str) -> PublicKey:
        """Return the host key that the SSH server of a live Share shows now; raises NoSuch, Conflict, Invalid,
        PeerFailed."""
        return await believing.shown(self._remote, await self._acceptable(user, share_id))

    async def _acceptable(self, user: str | None, share_id: str) -> ReceivedShare:
        """Return a Share that can be accepted, or is; raises NoSuch, Conflict."""
        share = await self._store.read(lambda tx: self.own(tx, user, share_id))
        self._after(share, ReceivedEvent.ACCEPT)
        return share

    @staticmethod
    def _accept(tx: Connection, share: ReceivedShare, actor: str, now: int) -> int | None:
        """Mount a pending Share, and return the message that says so; of a group the first acceptance says it."""
        taken = received_shares.taken_mounts(tx, share.user)
        mount = _free_name(share.name, taken) if share.protocols else None
        received_shares.set_mount(tx, share.id, mount)
        received_shares.set_state(tx, share.id, ReceivedState.ACCEPTED, now)
        events.add(tx, at=now, actor=actor, action="share.accept", subject=share.id, mount=mount)
        if _any_other(tx, share, (ReceivedState.ACCEPTED, ReceivedState.LEFT)):
            return None
        kind = NotificationType.SHARE_ACCEPTED.value
        return outbox.add(tx, server=share.server, kind=kind, role=ROLE, share=share.id, now=now)

    async def decline(self, user: str | None, share_id: str, actor: str) -> ReceivedShareView:
        """Refuse a pending Share and tell the sender; raises NoSuch, Conflict."""
        return await self._part(user, share_id, actor, ReceivedEvent.DECLINE)

    async def leave(self, user: str | None, share_id: str, actor: str) -> ReceivedShareView:
        """Give back an accepted Share: it is gone here at once, whether or not its sender can be told."""
        return await self._part(user, share_id, actor, ReceivedEvent.LEAVE)

    async def _part(self, user: str | None, share_id: str, actor: str, gesture: ReceivedEvent) -> ReceivedShareView:
        now = int(self._clock())

        def work(tx: Connection) -> int | None:
            share = self.own(tx, user, share_id)
            state = self._after(share, gesture)
            return None if state == share.state else self.give_back(tx, share, gesture, actor, now)

        message_id = await self._store.run(work)
        self._remote.forget(share_id)
        if message_id is not None:
            await self._outbox.attempted(message_id, PARTING)
        return await self.show(user, share_id)

    def give_back(
        self, tx: Connection, share: ReceivedShare, gesture: ReceivedEvent, actor: str, now: int
    ) -> int | None:
        """End a live Share by the user's gesture, and return the message about it, if the sender has to be told.

        A group Share lives on while a member has it, so only the last one's gesture is news.
        """
        message_id = None
        if not _any_other(tx, share, RECEIVED_LIVE):
            # A receiver that leaves says SHARE_DECLINED: SHARE_UNSHARED is the sender's word (wire.md, Notifications).
            kind = NotificationType.SHARE_DECLINED.value
            message_id = outbox.add(tx, server=share.server, kind=kind, role=ROLE, share=share.id, now=now)
        self.end(tx, share, self._after(share, gesture), now)
        events.add(tx, at=now, actor=actor, action=f"share.{gesture.value}", subject=share.id)
        return message_id

    def end(self, tx: Connection, share: ReceivedShare, state: ReceivedState, now: int) -> None:
        """End a Share: its name is free again, its token and what was kept with its files are gone, and its secret as
        soon as nothing is left to be said."""
        received_shares.set_state(tx, share.id, state, now)
        received_shares.set_mount(tx, share.id, None)
        exchanged_tokens.forget(tx, share.id)
        last_seen.forget(tx, share.id)
        kept.forget_versions(tx, share.id)
        belongings.forget(tx, share.storage)
        if not outbox.pending_of(tx, ROLE, share.id):
            received_shares.wipe_secret(tx, share.id)

    @staticmethod
    def _after(share: ReceivedShare, gesture: ReceivedEvent) -> ReceivedState:
        """Return the state that follows; raises Conflict where none does."""
        state = RECEIVED_ON_EVENT.get((ReceivedState(share.state), gesture))
        if state is None:
            raise Conflict("WRONG_STATE", f"the Share is {share.state}: you cannot {gesture.value} it")
        return state

    @staticmethod
    def own(tx: Connection, user: str | None, share_id: str) -> ReceivedShare:
        """Return a Share of `user`, or of anybody for None; raises NoSuch."""
        share = received_shares.get(tx, share_id)
        if share is None or user not in (None, share.user):
            raise NoSuch("NO_SUCH_SHARE", "nobody has sent you such a Share; `received list` shows those you have")
        return share

    def _view(
        self, share: ReceivedShare, history: tuple[Event, ...] = (), waiting: str | None = None
    ) -> ReceivedShareView:
        live = share.state in RECEIVED_LIVE
        state = ReceivedState.EXPIRED.value if live and share.expired(self._clock()) else share.state
        silent_since = self._peers.breakers.standing(share.origin).since if live else None
        return ReceivedShareView(share, state, history, waiting, silent_since)

    # --- messages to the Sending Server -------------------------------------------------------------------------

    async def _deliver(self, message: Message) -> None:
        """Say to the sender what `message` stands for; raises PeerFailed."""
        share = await self._store.read(lambda tx: received_shares.get(tx, message.share))
        sealed = await self._store.read(lambda tx: received_shares.sealed_secret(tx, message.share))
        if share is None:
            return
        kind, profile = NotificationType(message.kind), profile_of(await self._peers.discover(share.server))
        if kind not in profile.notifications:
            return  # it has no such message and would refuse it
        secret = Secret(self._sealer.open(sealed, share.id)) if sealed else None
        notification = Notification(
            type=kind,
            sender_domain=self._server,
            resource_type=share.resource_type,
            share_type=share.share_type,
            provider_id=share.provider_id,
            shared_secret=secret,
        )
        answer = await self._peers.post(share.server, "/notifications", serialise_notification(notification))
        if answer.status >= 300 and answer.status not in (404, 409):  # those two: the peer knows already
            reason = f"{share.server} answered {answer.status}: {answer.reason(secret or Secret(''))}"
            raise PeerFailed("REFUSED_BY_PEER", reason, answer.status)

    def _delivered(self, tx: Connection, message: Message) -> None:
        share = received_shares.get(tx, message.share)
        if share is not None and share.state not in RECEIVED_LIVE and not outbox.pending_of(tx, ROLE, share.id):
            received_shares.wipe_secret(tx, share.id)


def has_room(tx: Connection, user: str, server: str) -> bool:
    """Tell whether `user` may get one more Share to answer, all told and from `server`: anybody can send."""
    waiting, of_server = received_shares.count_pending(tx, user, server)
    return waiting < PENDING_FOR_USER and of_server < PENDING_FROM_SERVER


def _any_other(tx: Connection, share: ReceivedShare, states: Collection[ReceivedState]) -> bool:
    """Tell whether another member of the group that `share` is with has it in one of `states`."""
    return any(row.id != share.id and row.state in states for row in received_shares.every_row(tx, share))


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or with ` (2)` and so on: a later Share never shadows an earlier one."""
    if name not in taken:
        return name
    stem, dot, ending = name.rpartition(".") if "." in name[1:] else (name, "", "")
    number = 2
    while (candidate := f"{stem} ({number}){dot}{ending}") in taken:
        number += 1
    return candidate
