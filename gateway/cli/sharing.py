"""`share`: what this gateway's users share with others."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.cli import by_ssh
from gateway.cli.client import FAILED
from gateway.cli.explaining import explain
from gateway.cli.options import as_json, as_user, gateway
from gateway.cli.printing import facts, history, note, say, show_json, table
from gateway.cli.values import When, Words, not_built

COLUMNS = ("id", "state", "share_with", "name", "permissions", "expiration", "owner")
FACTS = (
    "id",
    "state",
    "share_with",
    "share_type",
    "name",
    "resource_type",
    "permissions",
    "requirements",
    "protocols",
    "ssh",
    "path",
    "reshare",
    "origin",
    "owner",
    "expiration",
    "recipient_display_name",
    "created",
    "used",
    "waiting",
)
RESHARE = click.Choice(["ask", "allow"])
PERMISSIONS = Words("read", "write", "share")


@click.group()
def share() -> None:
    """Share files and folders with people at other servers."""


@share.command()
@click.argument("path")
@as_user
@click.option("--with", "share_with", required=True, metavar="OCM_ADDRESS", help="Such as bob@cloud.example.org.")
@click.option("--permissions", type=PERMISSIONS, default="read", show_default=True, help="Of read, write, share.")
@click.option("--protocols", type=Words("webdav", "ssh", "webapp"), help="webdav, ssh; what fits, if not given.")
@click.option("--expires", type=When(), help="30d, 12h, or ISO 8601; never, if not given.")
@click.option("--name", help="What the other side sees; the last part of PATH, if not given.")
@click.option("--group", is_flag=True, help="The address is a group's, such as staff@cloud.example.org.")
@click.option("--reshare", type=RESHARE, help="When somebody you gave `share` asks to share it on; ask, if not given.")
@click.option("--mfa", is_flag=True, hidden=True, callback=not_built("asking for a second factor"), expose_value=False)
@click.option("--datatx", is_flag=True, hidden=True, callback=not_built("data transfer"), expose_value=False)
@click.option("--explain", "explains", is_flag=True, help="Show what would be sent, and why; nothing is.")
@as_json
def create(
    path: str,
    user: str | None,
    share_with: str,
    permissions: list[str],
    protocols: list[str] | None,
    expires: int | None,
    name: str | None,
    explains: bool,
    group: bool,
    reshare: str | None,
    json_output: bool,
) -> None:
    """Share PATH, as in /MOUNT/FOLDER, with somebody at another server."""
    if "webapp" in (protocols or ()):
        raise click.UsageError("sharing by webapp is not built yet; nothing was done")
    arguments = {
        "as": user,
        "path": path,
        "with": share_with,
        "permissions": permissions,
        "protocols": protocols,
        "expiration": expires,
        "name": name,
        "group": group or None,
        "reshare": reshare,
    }
    if explains:
        result = gateway("share.explain", **arguments)
        show_json(result) if json_output else explain(result)
        sys.exit(FAILED if result["problem"] else 0)
    result = gateway("share.create", **arguments)
    if json_output:
        show_json(result)
    else:
        say_how_it_went(result)
        by_ssh.not_offered(result, protocols)
    sys.exit(FAILED if result["state"] == "refused" else 0)


def say_how_it_went(result: dict[str, Any]) -> None:
    """Say what has become of a Share that was just made."""
    who = result["share_with"]
    sentences = {
        "sent": f"Shared with {who}, whose server has taken it. It is theirs to accept now.",
        "accepted": f"Shared with {who}, who has accepted it.",
        "pending": f"The Share is stored, but {who}'s server could not be told yet; it is tried again.",
        "refused": f"{who}'s server has refused the Share.",
        "declined": f"{who} has declined the Share.",
    }
    say(sentences.get(result["state"], f"The Share is {result['state']}."))
    facts(result, ("id", "name", "permissions", "protocols", "ssh", "expiration"))
    by_ssh.keys(result)
    if result.get("problem") and result["state"] in ("pending", "refused"):
        note(result["problem"])


@share.command("list")
@as_user
@as_json
def list_shares(user: str | None, json_output: bool) -> None:
    """List what you have shared."""
    rows = gateway("share.list", **{"as": user})
    show_json(rows) if json_output else table(rows, COLUMNS, "Nothing is shared yet.")


@share.command()
@click.argument("share_id", metavar="ID")
@as_user
@as_json
def show(share_id: str, user: str | None, json_output: bool) -> None:
    """Show one Share and what has happened to it."""
    _show(gateway("share.show", id=share_id, **{"as": user}), json_output)


@share.command()
@click.argument("share_id", metavar="ID")
@as_user
@click.option("--permissions", type=PERMISSIONS, help="The new permissions, all of them.")
@click.option("--expires", type=When(), help="The new end: 30d, 12h, or ISO 8601.")
@click.option("--never-expires", is_flag=True, help="Take the end away.")
@click.option("--reshare", type=RESHARE, help="Whether those you gave `share` ask you to share it on, or just do.")
@as_json
def update(
    share_id: str,
    user: str | None,
    permissions: list[str] | None,
    expires: int | None,
    never_expires: bool,
    reshare: str | None,
    json_output: bool,
) -> None:
    """Change the permissions or the end of a Share, or who decides about sharing it on."""
    if permissions is None and expires is None and not never_expires and reshare is None:
        raise click.UsageError("say what to change: --permissions, --expires, --never-expires or --reshare")
    if expires is not None and never_expires:
        raise click.UsageError("--expires and --never-expires exclude each other")
    arguments = {
        "permissions": permissions,
        "expiration": expires,
        "never_expires": never_expires or None,
        "reshare": reshare,
        "as": user,
    }
    _show(gateway("share.update", id=share_id, **arguments), json_output)


@share.command()
@click.argument("share_id", metavar="ID")
@as_user
@as_json
def revoke(share_id: str, user: str | None, json_output: bool) -> None:
    """End a Share: it opens nothing from now on, and the other server is told."""
    result = gateway("share.revoke", id=share_id, **{"as": user})
    if json_output:
        show_json(result)
    else:
        say(f"Revoked: {result['share_with']} has no access to {result['name']} any more.")


def _show(result: dict[str, Any], json_output: bool) -> None:
    if json_output:
        show_json(result)
        return
    facts(result, FACTS)
    by_ssh.keys(result)
    history(result.get("events", ()))
