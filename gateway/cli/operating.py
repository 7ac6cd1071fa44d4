"""`user`, `peer`, `outbox`, `keys`, `status`: for the operator."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.options import as_json, gateway
from gateway.cli.printing import Row, dialect, facts, plain, say, show_json, table, text

PEER_FACTS = (
    *("server", "trust", "standing", "signed_as", "discovered", "seen", "failures", "last_error"),
    *("breaker", "silent_since", "retry", "product"),
)
USER_COLUMNS = ("name", "display_name", "email", "disabled", "created")

password_file = click.option(
    "--password-file",
    type=click.File("r", encoding="utf-8"),
    help="The file with the password, `-` for standard input; asked for, if not given.",
)

SEEN = "As invited people see it"


@click.group()
def user() -> None:
    """Local users."""


@user.command()
@click.argument("name")
@password_file
@click.option("--name", "display_name", help=f"{SEEN}; NAME, if not given.")
@click.option("--email", help=f"{SEEN}; NAME@HOST, if not given.")
@as_json
def add(name: str, password_file: Any, display_name: str | None, email: str | None, json_output: bool) -> None:
    """Create a user."""
    identity = {"display_name": display_name, "email": email}
    result = gateway("user.add", name=name, password=_password(password_file), **identity)
    show_json(result) if json_output else print(f"User {name} can log in now.")


@user.command("update")
@click.argument("name")
@click.option("--name", "display_name", help=f"{SEEN}; stays, if not given.")
@click.option("--email", help=f"{SEEN}; stays, if not given.")
def update_user(name: str, display_name: str | None, email: str | None) -> None:
    """Change what people at other servers see of a user."""
    if display_name is None and email is None:
        raise click.UsageError("say what to change: --name, --email or both")
    gateway("user.update", name=name, display_name=display_name, email=email)
    print(f"User {name} is changed.")


@user.command("list")
@as_json
def list_users(json_output: bool) -> None:
    """List users."""
    rows = gateway("user.list")
    show_json(rows) if json_output else table(rows, USER_COLUMNS, "There are no users yet.")


@user.command()
@click.argument("name")
@password_file
def passwd(name: str, password_file: Any) -> None:
    """Set a user's password."""
    gateway("user.passwd", name=name, password=_password(password_file))
    print(f"User {name} has a new password.")


@user.command()
@click.argument("name")
def disable(name: str) -> None:
    """Keep a user out, with all that the user has shared, until enabled again."""
    gateway("user.disable", name=name)
    print(f"User {name} is disabled, and nothing shared by {name} opens.")


@user.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let a disabled user in again."""
    gateway("user.enable", name=name)
    print(f"User {name} is enabled.")


@user.command()
@click.argument("name")
@click.confirmation_option(prompt="This ends everything from and to the user, for good. Go on?")
def remove(name: str) -> None:
    """Remove a user for good: other servers are told, and the name is given to nobody else."""
    gateway("user.remove", name=name)
    print(f"User {name} is removed, and every Share from and to {name} has ended. The files stay.")


def _password(file: Any) -> str:
    """Return the first line of the file, or what is typed twice; never from the command line, which others can read."""
    if file is None:
        answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return answer
    try:
        line: str = file.readline()
    except UnicodeDecodeError:
        raise click.UsageError("the password file is not text in UTF-8; nothing was done") from None
    return line.rstrip("\r\n")


@click.group()
def peer() -> None:
    """Other OCM servers."""


@peer.command("list")
@as_json
def list_peers(json_output: bool) -> None:
    """List the servers that this one knows."""
    rows = gateway("peer.list")
    columns = ("server", "trust", "signed_as", "seen", "breaker", "last_error")
    show_json(rows) if json_output else table(rows, columns, "No other server is known yet.")


@peer.command("show")
@click.argument("server", metavar="HOST")
@as_json
def show_peer(server: str, json_output: bool) -> None:
    """Show what is known of a server."""
    result = gateway("peer.show", server=server)
    if json_output:
        show_json(result)
        return
    facts(result, PEER_FACTS)
    if result["profile"]:
        dialect(result["profile"])
    if any((result["worked"] or {}).values()):
        print("what has worked:")
        facts(result["worked"], result["worked"], "  ")
    _show_proofs(result)
    if result["discovery"]:
        print("discovery:")
        show_json(result["discovery"])


def _show_proofs(peer: Row) -> None:
    """Print when less secure ways were last used, and the last message that proved nothing."""
    if peer["legacy_used"]:
        print("legacy ways last used:")
        for way, moment in peer["legacy_used"].items():
            say(f"  {text('at', moment)}  {plain(way)}")
    if refused := peer["refused"]:
        print("last message whose proof failed:")
        for name, value in refused.items():
            lines = [text("at", value)] if name == "at" else str(value).splitlines()
            say(f"  {name.replace('_', ' ')}: {f'{chr(10)}    '.join(lines)}")


@peer.command()
@click.argument("server", metavar="HOST")
def trust(server: str) -> None:
    """Trust a server, or open a blocked one again."""
    result = gateway("peer.trust", server=server)
    if result["standing"] == "denylist":
        print(f"{server} is trusted, and refused all the same: it is on federation.denylist.")
    else:
        print(f"{server} is trusted.")


@peer.command()
@click.argument("server", metavar="HOST")
def block(server: str) -> None:
    """Refuse every message from a server and send it none."""
    gateway("peer.block", server=server)
    print(f"{server} is blocked.")


@peer.command()
@click.argument("server", metavar="HOST")
def forget(server: str) -> None:
    """Drop all that is known of a server.

    That is its trust, discovery and keys, that it signs, and what has worked with it.
    """
    gateway("peer.forget", server=server)
    print(f"{server} is forgotten.")


@click.group()
def outbox() -> None:
    """Messages to other servers."""


@outbox.command("list")
@click.option("--state", type=click.Choice(["pending", "delivered", "failed", "dropped"]), help="Only those.")
@click.option("--server", metavar="HOST", help="Only those to this server.")
@as_json
def list_messages(state: str | None, server: str | None, json_output: bool) -> None:
    """List the newest messages.

    Also how their delivery stands, when each is tried again, and why it waits.
    """
    rows = gateway("outbox.list", state=state, server=server)
    columns = ("id", "state", "server", "kind", "share", "attempts", "next_attempt", "last_error")
    show_json(rows) if json_output else table(rows, columns, "There is no such message.")


@outbox.command()
@click.argument("message_id", metavar="[ID]", type=int, required=False)
@click.option("--server", metavar="HOST", help="Try all that wait for this server.")
@as_json
def retry(message_id: int | None, server: str | None, json_output: bool) -> None:
    """Send what waits now: all messages, or those to one server.

    With ID it is that message, and those of its Share that come before it.
    """
    if message_id is not None and server is not None:
        raise click.UsageError("give the ID of a message or a server, not both")
    result = gateway("outbox.retry", id=message_id, server=server)
    show_json(result) if json_output else print(f"{result['messages']} message(s) are tried now.")


@click.group()
def backend() -> None:
    """Storage behind the gateway."""


@backend.command("list")
@as_json
def list_backends(json_output: bool) -> None:
    """List the backends, and what is wrong with them."""
    rows = gateway("backend.list")
    show_json(rows) if json_output else table(rows, ("name", "type", "problem"), "No backend is configured.")


@backend.command("accept-root")
@click.argument("name")
def accept_root(name: str) -> None:
    """Confirm that a backend's root was replaced.

    As by a new disk; not when it is just unmounted.
    """
    gateway("backend.accept-root", name=name)
    print(f"The directory that is there now is the root of {name}. Folders shared from the old one stay missing.")


@click.group()
def keys() -> None:
    """The keys that this gateway signs with, and those that its SSH door is known by."""


@keys.command("list")
@as_json
def list_keys(json_output: bool) -> None:
    """List the published keys; those marked sign.

    Of the keys of the SSH door also the fingerprints, which clients show at their first connection, and the lines that
    a signed zone of DNS may say them by (SSHFP).
    """
    rows, hosts = gateway("keys.list"), gateway("keys.hosts")
    if json_output:
        show_json(rows + hosts)
        return
    table(rows + hosts, ("kid", "alg", "created", "signs"), "There are no keys.")
    for line in [f"{row['kid']}: {row['fingerprint']}" for row in hosts] + [row["sshfp"] for row in hosts]:
        say(line)


@keys.command()
@as_json
def rotate(json_output: bool) -> None:
    """Make new keys.

    They are published now and sign in an hour; the old ones stay published. Nextcloud 31 to 34 know one key at a time
    (rsa-sha512): the new one is published and signs from now on.
    """
    rows = gateway("keys.rotate")
    show_json(rows) if json_output else table(rows, ("kid", "alg", "created", "signs"), "There are no keys.")


@click.command(hidden=True)
@as_json
def status(json_output: bool) -> None:
    """Tell whether the gateway runs."""
    result = gateway("status")
    show_json(result) if json_output else facts(result, ("version", "pid"))
