"""PROPFIND of a received folder whose server does not answer: its last known listing, marked as what it is.

Clients that know nothing of it show the folder as it was. Who looks finds `Warning: 110` (RFC 7234 §5.5.1) and `Age`
(RFC 9111 §5.1) in the head, and the property `stale-since` with every entry. A file is not served so: its GET is 503.
"""

from __future__ import annotations

from aiohttp import web

from backends.interface import Entry
from gateway.dav.call import Call
from gateway.dav.paths import Location
from gateway.dav.properties import Form, Question, Surroundings
from gateway.last_seen import Seen

WARNING = '110 - "Response is Stale"'


def stale_text(call: Call, question: Question, seen: Seen) -> str:
    """Return the responses for what was seen, the resource itself first."""

    def response(where: Location, entry: Entry, *, is_root: bool) -> str:
        around = Surroundings(call.place.rights, is_root=is_root, stale_since=seen.taken)
        return Form(question, entry.kind, around).fill(where.href(is_directory=entry.is_directory), entry)

    return response(call.location, seen.entry, is_root=call.place.is_root) + "".join(
        response(call.location.below((member.name,)), member, is_root=False) for member in seen.members
    )


def mark(answer: web.Response, seen: Seen, now: float) -> web.Response:
    """Say in the head of `answer` that it is stale, and how old."""
    answer.headers["Warning"] = WARNING
    answer.headers["Age"] = str(max(0, int(now) - seen.taken))
    return answer
