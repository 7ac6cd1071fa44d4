"""The section `ssh`: how users prove themselves at the SSH door, and what one client may ask of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, PlainValidator, ValidationInfo

from gateway.config.section import Section
from gateway.config.strict_modes import require_unshared
from gateway.config.values import ADDRESS_AND_PORT, HOST_NAME, Address, Seconds, canonical_ip, refuse, resolve

USER = "{user}"


def _public(value: object) -> Address | None:
    if value is None or isinstance(value, Address):
        return value
    parts = ADDRESS_AND_PORT.fullmatch(value.lower()) if isinstance(value, str) else None
    host = parts[1].strip("[]") if parts else ""
    if parts is None or not 1 <= int(parts[2]) <= 65535 or not (canonical_ip(host) or HOST_NAME.fullmatch(host)):
        refuse("'HOST:PORT' as others reach it, as in 'cloud.example.org:2022'; null for the host of public_url")
    return Address(canonical_ip(host) or host, int(parts[2]))


def _file_of_user(value: object, info: ValidationInfo) -> Path | None:
    """Return the path with its {user}; whether there is a file is seen for each user when he logs in."""
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or "\0" in value or USER not in value or set("{}") & set(value.replace(USER, "")):
        refuse(f"a path with {USER} in it, as in /etc/ocm-gateway/keys/{USER}; null for none")
    directory: Path = (info.context or {})["directory"]
    return resolve(value, directory)


def _command(value: object, info: ValidationInfo) -> tuple[str, ...]:
    """Return the program and its arguments; a program that others may change is refused, as sshd does."""
    if value is None or isinstance(value, tuple):
        return value or ()
    allowed = f"a list: the path of a program, and its arguments, of which one has {USER}; null for none"
    if not isinstance(value, list) or not all(isinstance(word, str) and "\0" not in word for word in value):
        refuse(allowed)
    if not value or not value[0] or not any(USER in word for word in value[1:]):
        refuse(allowed)
    directory: Path = (info.context or {})["directory"]
    program = resolve(value[0], directory)
    if not program.is_file() or not os.access(program, os.X_OK):
        refuse(allowed, f"{str(program)!r}, which is no program that this user can run")
    try:
        require_unshared(program)
    except (OSError, ValueError) as error:
        refuse("a program that nobody but root and this user can change or replace", str(error))
    return str(program), *value[1:]


def _number(least: int, most: int, what: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            refuse(f"{what} from {least:,} to {most:,}")
        return value

    return check


Count = Annotated[int, PlainValidator(_number(1, 1_000_000, "a number"))]
Bytes = Annotated[int, PlainValidator(_number(1024 * 1024, 1024**3, "a number of bytes"))]


class SSHConfig(Section):
    """What holds at the SSH door; without `listen.ssh` there is none."""

    public: Annotated[Address | None, PlainValidator(_public)] = None
    passwords: bool = Field(default=False, description="true or false")
    authorized_keys_file: Annotated[Path | None, PlainValidator(_file_of_user)] = None
    authorized_keys_command: Annotated[tuple[str, ...], PlainValidator(_command)] = ()
    connections: Count = 1000
    connections_per_address: Count = 50
    login_time: Seconds = 60.0
    idle_time: Seconds = 900.0
    keepalive: Seconds = 30.0
    handles: Count = 1000
    in_flight: Bytes = 16 * 1024 * 1024
