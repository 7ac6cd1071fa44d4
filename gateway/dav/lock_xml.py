"""Locks as XML and headers: what a LOCK asks for, and how locks are shown (RFC 4918 §14, §15.8, §10.7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.dav.call import Call, address
from gateway.dav.xml import BadXml, fragment, parse_body
from gateway.locks import OWNER_MAX, TIME_MAX, Lock, Wish

SCOPES = {"{DAV:}exclusive": True, "{DAV:}shared": False}
SUPPORTED = "".join(
    f"<d:lockentry><d:lockscope><d:{scope}/></d:lockscope><d:locktype><d:write/></d:locktype></d:lockentry>"
    for scope in ("exclusive", "shared")
)

_SECONDS = re.compile(r"second-([0-9]+)")


def parse_lockinfo(body: bytes, *, deep: bool, seconds: int | None) -> Wish:
    """Parse the body of a LOCK; raises BadXml, also for locks of a kind that there is not."""
    root = parse_body(body, "lockinfo")
    scopes = [child.tag for child in root.iterfind("{DAV:}lockscope/*")]
    kinds = [child.tag for child in root.iterfind("{DAV:}locktype/*")]
    if len(scopes) != 1 or scopes[0] not in SCOPES or kinds != ["{DAV:}write"]:
        raise BadXml("a lockinfo has one lockscope, exclusive or shared, and the locktype write")
    owner = root.find("{DAV:}owner")
    text = None if owner is None else fragment(owner)
    if text is not None and len(text) > OWNER_MAX:
        raise BadXml(f"an owner of more than {OWNER_MAX} characters")
    return Wish(exclusive=SCOPES[scopes[0]], deep=deep, owner=text, seconds=seconds)


def parse_timeout(header: str | None) -> int | None:
    """Return the first time in a Timeout header that is understood, in seconds; None where there is none."""
    for value in (header or "").lower().split(","):
        if value.strip() == "infinite":
            return TIME_MAX
        if match := _SECONDS.fullmatch(value.strip()):
            return min(int(match[1][:12]), TIME_MAX)
    return None


@dataclass(frozen=True, slots=True)
class Shown:
    """How the caller of one request sees locks: only who has taken a lock sees its token."""

    call: Call
    seconds_left: Callable[[Lock], int]

    def text(self, locks: Iterable[Lock], *, root_is_directory: bool) -> str:
        """Return the content of lockdiscovery; `root_is_directory` is about locks on the resource itself."""
        return "".join(self._active(lock, root_is_directory) for lock in locks)

    def _active(self, lock: Lock, root_is_directory: bool) -> str:
        place = self.call.place
        is_above = lock.path != place.path and place.path.is_within(lock.path)
        root = address(place, self.call.location, lock.path).href(is_directory=is_above or root_is_directory)
        own = lock.principal == self.call.grant.principal
        token = f"<d:locktoken><d:href>{lock.token}</d:href></d:locktoken>" if own else ""
        return (
            "<d:activelock><d:locktype><d:write/></d:locktype>"
            f"<d:lockscope><d:{'exclusive' if lock.exclusive else 'shared'}/></d:lockscope>"
            f"<d:depth>{'infinity' if lock.deep else '0'}</d:depth>{lock.owner or ''}"
            f"<d:timeout>Second-{self.seconds_left(lock)}</d:timeout>{token}"
            f"<d:lockroot><d:href>{root}</d:href></d:lockroot></d:activelock>"
        )
