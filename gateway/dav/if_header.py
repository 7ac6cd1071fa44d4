"""The If header (RFC 4918 §10.4), parsed and evaluated as pure functions.

A header that is not understood is refused: whoever sends one relies on it.
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
    """An entity tag or a state token; both None is a weak tag, which can never be ours."""

    negated: bool
    etag: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """What a resource has now: its etag, None where there is none, and the tokens of the locks on it."""

    etag: str | None = None
    tokens: frozenset[str] = frozenset()

    def fulfils(self, condition: Condition) -> bool:
        if condition.token is not None:
            return (condition.token in self.tokens) != condition.negated
        return (condition.etag is not None and condition.etag == self.etag) != condition.negated


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
            etag = None if match["weak"] else match["etag"]
            conditions.append(Condition(negated, etag, match["uri"]))
            negated = False
        else:
            raise _malformed()
    if conditions is not None or not lists or len({entry.tag for entry in lists}) > TAGS_MAX:
        raise _malformed()
    return lists


def holds(lists: Iterable[TaggedList], state_of: Callable[[str | None], State]) -> bool:
    """Tell whether any list holds; `state_of` gives what the resource of a tag has now."""
    return any(all(map(state_of(tagged.tag).fulfils, tagged.conditions)) for tagged in lists)


def submitted(lists: Iterable[TaggedList]) -> frozenset[str]:
    """Return the state tokens that are shown, wherever they stand and whether or not they hold (RFC 4918 §10.4.1)."""
    return frozenset(
        condition.token for tagged in lists for condition in tagged.conditions if condition.token is not None
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
