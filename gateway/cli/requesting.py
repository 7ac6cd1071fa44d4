"""`request`: asking others for a Share, and answering those who ask."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway.cli.client import FAILED
from gateway.cli.options import as_json, as_user, gateway
from gateway.cli.printing import facts, history, note, say, show_json, table
from gateway.cli.sharing import PERMISSIONS, say_how_it_went
from gateway.cli.values import When

COLUMNS = ("id", "direction", "kind", "state", "owner", "share_with", "resource", "permissions", "share")
FACTS = (
    "id",
    "direction",
    "kind",
    "state",
    "owner",
    "share_with",
    "resource",
    "permissions",
    "share",
    "created",
    "waiting",
)


@click.group()
def request() -> None:
    """Ask others for a Share, and answer those who ask you."""


@request.command()
@click.argument("owner", metavar="OCM_ADDRESS")
@click.argument("resource", metavar="PATH_OR_ID")
@as_user
@click.option("--permissions", type=PERMISSIONS, default="read", show_default=True, help="Of read, write, share.")
@as_json
def create(owner: str, resource: str, user: str | None, permissions: list[str], json_output: bool) -> None:
    """Ask OCM_ADDRESS to share PATH_OR_ID, in the words of that server, with you."""
    arguments = {"as": user, "owner": owner, "resource": resource, "permissions": permissions}
    result = gateway("request.create", **arguments)
    if json_output:
        show_json(result)
    else:
        _say_how_it_was_asked(result)
    sys.exit(FAILED if result["state"] == "refused" else 0)


def _say_how_it_was_asked(result: dict[str, Any]) -> None:
    owner = result["owner"]
    sentences = {
        "sent": f"{owner}'s server has taken the request. A Share that comes of it is in `received list`.",
        "pending": f"The request is stored, but {owner}'s server could not be told yet; it is tried again.",
        "refused": f"{owner}'s server has not taken the request.",
    }
    say(sentences.get(result["state"], f"The request is {result['state']}."))
    facts(result, ("id", "resource", "permissions"))
    if result["problem"] and result["state"] in ("pending", "refused"):
        note(result["problem"])


@request.command("list")
@as_user
@as_json
def list_requests(user: str | None, json_output: bool) -> None:
    """List what you are asked for, and what you have asked for."""
    rows = gateway("request.list", **{"as": user})
    show_json(rows) if json_output else table(rows, COLUMNS, "Nobody has asked for anything.")


@request.command()
@click.argument("request_id", metavar="ID")
@as_user
@as_json
def show(request_id: str, user: str | None, json_output: bool) -> None:
    """Show one request and what has happened to it."""
    result = gateway("request.show", id=request_id, **{"as": user})
    if json_output:
        show_json(result)
        return
    facts(result, FACTS)
    history(result["events"])


@request.command()
@click.argument("request_id", metavar="ID")
@as_user
@click.option("--path", help="What to share; what was asked for, if not given.")
@click.option("--permissions", type=PERMISSIONS, help="Of read, write, share; those asked for, if not given.")
@click.option("--expires", type=When(), help="30d, 12h, or ISO 8601; never, if not given.")
@as_json
def grant(
    request_id: str,
    user: str | None,
    path: str | None,
    permissions: list[str] | None,
    expires: int | None,
    json_output: bool,
) -> None:
    """Share with who has asked you."""
    arguments = {"as": user, "path": path, "permissions": permissions, "expiration": expires}
    result = gateway("request.grant", id=request_id, **arguments)
    if json_output:
        show_json(result)
    else:
        say_how_it_went(result)
    sys.exit(FAILED if result["state"] == "refused" else 0)


@request.command()
@click.argument("request_id", metavar="ID")
@as_user
@as_json
def decline(request_id: str, user: str | None, json_output: bool) -> None:
    """Share nothing, and let who has asked know."""
    result = gateway("request.decline", id=request_id, **{"as": user})
    if json_output:
        show_json(result)
        return
    say(f"Declined: {result['share_with']} gets no Share of {result['resource']}.")
    if result["waiting"]:
        note(f"the other server could not be told yet ({result['waiting']}); it is tried again until it answers")
