"""The Sending Server: create, change and revoke a Share, tell the Receiving Server, and take its answers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from backends.errors import NotFound
from backends.interface import Entry, Kind
from backends.paths import StoragePath, printable
from gateway import withdrawing
from gateway.access import Access, Grant
from gateway.errors import Conflict, Invalid, NoSuch, NotAllowed, PeerFailed, Unproven
from gateway.ocm.address import OCMAddress
from gateway.ocm.errors import ProtocolError
from gateway.ocm.notifications import Notification, NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.shares import (
    LATEST_EXPIRATION,
    Permission,
    ShareType,
    file_name,
    parse_share_created,
    serialise_share,
)
from gateway.ocm.states import SENT_ON_EVENT, SENT_ON_NOTIFICATION, SENT_OPEN, SentEvent, SentState
from gateway.offering import Offer, notification_about, offer, other_offer, share_creation_notification
from gateway.outbox import Outbox
from gateway.peers import Answer, Peers
from gateway.profiles import TAKEN, WRONG_FORM, Profile, profile_of
from gateway.proof import Evidence, Peer
from gateway.store import events, locks, outbox, peers, sent_shares, users
from gateway.store.engine import Store
from gateway.store.events import Event
from gateway.store.outbox import Message
from gateway.store.sealing import Sealer, secret_hash
from gateway.store.sent_shares import SentShare
from gateway.tree import Place, Tree, VirtualFolder, is_same_resource
from gateway.trust import Trust
from gateway.withdrawing import ROLE

SHARE = "share"  # the outbox's word for a Share Creation Notification; every other kind is a notificationType
FIRST_ATTEMPT = 15.0  # seconds that `share create` waits for the peer's answer
ASK, ALLOW = "ask", "allow"  # what follows when a receiver with the permission `share` asks to share on
NO_SUCH_SHARE = "there is no such Share of yours; `share list` shows them"


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """A Share Creation Gesture."""

    path: StoragePath  # in the user's own tree
    share_with: str
    permissions: frozenset[Permission] = frozenset({Permission.READ})
    name: str | None = None
    expiration: int | None = None
    share_type: ShareType = ShareType.USER  # whom `share_with` names
    reshare: str = ASK


@dataclass(frozen=True, slots=True)
class SentShareView:
    """A Share as its owner sees it: `state` as of now, and how the last message about it went."""

    share: SentShare
    state: str
    path: str
    history: tuple[Event, ...] = ()
    waiting: str | None = None  # why a message about it is still on its way


class Sending:
    """The use cases of the Sending Server."""

    def __init__(
        self,
        store: Store,
        tree: Tree,
        access: Access,
        trust: Trust,
        peers: Peers,
        outgoing: Outbox,
        sealer: Sealer,
        *,
        server: str,
        dav_url: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Send as `server` (host[:port]); `dav_url` is the absolute URL of the webdav root, with a slash at its end."""
        self._store = store
        self._tree = tree
        self._access = access
        self._trust = trust
        self._peers = peers
        self._outbox = outgoing
        self._sealer = sealer
        self._server = server
        self._dav_url = dav_url
        self._clock = clock
        outgoing.register(ROLE, self._deliver, self._delivered)

    # --- the owner's gestures -----------------------------------------------------------------------------------

    async def create(
        self,
        owner: Grant,
        request: ShareRequest,
        actor: str,
        also: Callable[[Connection, SentShare], None] = lambda _tx, _share: None,
    ) -> tuple[SentShareView, str | None]:
        """Share a path of the owner's tree, by the hand of `actor`, and wait a moment for the peer's answer.

        `also` is done in the same transaction. Returns the Share and, when the peer has not taken it yet, why. Raises
        Invalid, NotAllowed, NoSuch and what the storage raises; nothing is stored then.
        """
        share = await self.plan(owner, request)

        def work(tx: Connection) -> int:
            also(tx, share)
            return self.store_new(tx, share, actor, path=str(request.path))

        message_id = await self._store.run(work)
        message = await self._outbox.attempted(message_id, FIRST_ATTEMPT)
        return await self.show(owner.who, share.id), message.last_error

    async def plan(self, owner: Grant, request: ShareRequest) -> SentShare:
        """Return the Share that `create` would store; raises what `create` raises."""
        address = elsewhere(request.share_with, self._server)
        await self._trust.require(address.server)
        place, mount = await self._resource(owner, request.path)
        self._require_rights(place, request)
        try:
            entry = await place.storage.pool.run(place.backend.stat, place.path)
        except NotFound as error:
            raise NoSuch("NO_SUCH_PATH", f"there is nothing at /{request.path}") from error
        return self._new_share(owner.who, address, request, place, mount, entry)

    def store_new(self, tx: Connection, share: SentShare, actor: str, **detail: str) -> int:
        """Store a new Share with a secret of its own, and return the message that tells its receiver of it."""
        secret = secrets.token_urlsafe(32)  # 256 bits
        sent_shares.add(tx, share, secret_hash(secret), self._sealer.seal(secret, share.id))
        detail = {"with": share.share_with} | detail
        events.add(tx, at=share.created, actor=actor, action="share.create", subject=share.id, **detail)
        return outbox.add(tx, server=share.server, kind=SHARE, role=ROLE, share=share.id, now=share.created)

    async def list(self, owner: str | None) -> list[SentShareView]:
        """Return the Shares of `owner`, or everybody's."""
        shares = await self._store.read(lambda tx: sent_shares.of_owner(tx, owner))
        return [*await asyncio.gather(*map(self._view, shares))]  # each may wait a moment for a storage that hangs

    async def show(self, owner: str | None, share_id: str) -> SentShareView:
        """Return one Share with its history; raises NoSuch."""

        def work(tx: Connection) -> tuple[SentShare, list[Event], list[Message]]:
            share = self._own(tx, owner, share_id)
            return share, events.about(tx, share.id), outbox.pending_of(tx, ROLE, share.id)

        share, history, pending = await self._store.read(work)
        waiting = next((message.last_error or "not sent yet" for message in pending), None)
        return await self._view(share, tuple(history), waiting)

    async def update(
        self,
        owner: str | None,
        share_id: str,
        actor: str,
        *,
        permissions: frozenset[Permission] | None = None,
        expiration: int | None = None,
        never_expires: bool = False,
        reshare: str | None = None,
    ) -> SentShareView:
        """Change the permissions or the expiration of a Share, or what follows on REQUEST_RESHARE.

        The peer is told of new permissions. What was shared on is narrowed with it, and never widened.
        Raises Invalid, NotAllowed, NoSuch, Conflict.
        """
        now = int(self._clock())
        self._require_future(expiration)
        _require_word(reshare)

        def work(tx: Connection) -> None:
            share = self._own(tx, owner, share_id)
            if share.state not in SENT_OPEN:
                raise Conflict("SHARE_ENDED", f"the Share is {share.state}; make a new one")
            until = None if never_expires else expiration or share.expiration
            withdrawing.require_within_origin(tx, share, permissions or share.permissions, until)
            detail: dict[str, object] = {}
            if permissions is not None and permissions != share.permissions:
                rights = self._tree.rights_at(share.owner, share.mount, share.backend, share.path)
                self._require_within(permissions, rights)
                withdrawing.set_permissions(tx, share, permissions, now)
                detail["permissions"] = sorted(permission.value for permission in permissions)
            if never_expires or expiration is not None:
                sent_shares.set_expiration(tx, share.id, None if never_expires else expiration, now)
                detail["expiration"] = expiration
            if reshare is not None and reshare != share.reshare:
                sent_shares.set_reshare(tx, share.id, reshare, now)
                detail["reshare"] = reshare
            withdrawing.narrow_reshares(tx, share.id, now)
            events.add(tx, at=now, actor=actor, action="share.update", subject=share.id, **detail)

        await self._store.run(work)
        self._changed()
        return await self.show(owner, share_id)

    async def revoke(self, owner: str | None, share_id: str, actor: str) -> SentShareView:
        """End a Share: nothing opens from now on, and the peer is told."""
        now = int(self._clock())

        def work(tx: Connection) -> None:
            withdrawing.revoke(tx, self._own(tx, owner, share_id), actor, now)

        await self._store.run(work)
        self._changed()
        return await self.show(owner, share_id)

    def follow(self, tx: Connection, share: SentShare, state: SentState, now: int) -> None:
        """Give a Share its next state; one that has ended loses its locks, and its secret as soon as nothing is left to
        be said."""
        if state != share.state:
            sent_shares.set_state(tx, share.id, state, now)
        if state in SENT_OPEN:
            return
        locks.remove_of(tx, sent_shares.principal(share.id))
        withdrawing.end_reshares(tx, share, now)
        if not outbox.pending_of(tx, ROLE, share.id):
            sent_shares.wipe_secret(tx, share.id)

    async def _resource(self, owner: Grant, path: StoragePath) -> tuple[Place, str]:
        """Return the place of `path` and the name of its mount; raises NoSuch, NotAllowed."""
        try:
            place = await self._tree.resolve(owner, path)
        except NotFound as error:
            raise NoSuch("NO_SUCH_PATH", f"/{path}: {error}") from error
        if isinstance(place, VirtualFolder):
            raise NotAllowed("NOT_SHAREABLE", f"/{path} is no folder of yours; share a mount or something in it")
        if place.received is not None:
            raise NotAllowed("NO_RESHARING", f"/{path} was shared with you; only its owner can share it with others")
        return place, path.parts[0].decode()

    def _require_rights(self, place: Place, request: ShareRequest) -> None:
        if request.name is not None and request.name != file_name(request.name):
            raise Invalid("INVALID_NAME", f"{request.name!r} cannot be the name of a file or folder")
        self._require_future(request.expiration)
        self._require_within(request.permissions, place.rights)
        _require_word(request.reshare)

    def _require_future(self, expiration: int | None) -> None:
        if expiration is not None and expiration <= self._clock():
            raise Invalid("EXPIRED", "the expiration lies in the past")
        if expiration is not None and expiration > LATEST_EXPIRATION:
            raise Invalid("EXPIRATION_TOO_LATE", "the expiration lies beyond the year 9999; leave it out for never")

    @staticmethod
    def _require_within(permissions: frozenset[Permission], rights: frozenset[Permission]) -> None:
        if Permission.READ not in permissions:
            raise Invalid("READ_REQUIRED", "a Share needs at least the permission `read`")
        if Permission.WRITE in permissions and Permission.WRITE not in rights:
            raise NotAllowed("MOUNT_READ_ONLY", "the mount is read-only for you; share it with `--permissions read`")

    def _new_share(
        self,
        owner: str,
        address: OCMAddress,
        request: ShareRequest,
        place: Place,
        mount: str,
        entry: Entry,
    ) -> SentShare:
        now = int(self._clock())
        # Hexadecimal: safe in paths, nobody has to escape it, and no option of a command begins like it.
        share_id = secrets.token_hex(16)
        return SentShare(
            id=share_id,
            provider_id=share_id,
            owner=owner,
            share_with=str(address),
            server=address.server,
            name=request.name or file_name(printable(request.path.name)),
            resource_type="file" if entry.kind is Kind.FILE else "folder",
            share_type=request.share_type.value,
            permissions=request.permissions,
            requires_exchange=None,
            offered_type=None,
            mount=mount,
            backend=place.storage.name,
            path=place.path,
            identity=entry.identity,
            expiration=request.expiration,
            state=SentState.PENDING,
            recipient_display_name=None,
            created=now,
            updated=now,
            reshare=request.reshare,
        )

    @staticmethod
    def _own(tx: Connection, owner: str | None, share_id: str) -> SentShare:
        share = sent_shares.get(tx, share_id)
        if share is None or owner not in (None, share.owner):
            raise NoSuch("NO_SUCH_SHARE", NO_SUCH_SHARE)
        return share

    def _changed(self) -> None:
        self._access.forget()
        self._outbox.kick()

    async def _view(
        self, share: SentShare, history: tuple[Event, ...] = (), waiting: str | None = None
    ) -> SentShareView:
        path = self._tree.shown_path(share.owner, share.mount, share.path)
        return SentShareView(share, await self._present_state(share), path, history, waiting)

    async def _present_state(self, share: SentShare) -> str:
        """Return the stored state, or what time and storage have made of it: expired, missing."""
        if share.state not in SENT_OPEN:
            return share.state
        if share.expired(self._clock()):
            return SentState.EXPIRED
        kind = Kind.FILE if share.resource_type == "file" else Kind.DIRECTORY
        try:
            entry = await self._tree.look(share.owner, share.backend, share.path)
        except NotFound:
            return SentState.MISSING
        if entry is not None and not is_same_resource(entry, kind, share.identity):
            return SentState.MISSING
        return share.state

    # --- messages to the Receiving Server -----------------------------------------------------------------------

    async def _deliver(self, message: Message) -> None:
        """Say to the peer what `message` stands for; raises PeerFailed."""
        share = await self._store.read(lambda tx: sent_shares.get(tx, message.share))
        sealed = await self._store.read(lambda tx: sent_shares.sealed_secret(tx, message.share))
        if share is None or sealed is None:
            return  # ended and wiped: there is nothing left to say
        secret = Secret(self._sealer.open(sealed, share.id))
        if message.kind == SHARE:
            await self._offer(share, secret)
        else:
            await self._notify(share, NotificationType(message.kind), secret)

    async def _offer(self, share: SentShare, secret: Secret) -> None:
        """Send the Share Creation Notification that fits the peer, and take its answer."""
        discovery = await self._peers.discover(share.server)
        profile = profile_of(discovery)
        known = await self._store.read(lambda tx: peers.recall(tx, share.server, profile.product))
        offered = offer(share, discovery, known.body)
        answer = await self._say(share, offered, secret)
        other = other_offer(share, discovery, offered) if answer.status in WRONG_FORM else None
        if other is not None:
            second = await self._say(share, other, secret)
            if second.status == 409 or not _refused(share.server, second, secret, profile).is_final:
                offered, answer = other, second  # else the first refusal says what is wrong
        if answer.status == 409:
            return  # the id is 128 random bits: an earlier attempt, whose answer was lost, has brought it
        if answer.status not in TAKEN:
            raise _refused(share.server, answer, secret, profile)
        name = parse_share_created(answer.body).recipient_display_name

        def work(tx: Connection) -> None:
            peers.worked(tx, share.server, profile.product, body=offered.form, signature=answer.signature)
            if name:
                sent_shares.set_recipient_display_name(tx, share.id, name)

        await self._store.run(work)

    async def _say(self, share: SentShare, offered: Offer, secret: Secret) -> Answer:
        """Make an offer, and remember before that it is made.

        The peer may look at the Share while it still answers, and a crash may hide that it has.
        """
        required, kind, form = offered.requires_exchange, offered.resource_type, offered.form
        await self._store.run(lambda tx: sent_shares.set_offered(tx, share.id, required, kind, form))
        self._access.forget()
        owner_name = await self._store.read(lambda tx: users.shown_name(tx, share.owner))
        notification = share_creation_notification(
            share, offered, secret, server=self._server, dav_url=self._dav_url, owner_name=owner_name
        )
        return await self._peers.post(share.server, "/shares", serialise_share(notification, form))

    async def _notify(self, share: SentShare, kind: NotificationType, secret: Secret) -> None:
        profile = profile_of(await self._peers.discover(share.server))
        if kind not in profile.notifications:
            return  # it has no such message, and finds out by itself
        notification = notification_about(share, kind, secret, profile, server=self._server, dav_url=self._dav_url)
        answer = await self._peers.post(share.server, "/notifications", serialise_notification(notification))
        if answer.status >= 300 and answer.status not in (404, 409):  # those two: the peer knows already
            raise _refused(share.server, answer, secret)

    def _delivered(self, tx: Connection, message: Message) -> None:
        """Follow a message that has ended, in the transaction that ends it."""
        share = sent_shares.get(tx, message.share)
        if share is None:
            return
        now = int(self._clock())
        ended = outbox.get(tx, message.id)
        state = SentState(share.state)
        if message.kind == SHARE and ended is not None:
            event = SentEvent.REFUSED if ended.state == "failed" else SentEvent.DELIVERED
            state = SENT_ON_EVENT.get((state, event), state)
        self.follow(tx, share, state, now)

    # --- what the Receiving Server says -------------------------------------------------------------------------

    async def notified(self, peer: Peer, notification: Notification) -> None:
        """Take SHARE_ACCEPTED or SHARE_DECLINED from the server that the Share was sent to.

        Raises NoSuch for a Share that this peer has no part in, Unproven without signature and secret, Conflict.
        """
        now = int(self._clock())

        def work(tx: Connection) -> None:
            share = self.spoken_of(tx, peer, notification)
            state = SENT_ON_NOTIFICATION.get((SentState(share.state), notification.type))
            if state is None:
                raise Conflict(
                    "WRONG_STATE", f"Share {share.id} is {share.state}: {notification.type.value} means nothing"
                )
            if state == share.state:
                return
            self.follow(tx, share, state, now)
            detail = {"message": notification.message[:500]} if notification.message else {}
            action = notification.type.value
            events.add(tx, at=now, actor=peer.server, action=action, subject=share.id, **detail)

        await self._store.run(work)
        self._changed()

    async def server_of(self, notification: Notification) -> str:
        """Return the server that may speak about the Share, for messages that do not say who speaks.

        Raises NoSuch, and Unproven where no secret is given either.
        """
        provider_id = notification.provider_id or ""
        share = await self._store.read(lambda tx: sent_shares.get_by_provider_id(tx, provider_id))
        if share is None and notification.shared_secret is None:
            raise Unproven("SIGNATURE_REQUIRED", "neither senderDomain, nor secret, nor a known id says who speaks")
        if share is None:
            raise NoSuch("SHARE_NOT_FOUND", f"no Share has the id {provider_id!r}")
        return share.server

    @staticmethod
    def spoken_of(tx: Connection, peer: Peer, notification: Notification) -> SentShare:
        """Return the Share that the notification is about, if this peer may speak about it (wire.md, Binding)."""
        provider_id, secret = notification.provider_id or "", notification.shared_secret
        if secret is None:
            peer.require(Evidence.SECRET)  # before looking: whoever guesses an id learns nothing
        share = sent_shares.by_provider_id(tx, provider_id, peer.server)
        if share is not None and secret is not None:
            digest = secret_hash(secret.reveal())
            if sent_shares.by_provider_id_and_secret(tx, provider_id, digest) is not None:
                peer = peer.with_secret()
            elif peer.evidence < Evidence.SECRET:
                share = None  # whoever guesses does not learn that there is such a Share
        if share is None:
            raise NoSuch("SHARE_NOT_FOUND", f"{peer.server} has no Share {provider_id!r} from here")
        peer.require(Evidence.SECRET)
        return share


def _require_word(reshare: str | None) -> None:
    if reshare not in (None, ASK, ALLOW):
        raise Invalid("INVALID_RESHARE", f"{reshare!r} is neither {ASK} nor {ALLOW}")


def _refused(server: str, answer: Answer, secret: Secret, profile: Profile | None = None) -> PeerFailed:
    """Return what the peer has said to it, and to a Share for a stranger what has to happen first (`profile`)."""
    sentence = f"{server} answered {answer.status}: {answer.reason(secret)}"
    if profile is not None and profile.invite and answer.status in (401, 403, 404):
        sentence += f". {profile.invite}"
    return PeerFailed("REFUSED_BY_PEER", sentence, answer.status)


def elsewhere(text: str, server: str) -> OCMAddress:
    """Return the OCM Address of somebody at another server than `server`; raises Invalid."""
    try:
        address = OCMAddress.parse(text)
    except ProtocolError as error:
        raise Invalid("INVALID_ADDRESS", error.reason) from error
    if address.server == server:
        raise Invalid("SAME_SERVER", f"{server} is this gateway; name somebody at another server")
    return address


def permissions(words: Iterable[str]) -> frozenset[Permission]:
    """Return permissions by their wire names; raises Invalid."""
    allowed = ", ".join(permission.value for permission in Permission)
    try:
        return frozenset(map(Permission, words))
    except ValueError as error:
        raise Invalid("UNKNOWN_PERMISSION", f"{error}; permissions are {allowed}") from error
