"""Who calls on the admin socket, what a command is, and how it reads its arguments.

A caller is root or the service itself, who act as anyone, or another account, which acts only as the user of its own
name; what concerns users, peers and keys is for the former alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backends.errors import InvalidPath
from backends.paths import StoragePath
from gateway.errors import Invalid, NotAllowed
from gateway.ocm.address import canonical_server
from gateway.ocm.errors import ProtocolError
from gateway.ocm.fields import INTEGER_MAX

OPERATOR = "(operator)"  # as an actor; no account can have this name, and no user


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `user` is None for root and the service, who may act as anyone."""

    user: str | None

    @property
    def actor(self) -> str:
        return self.user or OPERATOR

    def acting_as(self, wanted: str | None) -> str:
        """Return the user to act as; raises NotAllowed, Invalid."""
        if self.user is None and wanted is None:
            raise Invalid("USER_MISSING", "say for whom, with `--as USER`")
        if self.user is not None and wanted not in (None, self.user):
            raise NotAllowed("NOT_YOURSELF", f"you can act as {self.user} only; ask the operator for the rest")
        return wanted or self.user or ""

    def scope(self, wanted: str | None) -> str | None:
        """Return whose Shares are meant: None, for operators alone, means everybody's."""
        return wanted if self.user is None else self.acting_as(wanted)

    def require_operator(self) -> None:
        if self.user is not None:
            raise NotAllowed("OPERATOR_ONLY", "this is for root and the service's own account")


Arguments = Mapping[str, Any]
Command = Callable[[Caller, Arguments], Awaitable[Any]]


def optional(arguments: Arguments, name: str) -> str | None:
    """Return a text that may be left out; raises Invalid."""
    value = arguments.get(name)
    if value is not None and not _is_text(value):
        raise Invalid("ARGUMENT_INVALID", f"the argument {name} has to be text in UTF-8")
    return value


def text(arguments: Arguments, name: str) -> str:
    """Return a text that has to be there; raises Invalid."""
    value = optional(arguments, name)
    if not value:
        raise Invalid("ARGUMENT_MISSING", f"the argument {name} is missing")
    return value


def words(arguments: Arguments, name: str) -> list[str] | None:
    """Return a list of words that may be left out; raises Invalid."""
    value = arguments.get(name)
    if value is not None and not (isinstance(value, list) and all(map(_is_text, value))):
        raise Invalid("ARGUMENT_INVALID", f"the argument {name} has to be a list of words")
    return value


def number(arguments: Arguments, name: str) -> int | None:
    """Return a whole number that may be left out; raises Invalid."""
    value = arguments.get(name)
    if value is not None and (type(value) is not int or abs(value) > INTEGER_MAX):
        raise Invalid("ARGUMENT_INVALID", f"the argument {name} has to be a whole number")
    return value


def flag(arguments: Arguments, name: str) -> bool:
    """Return whether something is wanted; raises Invalid."""
    value = arguments.get(name, False)
    if not isinstance(value, bool):
        raise Invalid("ARGUMENT_INVALID", f"the argument {name} has to be true or false")
    return value


def _is_text(value: object) -> bool:
    """Tell whether `value` is text that the state can hold: JSON may carry lone surrogates."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def path(arguments: Arguments, name: str = "path") -> StoragePath:
    """Return a path; bytes that are not UTF-8 come as surrogates, as os.fsdecode makes them."""
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise Invalid("ARGUMENT_MISSING", f"the argument {name} is missing")
    try:
        return StoragePath.parse(value)
    except InvalidPath as error:
        raise Invalid("INVALID_PATH", str(error)) from error


def server(arguments: Arguments) -> str:
    """Return the one form of host[:port]; raises Invalid."""
    try:
        return canonical_server(text(arguments, "server"))
    except ProtocolError as error:
        raise Invalid("INVALID_SERVER", error.reason) from error
