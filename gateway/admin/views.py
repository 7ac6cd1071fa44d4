"""What the command line shows, as plain JSON values: the spec's words in snake_case, stable for scripts."""

from __future__ import annotations

from typing import Any

from gateway.ocm.shares import Permission
from gateway.receiving import ReceivedShareView
from gateway.roots import BackendStatus
from gateway.sending import SentShareView
from gateway.signing_keys import KeyRecord
from gateway.store.events import Event
from gateway.store.outbox import Message
from gateway.store.peers import PeerRecord
from gateway.store.users import User


def sent_share(view: SentShareView) -> dict[str, Any]:
    share = view.share
    return {
        "id": share.id,
        "provider_id": share.provider_id,
        "owner": share.owner,
        "share_with": share.share_with,
        "name": share.name,
        "resource_type": share.resource_type,
        "share_type": share.share_type,
        "permissions": permissions(share.permissions),
        "protocols": ["webdav"],
        "requirements": ["must-exchange-token"] if share.requires_exchange else [],
        "path": view.path,
        "reshare": share.reshare,
        "origin": share.origin,
        "expiration": share.expiration,
        "state": str(view.state),
        "recipient_display_name": share.recipient_display_name,
        "created": share.created,
        "updated": share.updated,
        "waiting": view.waiting,
    }


def received_share(view: ReceivedShareView) -> dict[str, Any]:
    share = view.share
    return {
        "id": share.id,
        "provider_id": share.provider_id,
        "user": share.user,
        "name": share.name,
        "sender": share.sender,
        "owner": share.owner,
        "share_with": share.share_with,
        "resource_type": share.resource_type,
        "share_type": share.share_type,
        "permissions": permissions(share.permissions),
        "requirements": ["must-exchange-token"] if share.requires_exchange else [],
        "encrypted": share.encrypted,
        "evidence": share.evidence,
        "expiration": share.expiration,
        "state": str(view.state),
        "mount": f"/received/{share.mount}" if share.mount is not None else None,
        "description": share.description,
        "probed": share.probed,
        "created": share.created,
        "updated": share.updated,
        "waiting": view.waiting,
    }


def history(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    return [{"at": event.at, "actor": event.actor, "action": event.action, "detail": event.detail} for event in events]


def user(record: User) -> dict[str, Any]:
    return {"name": record.name, "disabled": record.disabled, "created": record.created}


def peer(record: PeerRecord) -> dict[str, Any]:
    return {
        "server": record.server,
        "trust": record.trust,
        "signs": record.signs,
        "discovered": record.discovered,
        "seen": record.seen,
        "failures": record.failures,
        "last_error": record.last_error,
    }


def message(record: Message) -> dict[str, Any]:
    return {
        "id": record.id,
        "server": record.server,
        "kind": record.kind,
        "share": record.share,
        "state": record.state,
        "attempts": record.attempts,
        "next_attempt": record.next_attempt if record.state == "pending" else None,
        "last_error": record.last_error,
        "created": record.created,
        "finished": record.finished,
    }


def backend(status: BackendStatus) -> dict[str, Any]:
    return {"name": status.name, "type": status.type, "problem": status.problem}


def key(record: KeyRecord) -> dict[str, Any]:
    return {"kid": record.key.kid, "alg": record.key.alg, "created": record.created, "signs": record.signs}


def permissions(granted: frozenset[Permission]) -> list[str]:
    return [permission.value for permission in Permission if permission in granted]
