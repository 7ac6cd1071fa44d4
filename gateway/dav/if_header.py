"""The If header (RFC 4918 §10.4), parsed and evaluated as pure functions.

Locks are not offered, so no state token ever matches; entity tags do. A header that is not understood is refused:
whoever sends one relies on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.dav.errors import DavError

TAGS_MAX = 32  # resources in one header; each is looked up

_TOKEN = re.compile(
    r"[ \t]*(?:(?P<open>\()|(?P<close>\))|(?P<not>[Nn][Oo][Tt])(?=[ \t<\[])"
    r'|<(?P<uri>[^<>]+)>|\[(?P<weak>W/)?"(?P<etag>[^"\]]*)"\])[ \t]*'
)


@dataclass(frozen=True, slots=True)
class Condition:
    """`etag` is None for a state token, and for a weak tag, which can never be ours."""

    negated: bool
    etag: str | None


@dataclass(frozen=True, slots=True)
class TaggedList:
    """Conditions that must all hold for one resource; `tag` None is the resource of the request."""

    tag: str | None
    conditions: tuple[Condition, ...]


def parse_if(header: str) -> list[TaggedList]:
    """Parse the header; raises DavError 400."""
    lists: list[TaggedList] = []
    tag: str | None = None
    conditions: list[Condition] | None = None  # None: outside of parentheses
    negated = False
    for kind, match in _tokens(header):
        if kind == "open" and conditions is None:
            conditions = []
        elif kind == "uri" and conditions is None:
            tag = match["uri"]
        elif conditions is None:
            raise _malformed()
        elif kind == "close" and conditions and not negated:
            lists.append(TaggedList(tag, tuple(conditions)))
            conditions = None
        elif kind == "not" and not negated:
            negated = True
        elif kind in ("uri", "etag"):
            etag = match["etag"] if kind == "etag" and not match["weak"] else None
            conditions.append(Condition(negated, etag))
            negated = False
        else:
            raise _malformed()
    if conditions is not None or not lists or len({entry.tag for entry in lists}) > TAGS_MAX:
        raise _malformed()
    return lists


def holds(lists: Iterable[TaggedList], etag_of: Callable[[str | None], str | None]) -> bool:
    """Tell whether any list holds; `etag_of` gives the present etag of a tag's resource, None where there is none."""
    return any(
        all(
            (condition.etag is not None and condition.etag == etag_of(tagged.tag)) != condition.negated
            for condition in tagged.conditions
        )
        for tagged in lists
    )


def _tokens(header: str) -> Iterable[tuple[str, re.Match[str]]]:
    position = 0
    while position < len(header):
        match = _TOKEN.match(header, position)
        if match is None:
            raise _malformed()
        position = match.end()
        kind = "etag" if match["etag"] is not None else match.lastgroup or ""
        yield kind, match


def _malformed() -> DavError:
    return DavError(400, "INVALID_CONDITION", "the If header cannot be understood")
