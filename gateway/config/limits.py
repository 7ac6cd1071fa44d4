"""The section `limits`: how often one client may do what."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainValidator

from gateway.config.section import Section
from gateway.config.values import refuse

MOST = 1_000_000


def _count(value: object) -> int:
    if type(value) is not int or not 1 <= value <= MOST:
        refuse(f"a number from 1 to {MOST:,}")
    return value


def _rate(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MOST:
        refuse(f"a number per second, more than 0 and at most {MOST:,}")
    return float(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        refuse("true or false")
    return value


class LimitConfig(Section):
    """How often one client may do something: at once, and per second from then on."""

    burst: Annotated[int, PlainValidator(_count)] = Field(description="how often at once")
    rate: Annotated[float, PlainValidator(_rate)] = Field(description="how often per second from then on")


def _limit(burst: int, rate: float) -> LimitConfig:
    return LimitConfig(burst=burst, rate=rate)


class LimitsConfig(Section):
    """How much of everything one client may ask for, at each worker process."""

    enabled: Annotated[bool, PlainValidator(_switch)] = True
    discovery: LimitConfig = _limit(200, 20)
    jwks: LimitConfig = _limit(200, 20)
    shares: LimitConfig = _limit(500, 10)  # a group of 500 in one go: who is refused does not always try again
    notifications: LimitConfig = _limit(500, 20)
    token: LimitConfig = _limit(600, 100)  # reva asks for one before each operation (peers.md §8)
    invite_accepted: LimitConfig = _limit(30, 0.5)
    request_share: LimitConfig = _limit(30, 0.5)
    pages: LimitConfig = _limit(200, 20)
    peers: LimitConfig = _limit(1000, 100)
    logins: LimitConfig = _limit(60, 0.5)
    secrets: LimitConfig = _limit(300, 30)
    repeats: LimitConfig = _limit(10, 0.05)  # a client that asks again at once still sees why: 401
