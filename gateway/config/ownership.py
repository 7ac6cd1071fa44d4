"""`backends.NAME.ownership`: whose new files are. Names of accounts and groups become numbers here."""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from gateway.config.section import Section, chosen_by
from gateway.config.values import refuse

_ID_MAX = 0xFFFF_FFFE  # (uid_t) -1 is nobody's


def _umask(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?0[0-7]{2}", value):
        refuse("the permissions that new files do not get, in quotes and beginning with 0, as in '007' or '0022'")
    return int(value, 8)


def _number(value: object, look_up: Callable[[str], int]) -> int | None:
    """Return an id that is given as number or name, None where there is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value <= _ID_MAX else None
    try:
        return look_up(value) if isinstance(value, str) else None
    except (KeyError, ValueError):  # ValueError: a NUL
        return None


def _user(value: object) -> int:
    uid = _number(value, lambda name: pwd.getpwnam(name).pw_uid)
    return refuse("an account of this machine, by name or number") if uid is None else uid


def _group(value: object) -> int:
    gid = _number(value, lambda name: grp.getgrnam(name).gr_gid)
    return refuse("a group of this machine, by name or number") if gid is None else gid


def _minimum_uid(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _ID_MAX:
        refuse("the lowest uid that a user may have, from 1")
    return value


Umask = Annotated[int, PlainValidator(_umask)]


class ServiceOwnership(Section):
    """New files belong to the account that the service runs as."""

    mode: Literal["service"] = "service"
    umask: Umask | None = None


class FixedOwnership(Section):
    """New files are given to one account."""

    mode: Literal["fixed"]
    umask: Umask | None = None
    user: Annotated[int, PlainValidator(_user)] = Field(description="an account of this machine, by name or number")
    group: Annotated[int, PlainValidator(_group)] = Field(
        description="a group of this machine, by name or number; only a user with an account has one by itself"
    )

    @model_validator(mode="before")
    @classmethod
    def _group_of_the_user(cls, value: object) -> object:
        """Take the primary group of the user where none is given."""
        if isinstance(value, Mapping) and "group" not in value:
            uid = _number(value.get("user"), lambda name: pwd.getpwnam(name).pw_uid)
            try:
                return value if uid is None else {**value, "group": pwd.getpwuid(uid).pw_gid}
            except KeyError:
                return value
        return value


class MapOwnership(Section):
    """Every user works as the account of his own name."""

    mode: Literal["map"]
    umask: Umask | None = None
    minimum_uid: Annotated[int, PlainValidator(_minimum_uid)] = 1000  # login.defs(5), UID_MIN


OwnershipConfig = ServiceOwnership | FixedOwnership | MapOwnership
OWNERSHIPS: Mapping[str, type[ServiceOwnership | FixedOwnership | MapOwnership]] = MappingProxyType(
    {"service": ServiceOwnership, "fixed": FixedOwnership, "map": MapOwnership}
)
Ownership = Annotated[OwnershipConfig, PlainValidator(chosen_by("mode", OWNERSHIPS, default="service"))]
