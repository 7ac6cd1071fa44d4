"""The section `federation.legacy`: to whom ways that prove less than the draft's own are open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from gateway.config.section import Section
from gateway.config.values import http_host, names_host, refuse

ALLOW: Literal["allow"] = "allow"
DENY: Literal["deny"] = "deny"


def _openness(value: object) -> str | tuple[str, ...]:
    """Return allow, deny, or the hosts that are allowed; an empty list could be meant as everybody or as nobody."""
    if value in (ALLOW, DENY):
        return str(value)
    if not isinstance(value, Iterable) or isinstance(value, str) or not (hosts := tuple(value)):
        refuse("allow, deny, or a list of the hosts that may, each a name or '.' and a suffix of names")
    try:
        return tuple(map(http_host, hosts))
    except PydanticCustomError:
        refuse("allow, deny, or a list of host names without port, or of '.' and suffixes, as in .lab.example.org")


Openness = Annotated[Literal["allow", "deny"] | tuple[str, ...], PlainValidator(_openness)]


class LegacyConfig(Section):
    """The ways, each with the hosts that it is open to."""

    basic: Openness = ALLOW
    bearer_secret: Openness = ALLOW
    unsigned: Openness = ALLOW
    cavage: Openness = ALLOW


def is_open(openness: str | tuple[str, ...], server: str) -> bool:
    """Tell whether a way is open to `server`, a host[:port] in its one form."""
    if isinstance(openness, str):
        return openness == ALLOW
    host, _, port = server.rpartition(":")
    return names_host(openness, host if port.isdigit() else server)
