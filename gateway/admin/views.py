"""What the command line shows, as plain JSON values: the spec's words in snake_case, stable for scripts."""

from __future__ import annotations

from typing import Any

from gateway.breaker import Standing
from gateway.explaining import Explanation
from gateway.keeping import Run
from gateway.ocm.discovery import parse_discovery
from gateway.ocm.errors import ProtocolError
from gateway.ocm.fields import decode_object
from gateway.ocm.shares import Permission
from gateway.ocm.ssh_keys import PublicKey, parse_public_key
from gateway.profiles import Recognised, recognise
from gateway.receiving import ReceivedShareView
from gateway.roots import BackendStatus
from gateway.sending import SentShareView
from gateway.signing_keys import KeyRecord
from gateway.store.events import Event
from gateway.store.kept import Kept
from gateway.store.outbox import Message
from gateway.store.peers import WORKED, PeerRecord
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
        "protocols": list(share.offered_protocols or share.protocols or ()),
        "requirements": ["must-exchange-token"] if share.requires_exchange else [],
        "path": view.path,
        "reshare": share.reshare,
        "origin": share.origin,
        "expiration": share.expiration,
        "state": str(view.state),
        "recipient_display_name": share.recipient_display_name,
        "created": share.created,
        "updated": share.updated,
        "used": share.used,
        "waiting": view.waiting,
        "ssh": view.ssh,
        "keys": [ssh_key(key) for key in view.keys],
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
        "unreachable_since": view.unreachable_since,
        "created": share.created,
        "updated": share.updated,
        "waiting": view.waiting,
        "protocols": list(share.protocols),
        "ssh": share.ssh_uri,
        "host_key": ssh_key(parse_public_key(share.host_key)) if share.host_key else None,
    }


def ssh_key(one: PublicKey) -> dict[str, Any]:
    return {"fingerprint": one.fingerprint, "type": one.words}


def kept(copy: Kept) -> dict[str, Any]:
    """Return a copy of a Share; `source` is a path in the Share, empty for all of it."""
    return {
        "share": copy.share,
        "source": str(copy.source),
        "path": f"/{copy.target}",
        "state": copy.state,
        "reason": copy.reason,
        "files": copy.files,
        "bytes": copy.bytes,
        "skipped": copy.skipped,
        "failed": copy.failed,
        "begun": copy.begun,
        "ended": copy.ended,
    }


def running_copy(run: Run) -> dict[str, Any]:
    """Return a copy as it is now, with what is moving, and what has failed and why."""
    return kept(run.row()) | {
        "failures": [{"path": str(path) or ".", "reason": reason} for path, reason in run.failures],
        "moving": [{"path": str(one.path) or ".", "bytes": one.moved, "size": one.size} for one in run.moving],
    }


def history(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    return [{"at": event.at, "actor": event.actor, "action": event.action, "detail": event.detail} for event in events]


def user(record: User) -> dict[str, Any]:
    return {
        "name": record.name,
        "disabled": record.disabled,
        "created": record.created,
        "email": record.email,
        "display_name": record.display_name,
    }


def peer(record: PeerRecord, standing: Standing) -> dict[str, Any]:
    return {
        "server": record.server,
        "trust": record.trust,
        "signs": record.signs,
        "signed_as": record.signed_as,
        "discovered": record.discovered,
        "seen": record.seen,
        "failures": record.failures,
        "last_error": standing.reason or record.last_error,
        "breaker": standing.state.value,
        "silent_since": standing.since,
        "retry": standing.retry,
    }


def proofs(record: PeerRecord) -> dict[str, Any]:
    """Return what `peer show` says of how a peer proves itself and reaches us, and of the last time that it failed."""
    return {
        "pinned_key": record.pinned_key,
        "legacy_used": dict(sorted((record.legacy_used or {}).items())),
        "refused": record.refused,
    }


def dialect(record: PeerRecord) -> dict[str, Any]:
    """Return what the server says of itself, what it was recognised as, and what has worked with it."""
    document = record.discovery.encode() if record.discovery else None
    nothing = {"product": None, "profile": None, "worked": None}
    shown: dict[str, Any] = {"discovery": decode_object(document) if document else None}
    try:
        recognised = recognise(parse_discovery(document or b"", record.discovery_url or ""))
    except ProtocolError:
        return nothing | shown
    still = record.product == recognised.profile.product
    return {
        "product": recognised.profile.product,
        "profile": profile(recognised),
        "worked": {name: getattr(record, name) if still else None for name in WORKED},
    } | shown


def profile(recognised: Recognised) -> dict[str, Any]:
    """Return a profile as far as an operator may want to know it, and the rule that chose it."""
    chosen = recognised.profile
    return {
        "title": chosen.title,
        "rule": recognised.rule,
        "body": chosen.body,
        "folders": chosen.folders,
        "permissions": permissions(chosen.permissions),
        "exchange": chosen.exchange,
        "signature": chosen.signature,
        "algorithm": chosen.algorithm,
        "ways": list(chosen.ways),
        "notifications": sorted(chosen.notifications),
        "invite": chosen.invite,
    }


def explanation(explained: Explanation) -> dict[str, Any]:
    return {
        "server": explained.server,
        "product": explained.recognised.profile.product,
        "profile": profile(explained.recognised),
        "method": "POST",
        "url": explained.url,
        "signature": explained.signature,
        "body": explained.body,
        "other_body": explained.other_body,
        "problem": explained.problem,
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
