"""The one table from refusals to the statuses of pages."""

from __future__ import annotations

from gateway.errors import (
    Busy,
    Conflict,
    Full,
    Invalid,
    Locked,
    NoSuch,
    NotAllowed,
    NotBuilt,
    PeerFailed,
    Refusal,
    TooMany,
    Unproven,
)

STATUS: dict[type[Refusal], int] = {
    Invalid: 400,
    Unproven: 401,
    NotAllowed: 403,
    NoSuch: 404,
    Conflict: 409,
    Locked: 423,
    TooMany: 429,
    NotBuilt: 501,
    PeerFailed: 502,
    Busy: 503,
    Full: 507,
}
