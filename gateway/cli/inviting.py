"""`invite`: making contact with people at other servers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from gateway.cli.client import fail
from gateway.cli.options import as_json, as_user, gateway
from gateway.cli.printing import facts, note, say, show_json, table
from gateway.cli.values import When

COLUMNS = ("id", "state", "note", "expires", "accepted_by", "user")


@click.group()
def invite() -> None:
    """Invite people at other servers, and accept their invites."""


@invite.command()
@as_user
@click.option("--note", help="For whom it is; only you see it.")
@click.option("--expires", type=When(), help="30d, 12h, or ISO 8601; in 7 days, if not given.")
@click.option("--qr", is_flag=True, help="Show the link as a QR code, too.")
@click.option("--svg", type=click.Path(path_type=Path), help="Write the QR code to a new file.")
@as_json
def create(
    user: str | None, note: str | None, expires: int | None, qr: bool, svg: Path | None, json_output: bool
) -> None:
    """Make an invite for one person; it is shown this once."""
    if svg is not None and svg.exists():
        raise click.UsageError(f"{svg} exists already and was left as it is; nothing was done")
    result = gateway("invite.create", note=note, expires=expires, **{"as": user})
    if svg is not None:
        _write_svg(svg, result["link"])
    if json_output:
        show_json(result)
        return
    say("Give one of these to the person you invite, over a channel you trust. It works once.")
    facts(result, ("link", "invite_string", "expires", "id"))
    if qr:
        _code(result["link"]).terminal(sys.stdout, compact=True)


@invite.command("list")
@as_user
@as_json
def list_invites(user: str | None, json_output: bool) -> None:
    """List the invites you have made, and what became of them."""
    rows = gateway("invite.list", **{"as": user})
    show_json(rows) if json_output else table(rows, COLUMNS, "Nobody was invited yet.")


@invite.command()
@click.argument("text", metavar="INVITE")
@as_user
@as_json
def accept(text: str, user: str | None, json_output: bool) -> None:
    """Accept an invite.

    INVITE is an Invite String, a link, or TOKEN@SERVER; `-` reads it from standard input.
    """
    given = sys.stdin.readline().strip() if text == "-" else text
    result = gateway("invite.accept", invite=given, **{"as": user})
    if json_output:
        show_json(result)
    else:
        say(f"{result['name'] or result['address']} is your contact now: {result['address']}.")


@invite.command()
@click.argument("invite_id", metavar="ID")
@as_user
@as_json
def revoke(invite_id: str, user: str | None, json_output: bool) -> None:
    """Take back an invite that nobody has accepted."""
    result = gateway("invite.revoke", id=invite_id, **{"as": user})
    show_json(result) if json_output else say(f"Revoked: invite {result['id']} opens nothing any more.")


def _write_svg(path: Path, link: str) -> None:
    """Write the QR code for its owner alone: it holds the token."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            _code(link).save(file, kind="svg", scale=8, unit="px")
    except OSError as error:
        fail(f"the invite is made, but {path} cannot be written: {error.strerror}. `invite list` has its id to revoke.")
    note(f"{path} holds the invite as a QR code")


def _code(link: str) -> Any:
    import segno  # here, as every other command starts faster without

    return segno.make(link, error="m", micro=False)
