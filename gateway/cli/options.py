"""Options that many commands share, and the way from a command to the admin socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.cli.client import call, fail
from gateway.config import ConfigError, admin_socket

F = TypeVar("F", bound=Callable[..., Any])

as_user: Callable[[F], F] = click.option(
    "--as", "user", metavar="USER", help="The user to act as; root and the service may act as anyone."
)
as_json: Callable[[F], F] = click.option("--json", "json_output", is_flag=True, help="Print JSON, for scripts.")


def gateway(command: str, /, **arguments: Any) -> Any:
    """Call the gateway that the `--config` file describes."""
    path: Path = click.get_current_context().find_root().obj
    try:
        socket = admin_socket(path)
    except ConfigError as error:
        fail(f"{path} names no gateway to talk to:\n{error}")
    return call(socket, command, **arguments)
