"""Shares that are met by SSH: the keys that open them, the host key to believe, and what a recipient types."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click

from gateway.cli.client import Failed
from gateway.cli.options import gateway
from gateway.cli.printing import note, say, table
from gateway.ocm.ssh_address import SSHAddress

LIVE = ("pending", "accepted")


def keys(share: dict[str, Any]) -> None:
    """Show which keys open a Share of ours, if it is offered by SSH."""
    if share["ssh"] is not None:
        say("opened by SSH with:")
        table(share["keys"], ("fingerprint", "type"), "no key: the other server has not answered any that can be used")


def not_offered(share: dict[str, Any], wanted: list[str] | None) -> None:
    """Say that a Share of ours is not offered by SSH, though that was asked for beside another protocol."""
    if "ssh" in (wanted or ()) and share["ssh"] is None and share["protocols"]:
        note("it is not offered by SSH: the other server does not receive Shares so, or demands the token exchange")


def host_key(share: dict[str, Any], user: str | None) -> None:
    """Show the host key of a received Share's SSH server: the one that was accepted, or else the one it has now."""
    if "ssh" not in share["protocols"]:
        return
    if share["host_key"] is not None:
        say(f"host key: {share['host_key']['fingerprint']} ({share['host_key']['type']}), accepted")
    elif share["state"] in LIVE:
        try:
            shown = _shown(share, user)
        except Failed:
            return  # which has said why
        say(f"host key: {shown['fingerprint']} ({shown['type']}), as its server shows it now; not accepted")


def confirmed(share: dict[str, Any], user: str | None) -> str | None:
    """Return the fingerprint that somebody at a terminal says yes to; None where that is not needed, or nobody is."""
    if share["protocols"] != ["ssh"] or share["host_key"] is not None or not _is_at_terminal():
        return None
    shown = _shown(share, user)
    say(f"{share['sender']} shares {share['name']} by SSH, at {share['ssh']}.")
    say(f"That server shows the host key {shown['fingerprint']} ({shown['type']}).")
    click.confirm("Is that what the sender says it is? It is the only one that is believed from now on", abort=True)
    return str(shown["fingerprint"])


def commands(share: dict[str, Any]) -> None:
    """Say what somebody types who has a key of his own there."""
    if share["ssh"] is None or share["state"] not in LIVE:
        return
    address = SSHAddress.parse(share["ssh"])
    who, port = f"{address.user}@{address.host}", address.port
    place = shlex.quote(f"{who}:{address.path or '.'}")
    recursive = "-r " if share["resource_type"] == "folder" else ""
    say("with a key of yours (`user key add`), from any machine:")
    say(f"  sftp -P {port} {place}")
    say(f"  scp -P {port} {recursive}{place} .")
    if recursive:
        say(f"  sshfs -p {port} {place} DIRECTORY")


def say_what_to_do(share: dict[str, Any], problem: str | None) -> None:
    """Say how a Share whose content cannot be seen is reached by SSH, where that is offered too."""
    if problem is not None and "ssh" in share["protocols"] and share["host_key"] is None:
        note(f"it is offered by SSH as well: `received show {share['id']}` shows the host key to accept")


def _is_at_terminal() -> bool:
    return sys.stdin.isatty()


def _shown(share: dict[str, Any], user: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = gateway("received.host-key", id=share["id"], **{"as": user})
    return shown
