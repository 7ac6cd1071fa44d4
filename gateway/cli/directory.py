"""The commands under `directory`: lists of federations that are read here, and one of one's own to publish."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.cli.client import FAILED, fail
from gateway.cli.options import as_json, gateway
from gateway.cli.printing import facts, note, show_json, table
from gateway.cli.values import When
from gateway.config import ConfigError, load
from gateway.ocm.directory import DirectoryList, parse_directory, serialise_directory
from gateway.ocm.errors import Malformed
from gateway.ocm.jws import sign_jws
from gateway.ocm.keys import SigningKey

COLUMNS = ("name", "federation", "servers", "trusted", "fetched", "expires", "problem")
A_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def directory() -> None:
    """Directory Services: signed lists of the members of federations."""


@directory.command("list")
@as_json
def list_directories(json_output: bool) -> None:
    """List those of the configuration, and how their lists stand."""
    rows = gateway("directory.list")
    show_json(rows) if json_output else table(rows, COLUMNS, "No Directory Service is configured.")


@directory.command()
@click.argument("name")
@as_json
def show(name: str, json_output: bool) -> None:
    """Show one list with its members.

    NAME is that of `directory list`, or the URL.
    """
    result = gateway("directory.show", name=name)
    if json_output:
        show_json(result)
        return
    facts(result, ("name", "url", "federation", "trusted", "fetched", "checked", "expires", "expired", "problem"))
    table(result["members"], ("server", "display_name"), "It has no members.")
    for reason in result["passed_over"]:
        note(f"passed over: {reason}")


@directory.command()
@click.argument("name", required=False)
@as_json
def refresh(name: str | None, json_output: bool) -> None:
    """Fetch one list, or all, now.

    The exit status is 1 if one of them cannot be had.
    """
    rows = gateway("directory.refresh", name=name)
    show_json(rows) if json_output else table(rows, COLUMNS, "No Directory Service is configured.")
    if any(row["problem"] for row in rows):
        raise SystemExit(FAILED)


@directory.command()
@click.argument("file", type=A_FILE)
@as_json
def key(file: Path, json_output: bool) -> None:
    """Make a key to sign lists with.

    The private key goes into FILE, the public one is printed: members need it before the first list.
    """
    # ES256, as in the draft's example: every JOSE library has it.
    made = SigningKey.from_private(generate_private_key(SECP256R1()), "directory")
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        fail(f"{file} exists already and was left as it is; name another file")
    except OSError as error:
        fail(f"cannot write {file}: {error.strerror}")
    with os.fdopen(descriptor, "wb") as target:
        target.write(made.to_pem())
        target.flush()
        os.fsync(descriptor)
    if json_output:
        show_json({name: value for name, value in made.public_jwk().items() if name != "kid"})
        return
    public = made.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    print(public.decode(), end="")
    note(f"{file} holds the private key: keep it secret and back it up. Give the public one to the members.")


@directory.command()
@click.argument("file", type=click.File("rb"))
@click.option("--key", "key_file", required=True, type=A_FILE, help="The private key, as `directory key` makes one.")
@click.option("--expires", type=When(), help="When members should look for a newer list: 30d, or ISO 8601.")
def sign(file: Any, key_file: Path, expires: int | None) -> None:
    """Sign a list, to be published.

    It is printed as members are to fetch it, from an https URL.

    FILE holds JSON: {"federation": NAME, "servers": [{"url": "https://HOST[:PORT]", "displayName": NAME}, ...]}
    """
    try:
        private = SigningKey.from_pem(key_file.read_bytes(), "directory")
    except OSError as error:
        fail(f"cannot read {key_file}: {error.strerror}")
    except ValueError:
        fail(f"{key_file} holds no private key of Ed25519 or P-256 without pass phrase; `directory key` makes one")
    try:
        members = parse_directory(file.read())
    except Malformed as error:
        fail(f"this is no list of a federation: {error}")
    if members.unusable:  # others would pass them over without a word
        fail("\n".join(("the list was not signed:", *members.unusable)))
    now = int(time.time())
    if expires is not None and expires <= now:
        fail("a list that has expired already is read by nobody; nothing was signed")
    dated = DirectoryList(members.federation, members.servers, issued_at=now, expires_at=expires)
    print(sign_jws(serialise_directory(dated), private))


@directory.command("provider-entry")
@click.pass_context
def provider_entry(context: click.Context) -> None:
    """Print this gateway's entry for `ocmproviders.json`.

    OpenCloud, oCIS and reva need it there.
    """
    path: Path = context.find_root().obj
    try:
        config = load(path, absent_roots=True)
    except ConfigError as error:
        fail(f"{path}:\n{error}")
    print(json.dumps([_provider_entry(config.public_url, config.provider)], indent=2, ensure_ascii=False))


def _provider_entry(public_url: str, provider: str) -> dict[str, Any]:
    """Return the entry (peers.md §7): the domain has no scheme, and its port unless that is 443."""
    server = urlsplit(public_url).netloc
    endpoint = {
        "type": {"name": "OCM", "description": f"{provider} Open Cloud Mesh API"},
        "name": f"{provider} - OCM API",
        "path": f"{public_url}/ocm/",  # what they post to, with the names of endpoints appended
        "is_monitored": True,
    }
    return {
        "name": server,
        "full_name": provider,
        "organization": provider,
        "domain": server,
        "homepage": public_url,
        "description": f"{provider}, an Open Cloud Mesh server",
        "services": [{"endpoint": endpoint, "api_version": "0.0.1", "host": server}],
    }
