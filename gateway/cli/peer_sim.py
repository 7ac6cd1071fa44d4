"""`peer-sim`: the strict fake of a product, for whoever develops an OCM server; it needs no gateway."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.client import FAILED, fail
from gateway.cli.printing import harmless

# Named here, so that the other commands start without the fakes.
PRODUCTS = (
    *("nextcloud-30", "nextcloud-31", "nextcloud-33", "nextcloud-35", "owncloud-10"),
    *("ocis", "opencloud", "reva", "seafile", "ocm-go"),
)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("peer-sim", epilog=f"PRODUCT is one of {', '.join(PRODUCTS)}.")
@click.argument("product", metavar="PRODUCT", type=click.Choice(PRODUCTS))
@click.option("--host", default="localhost", show_default=True, help="The name by which your server reaches it.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; any free one, if not given.")
@click.option("--certificate", type=FILE, help="Speak TLS with this certificate.")
@click.option("--key", type=FILE, help="The key of the certificate, if it is in a file of its own.")
@click.option("--ca", type=FILE, help="Trust your server's certificate by this CA, and not by those of the system.")
@click.option("--contact", "contacts", multiple=True, metavar="OCM_ADDRESS", help="Know somebody without an invite.")
@click.option("--share-with", multiple=True, metavar="OCM_ADDRESS", help="Share something with somebody at once.")
@click.option("--decline", is_flag=True, help="Decline what is shared, instead of accepting and reading it.")
@click.option("--write", is_flag=True, help="Write a file into what may be written, and remove it again.")
@click.option("--json", "json_output", is_flag=True, help="Print each event as one line of JSON, for scripts.")
def peer_sim(
    product: str,
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    ca: Path | None,
    contacts: tuple[str, ...],
    share_with: tuple[str, ...],
    decline: bool,
    write: bool,
    json_output: bool,
) -> None:
    """Play another server, as strict as PRODUCT.

    Until Ctrl-C it takes what the product takes, and says what the product could not live with. The exit status is 1
    when your server did something wrong by the rules of the product.
    """
    for address in (*contacts, *share_with):
        if "@" not in address:
            raise click.UsageError(f"{address!r} is no OCM address: write somebody@host")
    if key and not certificate:
        raise click.UsageError("--key needs --certificate")
    from gateway import peersim
    from gateway.peersim.simulating import Wishes, contexts, simulate

    wishes = Wishes(contacts, share_with, declines=decline, writes=write)
    try:
        options = {"host": host, "port": port, **contexts(certificate, key, ca)}
        tell = _tell_json if json_output else _tell
        complaints = asyncio.run(simulate(peersim.PRODUCTS[product], wishes, tell, **options))
    except OSError as error:
        fail(f"cannot start: {error}")
    sys.exit(FAILED if complaints else 0)


def _tell_json(event: Mapping[str, Any]) -> None:
    print(json.dumps(event), flush=True)


def _tell(event: Mapping[str, Any]) -> None:
    print(harmless(_SENTENCES[event["event"]](event)), flush=True)


def _ready(event: Mapping[str, Any]) -> str:
    lines = [
        f"{event['product']} is at {event['url']}. Ctrl-C ends it.",
        f"Its discovery document is at {', '.join(event['discovery'])}.",
        f"Share with {event['address']}.",
    ]
    if event["invite"]:
        lines.append(f"Accept its invite: {event['invite']}")
    return "\n".join(lines)


def _end(event: Mapping[str, Any]) -> str:
    number = event["complaints"]
    return f"{number} thing(s) went wrong, see above." if number else "Nothing went wrong."


_SENTENCES = {
    "ready": _ready,
    "exchange": lambda event: f"{event['direction']:<5}  {event['status']}  {event['method']} {event['url']}",
    "complaint": lambda event: f"WRONG  {event['text']}",
    "shared": lambda event: f"Shared {event['name']!r} with {event['with']}.",
    "end": _end,
}
