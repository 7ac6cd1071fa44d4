"""Which host key of a sender's SSH server is believed: the one that the Share's user has seen and accepted, no other.

It is looked at before the Share is accepted, pinned when it is, and compared at each connection (`backends/sftp`). A
server that shows another one gets nothing, until its user accepts that one as well.
"""

from __future__ import annotations

from sqlalchemy import Connection

from gateway.errors import Conflict, Invalid
from gateway.ocm.shares import SSH
from gateway.ocm.ssh_keys import PublicKey, parse_public_key
from gateway.remote import Remote
from gateway.store import events, received_shares
from gateway.store.received_shares import ReceivedShare


async def shown(remote: Remote, share: ReceivedShare, fingerprint: str | None = None) -> PublicKey:
    """Return the host key that the Share's server shows now, or the one of its keys that has this fingerprint.

    Raises Invalid, PeerFailed, Conflict where it has no such key.
    """
    if SSH not in share.protocols:
        raise Invalid("NOT_BY_SSH", "this Share is not reached by SSH, so there is no host key to believe")
    return await remote.host_key(share, fingerprint)


async def believed(remote: Remote, share: ReceivedShare, fingerprint: str | None) -> PublicKey | None:
    """Return the key that the user's word makes believed at acceptance; None where nothing has to be.

    Raises what `shown` raises, and Conflict for a Share that needs such a word and has none.
    """
    if fingerprint is not None:
        return await shown(remote, share, fingerprint)
    if share.protocols != (SSH,) or share.host_key is not None:
        return None
    key = await shown(remote, share)
    sentence = f"{share.ssh_uri} shows the host key {key.fingerprint}: compare it with what the sender says"
    raise Conflict("HOST_KEY_UNCONFIRMED", f"{sentence}, then accept with --host-key {key.fingerprint}")


def believe(tx: Connection, share: ReceivedShare, key: PublicKey, actor: str, now: int) -> None:
    """Pin a host key to a Share; which one was believed before stays in its history."""
    if share.host_key == key.line:
        return
    before = parse_public_key(share.host_key).fingerprint if share.host_key else None
    received_shares.set_host_key(tx, share.id, key.line)
    detail = {"fingerprint": key.fingerprint, "before": before}
    events.add(tx, at=now, actor=actor, action="share.host-key", subject=share.id, **detail)
