"""`contact`: the people a user knows at other servers."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway.cli.options import as_json, as_user, gateway
from gateway.cli.printing import facts, note, say, show_json, table

COLUMNS = ("address", "name", "source", "verified", "auto_accept", "user")
FACTS = ("address", "name", "email", "source", "verified", "auto_accept", "created", "user")

address = click.argument("address", metavar="OCM_ADDRESS")


@click.group()
def contact() -> None:
    """Your contacts at other servers."""


@contact.command("list")
@as_user
@as_json
def list_contacts(user: str | None, json_output: bool) -> None:
    """List your contacts, and where each came from."""
    rows = gateway("contact.list", **{"as": user})
    show_json(rows) if json_output else table(rows, COLUMNS, "There are no contacts yet; `invite create` makes some.")


@contact.command()
@address
@as_user
@as_json
def show(address: str, user: str | None, json_output: bool) -> None:
    """Show one contact."""
    _show(gateway("contact.show", address=address, **{"as": user}), json_output)


@contact.command()
@address
@as_user
@click.option("--name", help="What you call them.")
@click.option("--email", help="Their e-mail address.")
@as_json
def add(address: str, user: str | None, name: str | None, email: str | None, json_output: bool) -> None:
    """Enter a contact by hand, without an invite."""
    _show(gateway("contact.add", address=address, name=name, email=email, **{"as": user}), json_output)


@contact.command()
@address
@as_user
def remove(address: str, user: str | None) -> None:
    """Forget a contact; what you share with each other stays."""
    gateway("contact.remove", address=address, **{"as": user})
    say(f"{address} is no contact any more. What is shared stays shared.")


@contact.command("auto-accept")
@address
@click.argument("switch", metavar="on|off", type=click.Choice(["on", "off"]))
@as_user
@as_json
def auto_accept(address: str, switch: str, user: str | None, json_output: bool) -> None:
    """Accept what a contact shares without asking.

    From now on, and as far as their server signs.
    """
    result = gateway("contact.auto-accept", address=address, on=switch == "on", **{"as": user})
    if json_output:
        show_json(result)
    elif result["auto_accept"]:
        say(f"What {result['address']} shares from now on appears under /received/, if their server signs it.")
    else:
        say(f"What {result['address']} shares from now on waits for `received accept`.")


@contact.command()
@as_user
def export(user: str | None) -> None:
    """Print your contacts as JSContact (RFC 9553)."""
    show_json(gateway("contact.export", **{"as": user}))


@contact.command("import")
@click.argument("file", type=click.File("rb"))
@as_user
@click.option("--trusted", is_flag=True, help="Take over, too, whose Shares are accepted without asking.")
@as_json
def take_in(file: Any, user: str | None, trusted: bool, json_output: bool) -> None:
    """Add the contacts of a JSContact file.

    `-` is standard input. Those you have stay as they are.
    """
    try:
        cards = json.loads(file.read())
    except (ValueError, RecursionError):
        raise click.UsageError("the file is no JSON; nothing was done") from None
    result = gateway("contact.import", cards=cards, trusted=trusted, **{"as": user})
    if json_output:
        show_json(result)
        return
    say(f"{result['new']} new contact(s), {result['known']} that you had.")
    if result["unusable"]:
        note(f"{result['unusable']} without an OCM Address at another server were left out")


def _show(result: dict[str, Any], json_output: bool) -> None:
    show_json(result) if json_output else facts(result, FACTS)
