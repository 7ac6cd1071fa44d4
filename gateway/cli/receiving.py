"""`received`: what others share with this gateway's users."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from gateway.cli import by_ssh, keeping
from gateway.cli.client import FAILED
from gateway.cli.options import as_json, as_user, gateway
from gateway.cli.printing import ago, facts, history, note, say, show_json, table, text
from gateway.cli.sharing import PERMISSIONS

COLUMNS = ("id", "state", "sender", "name", "permissions", "mount", "user")
KEPT = ("path", "source", "state", "files", "bytes", "skipped", "failed", "begun", "ended")
FACTS = (
    "id",
    "state",
    "sender",
    "owner",
    "share_with",
    "share_type",
    "evidence",
    "name",
    "description",
    "resource_type",
    "permissions",
    "protocols",
    "requirements",
    "encrypted",
    "mount",
    "ssh",
    "user",
    "expiration",
    "created",
    "last_seen",
    "unreachable_since",
    "waiting",
)


@click.group()
def received() -> None:
    """Accept, decline and leave what others share with you."""


@received.command("list")
@as_user
@as_json
def list_received(user: str | None, json_output: bool) -> None:
    """List what others share with you."""
    rows = gateway("received.list", **{"as": user})
    if json_output:
        show_json(rows)
        return
    table(rows, COLUMNS, "Nobody has shared anything yet.")
    for row in rows:
        if row["unreachable_since"]:
            seen = f"last seen {ago(row['probed'])}, " if row["probed"] else ""
            note(f"{row['name']} of {row['sender']}: {seen}unreachable since {text('at', row['unreachable_since'])}")


@received.command()
@click.argument("share_id", metavar="ID")
@as_user
@as_json
def show(share_id: str, user: str | None, json_output: bool) -> None:
    """Show one Share and what has happened to it."""
    result = gateway("received.show", id=share_id, **{"as": user})
    if json_output:
        show_json(result)
        return
    facts(result | {"last_seen": ago(result["probed"])}, FACTS)
    by_ssh.host_key(result, user)
    by_ssh.commands(result)
    history(result["events"])
    if result["kept"]:
        say("kept as files:")
        table(result["kept"], KEPT, "")


@received.command()
@click.argument("share_id", metavar="ID")
@as_user
@click.option("--into", metavar="/MOUNT/PATH", help="Copy its content there too, as `received cp` does.")
@click.option("--host-key", metavar="SHA256:...", help="Believe its SSH server with this host key, and no other.")
@as_json
def accept(share_id: str, user: str | None, into: str | None, host_key: str | None, json_output: bool) -> None:
    """Accept a Share: it appears in your tree under /received/.

    What is shared by SSH alone needs your word that the host key is the right one. Accept again to change that.
    """
    if host_key is None:
        host_key = by_ssh.confirmed(gateway("received.show", id=share_id, **{"as": user}), user)
    result = gateway("received.accept", id=share_id, host_key=host_key, **{"as": user})
    if into is not None and json_output:
        _keep(share_id, user, into, result)
    if json_output:
        show_json(result)
        return
    if result["mount"] is None:
        say(f"Accepted: {result['sender']}'s {result['resource_type']} {result['name']} is there to be fetched.")
        by_ssh.commands(result)
    else:
        say(f"Accepted: {result['mount']} is {result['sender']}'s {result['resource_type']}.")
    _say_what_waits(result)
    if result["problem"]:
        note(f"its content cannot be seen yet: {result['problem']}")
    by_ssh.say_what_to_do(result, result["problem"])
    if into is not None:
        _keep(share_id, user, into)


def _keep(share_id: str, user: str | None, into: str, accepted: dict[str, Any] | None = None) -> NoReturn:
    arguments = {"id": share_id, "path": into, "as": user}
    keeping.keep(arguments, overwrite=False, json_output=accepted is not None, shown=accepted)


@received.command()
@click.argument("share_id", metavar="ID")
@as_user
@as_json
def decline(share_id: str, user: str | None, json_output: bool) -> None:
    """Decline a Share that you have not accepted."""
    _part("received.decline", "Declined", share_id, user, json_output)


@received.command()
@click.argument("share_id", metavar="ID")
@as_user
@as_json
def leave(share_id: str, user: str | None, json_output: bool) -> None:
    """Give back a Share that you have accepted."""
    _part("received.leave", "Left", share_id, user, json_output)


@received.command()
@click.argument("share_id", metavar="ID")
@as_user
@click.option("--with", "share_with", required=True, metavar="OCM_ADDRESS", help="Such as carol@cloud.example.org.")
@click.option("--permissions", type=PERMISSIONS, help="No more than you have; all but `share`, if not given.")
@as_json
def reshare(share_id: str, user: str | None, share_with: str, permissions: list[str] | None, json_output: bool) -> None:
    """Ask the owner to share it with OCM_ADDRESS too; you need the permission `share`."""
    arguments = {"as": user, "with": share_with, "permissions": permissions}
    result = gateway("received.reshare", id=share_id, **arguments)
    if json_output:
        show_json(result)
    else:
        say(f"Asked {result['owner']} to share it with {share_with}: the request is {result['state']}.")
        if result["problem"]:
            note(result["problem"])
    sys.exit(FAILED if result["state"] == "refused" else 0)


def _part(command: str, word: str, share_id: str, user: str | None, json_output: bool) -> None:
    result = gateway(command, id=share_id, **{"as": user})
    if json_output:
        show_json(result)
        return
    say(f"{word}: {result['name']} of {result['sender']}.")
    _say_what_waits(result)


def _say_what_waits(result: dict[str, Any]) -> None:
    if result["waiting"]:
        note(f"the sender could not be told yet ({result['waiting']}); it is tried again until it answers")


received.add_command(keeping.cp)
