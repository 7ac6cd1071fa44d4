"""Values on the command line: expirations, permissions, and options whose feature is not built."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

import click

from gateway.ocm.shares import LATEST_EXPIRATION

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhdw])")


class When(click.ParamType[int]):
    """A moment: `30d`, `12h`, `2w`, `45m` from now, or ISO 8601; converted to seconds since the epoch."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        moment = value if isinstance(value, int) else _moment(value)
        if moment is None:
            self.fail(f"{value!r} is no moment: write 30d, 12h, or 2027-01-31, or 2027-01-31T18:00+01:00", param, ctx)
        if moment > LATEST_EXPIRATION:
            self.fail(f"{value!r} lies beyond the year 9999; for never, leave it out", param, ctx)
        return moment


def _moment(value: str) -> int | None:
    if span := _SPAN.fullmatch(value):
        return int(time.time()) + int(span[1]) * _UNITS[span[2]]
    try:
        # Without a time zone the local one is meant, as people write it.
        return int(datetime.fromisoformat(value).astimezone().timestamp())
    except (ValueError, OverflowError, OSError):
        return None


class Words(click.ParamType[list[str]]):
    """A list separated by commas, each word one of those allowed."""

    name = "LIST"

    def __init__(self, *allowed: str) -> None:
        self._allowed = allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        words = [word.strip() for word in value.split(",") if word.strip()]
        unknown = [word for word in words if word not in self._allowed]
        if unknown or not words:
            self.fail(f"{', '.join(unknown) or 'nothing'} is not among {', '.join(self._allowed)}", param, ctx)
        return words


def not_built(what: str) -> Any:
    """Return a callback that ends the program with status 2 when the option is used."""

    def refuse(_context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        if value:
            raise click.UsageError(f"{what} is not built yet; nothing was done")

    return refuse


def placeholder(name: str, what: str) -> click.Command:
    """Return a command that is not advertised and ends the program with status 2."""

    @click.command(name, hidden=True, context_settings={"ignore_unknown_options": True}, add_help_option=False)
    @click.argument("rest", nargs=-1)
    def refuse(rest: tuple[str, ...]) -> None:  # noqa: ARG001 -- taken so that any call gets the same sentence
        raise click.UsageError(f"{what} is not built yet; nothing was done")

    return refuse
