"""A backend of type `sftp`: a directory on an SSH server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from gateway.config.section import Section
from gateway.config.values import PeerHost, ReadableFile, refuse

CONNECTIONS_MAX = 32


def _port(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 65535:
        refuse("a port, from 1 to 65535")
    return value


def _account(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value or " " in value or len(value) > 255:
        refuse("the name of an account on the server, without spaces")
    return value


def _root(value: object) -> str:
    """Return a path on the server; nothing of it is looked at here."""
    allowed = "a directory on the server, as in /srv/data, or as in data below where the account logs in, without '..'"
    if not isinstance(value, str) or not value or "\0" in value or ".." in value.split("/"):
        refuse(allowed)
    return value


def _connections(value: object) -> int:
    if type(value) is not int or not 1 <= value <= CONNECTIONS_MAX:
        refuse(f"a number from 1 to {CONNECTIONS_MAX}")
    return value


class SFTPConfig(Section):
    """A directory on an SSH server, and the account that serves it."""

    type: Literal["sftp"]
    host: PeerHost = Field(description="a host name or address without scheme and port, as in storage.lab.example")
    port: Annotated[int, PlainValidator(_port)] = 22
    user: Annotated[str, PlainValidator(_account)] = Field(description="the name of an account on the server")
    key_file: ReadableFile | None = Field(default=None, description="a file with a private key without pass phrase")
    password_file: ReadableFile | None = Field(default=None, description="a file with nothing but the password")
    known_hosts_file: ReadableFile = Field(description="a file with the server's host keys, as ssh-keyscan prints them")
    root: Annotated[str, PlainValidator(_root)] = Field(description="a directory on the server")
    connections: Annotated[int, PlainValidator(_connections)] = 4

    @model_validator(mode="after")
    def _proves_itself_in_one_way(self) -> SFTPConfig:
        if (self.key_file is None) == (self.password_file is None):
            found = "neither" if self.key_file is None else "both"
            refuse("one of key_file and password_file", found)
        return self
