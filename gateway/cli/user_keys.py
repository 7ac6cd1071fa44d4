"""`user key`: the SSH keys that a user logs in with."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.client import fail
from gateway.cli.options import as_json, gateway
from gateway.cli.printing import say, show_json, table

FILE_MAX = 256 * 1024  # characters; what is longer is no file of public keys

COLUMNS = ("fingerprint", "type", "comment", "created")


@click.group()
def key() -> None:
    """SSH keys that a user logs in with; for one's own, or by the operator."""


@key.command()
@click.argument("name")
@click.option(
    "--key-file",
    required=True,
    type=click.File("r", encoding="utf-8"),
    help="The file with the public key, or several, one a line; `-` for standard input.",
)
@as_json
def add(name: str, key_file: Any, json_output: bool) -> None:
    """Let a user log in with a key.

    The file is the one whose name ends in .pub. Comments stay for people to read; options are refused where they
    allow less than a key of this gateway does, and dropped otherwise.
    """
    rows = gateway("user.key.add", name=name, keys=_content(key_file))
    if json_output:
        show_json(rows)
        return
    for row in rows:
        say(f"{name} can log in with {row['fingerprint']} ({row['type']}).")


@key.command("list")
@click.argument("name")
@as_json
def list_keys(name: str, json_output: bool) -> None:
    """List the keys of a user that were added here."""
    rows = gateway("user.key.list", name=name)
    show_json(rows) if json_output else table(rows, COLUMNS, f"No key was added for {name}.")


@key.command()
@click.argument("name")
@click.argument("fingerprint")
def remove(name: str, fingerprint: str) -> None:
    """Take a key from a user; who works with it now is cut off.

    FINGERPRINT is that of `user key list`.
    """
    gateway("user.key.remove", name=name, fingerprint=fingerprint)
    say(f"{fingerprint} is no key of {name} any more.")


def _content(file: Any) -> str:
    """Return what the file holds; a private key goes no further than this."""
    try:
        content: str = file.read(FILE_MAX + 1)
    except UnicodeDecodeError:
        raise click.UsageError("the key file is not text in UTF-8; nothing was done") from None
    if "PRIVATE KEY-----" in content:
        fail("this file holds a private key, which nobody else should see; the public one is beside it, named .pub")
    if len(content) > FILE_MAX:
        fail(f"the key file is longer than {FILE_MAX} characters; nothing was done")
    return content
