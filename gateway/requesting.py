"""Requests for a Share (draft-07, Request to Share): others ask our users, and our users ask others.

A request is a row for the owner to answer. Granting it makes a Share like any other; declining says so to who has
asked. Whoever asks learns nothing of who is here and of what there is: a request for a user who does not exist is
taken and kept like any other, and shown to nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Connection

from backends.errors import InvalidPath
from backends.paths import StoragePath
from gateway.access import Access
from gateway.admitting import Admitting
from gateway.errors import Busy, Conflict, Invalid, NoSuch, NotAllowed, PeerFailed
from gateway.ocm.address import OCMAddress
from gateway.ocm.fields import URI_MAX
from gateway.ocm.notifications import Notification, NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.share_requests import serialise_share_request
from gateway.ocm.shares import Permission, file_name
from gateway.ocm.states import INCOMING_ON_EVENT, OUTGOING_ON_EVENT, REQUEST_OPEN, RequestEvent, RequestState
from gateway.ocm.text import is_identifier
from gateway.outbox import Outbox
from gateway.peers import Peers
from gateway.proof import Evidence, Peer
from gateway.receiving import Receiving
from gateway.sending import Sending, SentShareView, ShareRequest, elsewhere
from gateway.store import contacts, events, outbox, share_requests, users
from gateway.store.engine import Store
from gateway.store.events import Event
from gateway.store.outbox import Message
from gateway.store.received_shares import ReceivedShare
from gateway.store.sent_shares import SentShare
from gateway.store.share_requests import INCOMING, OUTGOING, RequestRecord
from gateway.trust import Trust

ROLE = "requesting"
FIRST_ATTEMPT = 15.0  # seconds that `request create` waits for the peer's answer
PENDING_FOR_USER = 200  # requests that wait for one user's answer, at most
PENDING_FROM_SERVER = 50  # requests of one server that wait for anybody's answer
UNANSWERED = 30 * 86400  # seconds after which a request that nobody has answered is dropped

log = structlog.get_logger()


# Makes the Share that a REQUEST_RESHARE asks for, with these permissions, by the hand of an actor; returns its id and
# the message about it.
Reshare = Callable[[Connection, RequestRecord, frozenset[Permission] | None, str], tuple[str, int]]


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as its user sees it."""

    request: RequestRecord
    history: tuple[Event, ...] = ()
    waiting: str | None = None  # why a message about it is still on its way


class Requesting:
    """The use cases of both sides of a request."""

    def __init__(
        self,
        store: Store,
        sending: Sending,
        receiving: Receiving,
        access: Access,
        trust: Trust,
        peers: Peers,
        outgoing: Outbox,
        *,
        server: str,
        policy: Admitting,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Ask, and be asked, as `server` (host[:port])."""
        self._policy = policy
        self._store = store
        self._sending = sending
        self._access = access
        self._trust = trust
        self._peers = peers
        self._outbox = outgoing
        self._server = server
        self._clock = clock
        outgoing.register(ROLE, self._deliver, self.delivered)
        receiving.tell_of_arrivals(self._arrived)
        self._reshare: Reshare | None = None

    def reshare_by(self, reshare: Reshare) -> None:
        """Let `reshare` make the Shares that are asked for by REQUEST_RESHARE."""
        self._reshare = reshare

    # --- what others say ----------------------------------------------------------------------------------------

    async def notified(self, peer: Peer, notification: Notification) -> None:
        """Take REQUEST_SHARE, and SHARE_DECLINED, which answers a Share of ours or a request of ours.

        Raises as `Sending.notified`; for a request Unproven without a signature, NoSuch and NotAllowed when it is not
        for who asks, Busy when too many wait.
        """
        if notification.type is NotificationType.REQUEST_SHARE:
            await self._asked(peer, notification)
        elif not await self._declined(peer, notification):
            await self._sending.notified(peer, notification)

    async def server_of(self, notification: Notification) -> str:
        """Return the server that may say this, for messages that do not say who speaks; raises NoSuch, Unproven."""
        if notification.type is NotificationType.REQUEST_SHARE:
            return OCMAddress.normalise(notification.share_with or "").server
        return await self._sending.server_of(notification)

    async def _asked(self, peer: Peer, notification: Notification) -> None:
        peer.require(Evidence.LABELLED)
        owner = OCMAddress.normalise(notification.owner or "")
        asker = OCMAddress.normalise(notification.share_with or "")
        if asker.server != peer.server:
            raise NotAllowed("SHARE_WITH_MISMATCH", f"{peer.server} asks for somebody at {asker.server}")
        if owner.server != self._server:
            raise NoSuch("SHARE_NOT_FOUND", f"{owner.server} is not this server, {self._server} is")
        request = share_requests.unanswered(
            int(self._clock()),
            direction=INCOMING,
            kind=NotificationType.REQUEST_SHARE,
            user=owner.identifier,
            owner=owner,
            share_with=asker,
            server=peer.server,
            resource=notification.share_id or "",
            permissions=notification.permissions or frozenset(),
        )
        await self._policy.require_server(peer.server)

        def work(tx: Connection) -> bool:
            if not self._policy.admits(contacts.get(tx, owner.identifier, str(asker))):
                self._policy.require_no_contact(asker, owner.identifier)
            return self.admit(tx, request)

        if not await self._store.run(work):
            log.warning(
                "a request for a Share is shown to nobody: there is no such user", owner=str(owner), peer=peer.server
            )

    def admit(self, tx: Connection, request: RequestRecord) -> bool:
        """Store a request for its user to answer; the same again changes nothing. Tell whether there is such a user.

        What is for nobody is stored too, and never shown: the limits would tell who is here, if it did not count.
        Raises Busy when too many wait already: anybody can ask.
        """
        share_requests.forget_unanswered(tx, request.created - UNANSWERED)
        if not users.is_enabled(tx, request.user or ""):
            request = replace(request, user=None)
        if share_requests.same_open(tx, request) is None:
            if share_requests.count_from_server(tx, request.server) >= PENDING_FROM_SERVER:
                raise Busy("TOO_MANY_PENDING", f"too many requests of {request.server} wait for an answer", 3600)
            if share_requests.count_to_owner(tx, request.owner) >= PENDING_FOR_USER:
                raise Busy("TOO_MANY_PENDING", f"too many requests wait for the answer of {request.owner}", 3600)
            self.add(tx, request, request.server, "request.receive")
        return request.user is not None

    async def _declined(self, peer: Peer, notification: Notification) -> bool:
        """Take the answer to a request of ours, and tell whether it was one."""
        if peer.evidence < Evidence.LABELLED:
            return False  # nothing else would prove it
        now = int(self._clock())

        def work(tx: Connection) -> bool:
            asked = share_requests.open_to(tx, peer.server)
            answered = [request for request in asked if _is_of(request, notification)]
            for request in answered:
                self._follow(tx, request, RequestEvent.DECLINE, peer.server, now)
            return bool(answered)

        return await self._store.run(work)

    def _arrived(self, tx: Connection, share: ReceivedShare) -> None:
        """See whether a Share that has come is what its user has asked for: by its id, or by its owner and name."""
        owner = str(OCMAddress.normalise(share.owner))
        for request in share_requests.open_to(tx, share.server, share.user):
            named = share.provider_id == request.resource or share.name == _name(request.resource)
            if request.kind == NotificationType.REQUEST_SHARE and request.owner == owner and named:
                self._follow(tx, request, RequestEvent.GRANT, share.server, share.created, share.id)
                return

    # --- the gestures of our users ------------------------------------------------------------------------------

    async def list(self, user: str | None) -> list[RequestView]:
        """Return the requests to and from `user`, or everybody's."""
        requests = await self._store.read(lambda tx: share_requests.of_user(tx, user))
        return [RequestView(request) for request in requests]

    async def show(self, user: str | None, request_id: str) -> RequestView:
        """Return one request with its history; raises NoSuch."""

        def work(tx: Connection) -> tuple[RequestRecord, Sequence[Event], Sequence[Message]]:
            request = self._own(tx, user, request_id)
            return request, events.about(tx, request.id), outbox.pending_of(tx, ROLE, request.id)

        request, history, pending = await self._store.read(work)
        waiting = next((message.last_error or "not sent yet" for message in pending), None)
        return RequestView(request, tuple(history), waiting)

    async def ask(
        self, user: str, owner: str, resource: str, permissions: frozenset[Permission], actor: str
    ) -> tuple[RequestView, str | None]:
        """Ask the owner of `resource`, which is a path or an id as that server has it, to share it with `user`.

        Returns the request and, when the owner's server has not taken it yet, why. Raises Invalid, NotAllowed,
        Conflict.
        """
        address = elsewhere(owner, self._server)
        await self._trust.require(address.server)
        if not (is_identifier(resource, URI_MAX) and resource.strip()):
            raise Invalid("INVALID_RESOURCE", "what is asked for is one line of text: a path, a URL or an id")
        request = share_requests.unanswered(
            int(self._clock()),
            direction=OUTGOING,
            kind=NotificationType.REQUEST_SHARE,
            user=user,
            owner=address,
            share_with=OCMAddress.parse(f"{user}@{self._server}"),
            server=address.server,
            resource=resource,
            permissions=permissions,
        )

        def work(tx: Connection) -> int:
            share_requests.forget_unanswered(tx, request.created - UNANSWERED)
            if same := share_requests.same_open(tx, request):
                raise Conflict("ASKED_ALREADY", f"you have asked for this; `request show {same.id}` says how it stands")
            self.add(tx, request, actor, "request.create")
            return self._queue(tx, request, NotificationType.REQUEST_SHARE, request.created)

        message = await self._outbox.attempted(await self._store.run(work), FIRST_ATTEMPT)
        return await self.show(user, request.id), message.last_error

    async def grant(
        self,
        user: str | None,
        request_id: str,
        actor: str,
        *,
        path: StoragePath | None = None,
        permissions: frozenset[Permission] | None = None,
        expiration: int | None = None,
    ) -> tuple[SentShareView, str | None]:
        """Share what was asked for, or `path` instead, with who has asked.

        Returns the Share and, when the peer has not taken it yet, why. Raises as `Sending.create`, and Conflict.
        """
        request = await self._store.read(lambda tx: self._incoming(tx, user, request_id))
        assert request.user is not None
        if request.granted is not None:
            return await self._sending.show(request.user, request.granted), None
        if request.kind == NotificationType.REQUEST_RESHARE:
            if path is not None or expiration is not None:
                raise Invalid("NOT_FOR_A_RESHARE", "it is of the Share that it names, and ends with that")
            await self._trust.require(OCMAddress.parse(request.share_with).server)
            return await self._grant_reshare(user, request_id, permissions, actor)
        wanted = ShareRequest(
            path=path or _path(request.resource),
            share_with=request.share_with,
            permissions=permissions or request.permissions | {Permission.READ},
            expiration=expiration,
        )

        def granted(tx: Connection, share: SentShare) -> None:
            current = self._incoming(tx, user, request_id)
            if current.granted is not None:
                raise Conflict("GRANTED_ALREADY", "somebody has just granted it; `request show` names the Share")
            self._follow(tx, current, RequestEvent.GRANT, actor, share.created, share.id)

        return await self._sending.create(await self._access.of_user(request.user), wanted, actor, granted)

    async def _grant_reshare(
        self, user: str | None, request_id: str, permissions: frozenset[Permission] | None, actor: str
    ) -> tuple[SentShareView, str | None]:
        reshare = self._reshare
        assert reshare is not None
        now = int(self._clock())

        def work(tx: Connection) -> tuple[str, int]:
            request = self._incoming(tx, user, request_id)
            share_id, message_id = reshare(tx, request, permissions, actor)
            self._follow(tx, request, RequestEvent.GRANT, actor, now, share_id)
            return share_id, message_id

        share_id, message_id = await self._store.run(work)
        message = await self._outbox.attempted(message_id, FIRST_ATTEMPT)
        return await self._sending.show(user, share_id), message.last_error

    async def decline(self, user: str | None, request_id: str, actor: str) -> RequestView:
        """Refuse a request and tell who has asked, if it was for a new Share; raises NoSuch, Conflict."""
        now = int(self._clock())

        def work(tx: Connection) -> int | None:
            request = self._incoming(tx, user, request_id)
            is_new = self._follow(tx, request, RequestEvent.DECLINE, actor, now)
            if not is_new or request.kind == NotificationType.REQUEST_RESHARE:
                return None  # of a reshare nobody is told: SHARE_DECLINED would be about the Share itself
            return self._queue(tx, request, NotificationType.SHARE_DECLINED, now)

        message_id = await self._store.run(work)
        if message_id is not None:
            await self._outbox.attempted(message_id, FIRST_ATTEMPT)
        return await self.show(user, request_id)

    @staticmethod
    def _own(tx: Connection, user: str | None, request_id: str) -> RequestRecord:
        request = share_requests.get(tx, request_id)
        if request is None or request.user is None or user not in (None, request.user):
            raise NoSuch("NO_SUCH_REQUEST", "there is no such request; `request list` shows yours")
        return request

    def _incoming(self, tx: Connection, user: str | None, request_id: str) -> RequestRecord:
        request = self._own(tx, user, request_id)
        if request.direction != INCOMING:
            raise Conflict("REQUEST_OF_YOURS", f"this is for {request.owner} to answer")
        return request

    # --- what becomes of a request ------------------------------------------------------------------------------

    @staticmethod
    def add(tx: Connection, request: RequestRecord, actor: str, action: str) -> None:
        """Store a request, whoever has made it."""
        share_requests.add(tx, request)
        detail = {"owner": request.owner, "with": request.share_with, "for": request.resource}
        events.add(tx, at=request.created, actor=actor, action=action, subject=request.id, **detail)

    @staticmethod
    def _queue(tx: Connection, request: RequestRecord, kind: NotificationType, now: int) -> int:
        return outbox.add(tx, server=request.server, kind=kind.value, role=ROLE, share=request.id, now=now)

    @staticmethod
    def _follow(
        tx: Connection, request: RequestRecord, event: RequestEvent, actor: str, now: int, granted: str | None = None
    ) -> bool:
        """Give a request its next state, and tell whether it is another one; raises Conflict where none follows."""
        table = INCOMING_ON_EVENT if request.direction == INCOMING else OUTGOING_ON_EVENT
        state = table.get((RequestState(request.state), event))
        if state is None:
            raise Conflict("WRONG_STATE", f"the request is {request.state}: you cannot {event.value} it")
        if state == request.state:
            return False
        share_requests.set_state(tx, request.id, state, now, granted)
        detail = {"share": granted} if granted else {}
        events.add(tx, at=now, actor=actor, action=f"request.{event.value}", subject=request.id, **detail)
        return True

    # --- messages to the other server ---------------------------------------------------------------------------

    async def _deliver(self, message: Message) -> None:
        """Ask, or answer who has asked; raises PeerFailed."""
        request = await self._store.read(lambda tx: share_requests.get(tx, message.share))
        if request is None or (request.direction == OUTGOING and request.state not in REQUEST_OPEN):
            return  # answered, or gone: there is nothing left to say
        kind = NotificationType(message.kind)
        path, body = await self._words(request, kind)
        answer = await self._peers.post(request.server, path, body)
        known = (409,) if kind is NotificationType.REQUEST_SHARE else (404, 409)
        if answer.status >= 300 and answer.status not in known:
            reason = f"{request.server} answered {answer.status}: {answer.reason(Secret(''))}"
            raise PeerFailed("REFUSED_BY_PEER", reason, answer.status)

    async def _words(self, request: RequestRecord, kind: NotificationType) -> tuple[str, dict[str, object]]:
        """Return path and body; REQUEST_SHARE is of API 1.5, and 1.4 has an endpoint instead. Raises PeerFailed."""
        if kind is NotificationType.SHARE_DECLINED:
            refusal = Notification(
                type=kind,
                sender_domain=self._server,
                resource_type="file",
                provider_id=request.resource,
                owner=request.owner,
                share_with=request.share_with,
            )
            return "/notifications", serialise_notification(refusal)
        asking = Notification(
            type=kind,
            sender_domain=self._server,
            resource_type="file",
            owner=request.owner,
            share_with=request.share_with,
            share_id=request.resource,
            permissions=request.permissions,
        )
        discovery = await self._peers.discover(request.server)
        if discovery.speaks(1, 5):
            return "/notifications", serialise_notification(asking)
        if discovery.speaks(1, 4):
            return "/request-share", serialise_share_request(asking)
        sentence = f"{request.server} speaks API {discovery.api_version}, which has no requests; write to the owner"
        raise PeerFailed("NOT_OFFERED", sentence, 501)  # as if the peer had said so: asking again changes nothing

    def delivered(self, tx: Connection, message: Message) -> None:
        """Follow a message that has ended, in the transaction that ends it."""
        request, ended = share_requests.get(tx, message.share), outbox.get(tx, message.id)
        if request is None or ended is None or request.direction == INCOMING:
            return
        event = RequestEvent.REFUSED if ended.state == "failed" else RequestEvent.DELIVERED
        if (RequestState(request.state), event) in OUTGOING_ON_EVENT:
            self._follow(tx, request, event, message.server, int(self._clock()))


def _is_of(request: RequestRecord, refusal: Notification) -> bool:
    """Tell whether a refusal is of this request; the draft names only what was asked for, we also who asked whom."""
    is_meant = refusal.owner in (None, request.owner) and refusal.share_with in (None, request.share_with)
    return is_meant and (request.kind, request.resource) == (NotificationType.REQUEST_SHARE, refusal.provider_id)


def _path(resource: str) -> StoragePath:
    """Return what was asked for as a path in the owner's tree; raises Invalid where it is none."""
    try:
        path = StoragePath.parse(resource)
    except InvalidPath:
        path = StoragePath()
    if path.is_root or "://" in resource:
        raise Invalid("PATH_NEEDED", f"{resource!r} is no path in your tree; say with `--path` what to share")
    return path


def _name(resource: str) -> str:
    return file_name(resource.rstrip("/").rpartition("/")[2])
