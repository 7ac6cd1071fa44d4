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
from gateway.delivering import SHARE, Delivering
from gateway.errors import Conflict, Invalid, NoSuch, NotAllowed, Unproven
from gateway.ocm.address import OCMAddress
from gateway.ocm.errors import ProtocolError
from gateway.ocm.notifications import Notification
from gateway.ocm.protocols import READ_ONLY
from gateway.ocm.shares import LATEST_EXPIRATION, SSH, WEBDAV, Permission, ShareType, file_name
from gateway.ocm.ssh_keys import PublicKey
from gateway.ocm.states import SENT_ON_EVENT, SENT_ON_NOTIFICATION, SENT_OPEN, SentEvent, SentState
from gateway.offering import Ourselves, ssh_uri
from gateway.outbox import Outbox
from gateway.peers import Peers
from gateway.proof import Evidence, Peer
from gateway.store import events, locks, outbox, sent_shares, share_keys
from gateway.store.engine import Store
from gateway.store.events import Event
from gateway.store.outbox import Message
from gateway.store.sealing import Sealer, secret_hash
from gateway.store.sent_shares import SentShare
from gateway.tree import Place, Tree, VirtualFolder, is_same_resource
from gateway.trust import Trust
from gateway.withdrawing import ROLE

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
    protocols: tuple[str, ...] | None = None  # None: what fits the peer


@dataclass(frozen=True, slots=True)
class SentShareView:
    """A Share as its owner sees it: `state` as of now, and how the last message about it went."""

    share: SentShare
    state: str
    path: str
    history: tuple[Event, ...] = ()
    waiting: str | None = None  # why a message about it is still on its way
    ssh: str | None = None  # where it is met by SSH
    keys: tuple[PublicKey, ...] = ()  # of its receiver, which open it there


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
        ssh: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Send as what `Ourselves` has of `server`, `dav_url` and `ssh`."""
        self._store = store
        self._tree = tree
        self._access = access
        self._trust = trust
        self._outbox = outgoing
        self._sealer = sealer
        self._ourselves = Ourselves(server, dav_url, ssh)
        self._clock = clock
        delivering = Delivering(store, access, peers, sealer, self._ourselves, clock)
        outgoing.register(ROLE, delivering.deliver, self._delivered)

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
        address = elsewhere(request.share_with, self._ourselves.server)
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

        def work(tx: Connection) -> list[tuple[SentShare, list[PublicKey]]]:
            return [(share, _keys(tx, share)) for share in sent_shares.of_owner(tx, owner)]

        views = (self._view(share, keys=tuple(keys)) for share, keys in await self._store.read(work))
        return [*await asyncio.gather(*views)]  # each may wait a moment for a storage that hangs

    async def show(self, owner: str | None, share_id: str) -> SentShareView:
        """Return one Share with its history; raises NoSuch."""

        def work(tx: Connection) -> tuple[SentShare, list[Event], list[Message], list[PublicKey]]:
            share = self._own(tx, owner, share_id)
            pending = outbox.pending_of(tx, ROLE, share.id)
            return share, events.about(tx, share.id), pending, _keys(tx, share)

        share, history, pending, keys = await self._store.read(work)
        waiting = next((message.last_error or "not sent yet" for message in pending), None)
        return await self._view(share, tuple(history), waiting, tuple(keys))

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
        if SSH in (request.protocols or ()) and self._ourselves.ssh is None:
            raise NotAllowed("NO_SSH_DOOR", "nothing can be reached by SSH here: the operator has not set listen.ssh")

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
            protocols=request.protocols,
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
        self,
        share: SentShare,
        history: tuple[Event, ...] = (),
        waiting: str | None = None,
        keys: tuple[PublicKey, ...] = (),
    ) -> SentShareView:
        path, ssh = self._tree.shown_path(share.owner, share.mount, share.path), ssh_uri(share, self._ourselves)
        return SentShareView(share, await self._present_state(share), path, history, waiting, ssh, keys)

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

    # --- what follows on messages to the Receiving Server --------------------------------------------------------

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
            is_news = event is SentEvent.DELIVERED and state is SentState.PENDING
            state = SENT_ON_EVENT.get((state, event), state)
            if is_news and share.offered_protocols == (SSH,) and share.permissions != READ_ONLY:
                withdrawing.set_permissions(tx, share, share.permissions, now)  # what is offered by SSH cannot say them
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


def elsewhere(text: str, server: str) -> OCMAddress:
    """Return the OCM Address of somebody at another server than `server`; raises Invalid."""
    try:
        address = OCMAddress.parse(text)
    except ProtocolError as error:
        raise Invalid("INVALID_ADDRESS", error.reason) from error
    if address.server == server:
        raise Invalid("SAME_SERVER", f"{server} is this gateway; name somebody at another server")
    return address


def _keys(tx: Connection, share: SentShare) -> list[PublicKey]:
    return share_keys.of_share(tx, share.id) if share.ssh_login is not None else []


def protocols(words: Iterable[str]) -> tuple[str, ...]:
    """Return protocols by their wire names, in the order in which they are offered; raises Invalid."""
    wanted = set(words)
    if unknown := sorted(wanted - {WEBDAV, SSH}):
        raise Invalid("UNKNOWN_PROTOCOL", f"{unknown[0]!r} is no protocol that is offered here: {WEBDAV}, {SSH}")
    return tuple(name for name in (WEBDAV, SSH) if name in wanted)


def permissions(words: Iterable[str]) -> frozenset[Permission]:
    """Return permissions by their wire names; raises Invalid."""
    allowed = ", ".join(permission.value for permission in Permission)
    try:
        return frozenset(map(Permission, words))
    except ValueError as error:
        raise Invalid("UNKNOWN_PERMISSION", f"{error}; permissions are {allowed}") from error
