"""`doctor` and `peer trace`: why federation fails."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from gateway.cli.client import FAILED
from gateway.cli.options import as_json, as_user, gateway
from gateway.cli.printing import harmless, plain, say, show_json, table

EXAMINATION = 120.0  # seconds that the gateway may take, beside the time that a trial Share waits
SIGNS = {"ok": "ok     ", "note": "note   ", "failed": "FAILED ", "skipped": "-      "}


@click.command()
@click.argument("peer", metavar="[PEER]", required=False)
@click.option("--with", "share_with", metavar="OCM_ADDRESS", help="Share PATH with this person at PEER, and revoke it.")
@as_user
@click.option("--path", help="A small file of that user's, as in /MOUNT/FILE.")
@click.option("--wait", type=click.IntRange(0, 3600), default=60, show_default=True, help="Seconds until it is opened.")
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Run an exchange of `peer trace` again.",
)
@as_json
def doctor(
    peer: str | None,
    share_with: str | None,
    user: str | None,
    path: str | None,
    wait: int,
    replay: Path | None,
    json_output: bool,
) -> None:
    """Find out why federation fails.

    Here, or on the way to PEER (a host, or host:port).
    """
    if peer is not None and replay is not None:
        raise click.UsageError("PEER and --replay exclude each other")
    if share_with is not None and (peer is None or path is None):
        raise click.UsageError("a trial Share needs PEER and --path")
    if share_with is None and (path is not None or user is not None):
        raise click.UsageError("--as and --path are for a trial Share: say with whom, by PEER and --with")
    if replay is not None:
        result = gateway("doctor.replay", timeout=EXAMINATION, trace=replay.read_text("utf-8", "replace"))
    elif peer is None:
        result = gateway("doctor.self", timeout=EXAMINATION)
    else:
        arguments = {"server": peer, "with": share_with, "as": user, "path": path, "wait": wait}
        result = gateway("doctor.peer", timeout=EXAMINATION + wait, **arguments)
    show_json(result) if json_output else _show(result)
    sys.exit(0 if result["ok"] else FAILED)


@click.command("trace")
@click.argument("server", metavar="HOST")
@as_json
def trace(server: str, json_output: bool) -> None:
    """List the last exchanges that failed with a server.

    `doctor --replay FILE` runs one again.
    """
    rows = gateway("peer.trace", server=server)
    if json_output:
        show_json(rows)
        return
    shown = [
        {
            "at": row["at"],
            "direction": row["direction"],
            "request": f"{row['request']['method']} {row['request']['url']}",
            "status": (row["answer"] or {}).get("status"),
            "code": row["problem"]["code"],
            "file": row["file"],
        }
        for row in rows
    ]
    table(shown, ("at", "direction", "request", "status", "code", "file"), "No exchange with this server has failed.")


def _show(result: dict[str, Any]) -> None:
    print(plain(result["subject"]))
    for skipped, steps in groupby(result["steps"], lambda step: step["verdict"] == "skipped" and step["cause"]):
        if skipped:
            print(harmless(f"  {SIGNS['skipped']}{', '.join(step['name'] for step in steps)}: {skipped}"))
            continue
        for step in steps:
            _show_step(step)
    failed = [step["name"] for step in result["steps"] if step["verdict"] == "failed"]
    say(f"Failed at: {', '.join(failed)}." if failed else "Nothing has failed.")


def _show_step(step: dict[str, Any]) -> None:
    print(harmless(f"  {SIGNS[step['verdict']]}{step['name']}: {step['received'] or step['cause']}"))
    if step["verdict"] in ("failed", "note"):
        if step["sent"]:
            print(harmless(f"         asked: {step['sent']}"))
        print(harmless(f"         likely: {step['cause']}"))
