"""`received cp`, and `received accept --into`: a Share's content as files, and how far that is."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from gateway.cli.client import FAILED, Failed, fail
from gateway.cli.options import as_json, as_user, gateway
from gateway.cli.printing import harmless, note, say, show_json

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
LOOK_EVERY = 1  # seconds between two looks of a terminal at how far it is
WAIT = 30  # seconds that others wait for each answer
COUNTED = ("files", "skipped", "failed")


@click.command("cp")
@click.argument("source", metavar="ID[/SUBPATH]")
@click.argument("path", metavar="/MOUNT/PATH")
@as_user
@click.option("--overwrite", is_flag=True, help="Replace files that differ and are not a copy of ours.")
@click.option("--stop", is_flag=True, help="Stop this copy; what was copied stays.")
@as_json
def cp(source: str, path: str, user: str | None, overwrite: bool, stop: bool, json_output: bool) -> None:
    """Copy the content of an accepted Share into a folder of yours.

    A folder's content goes into /MOUNT/PATH itself, a file to that name, or into that folder if it is one. The
    gateway does the work, also when this command is interrupted; the same command again shows how far it is, and
    after a copy has ended, brings what is missing or new.
    """
    share_id, _, below = source.partition("/")
    arguments = {"id": share_id, "source": f"/{below}", "path": path, "as": user}
    if stop:
        result = gateway("received.cp.stop", wait=WAIT, **arguments)
        show_json(result) if json_output else _summarise(result)
        return
    keep(arguments, overwrite=overwrite, json_output=json_output)


def keep(
    arguments: dict[str, Any], *, overwrite: bool, json_output: bool, shown: dict[str, Any] | None = None
) -> NoReturn:
    """Copy, show how far it is, print the end, beside what is `shown` in JSON, and exit.

    What is `shown` has happened already, so it is printed also when there is no copy, or nobody saw its end.
    """
    try:
        result = _follow(arguments, overwrite=overwrite)
    except Failed as failed:
        if json_output and shown is not None:
            show_json(shown | {"copy": None, "copy_problem": failed.sentence})
        raise
    if json_output:
        show_json(result if shown is None else shown | {"copy": result})
    else:
        _summarise(result)
    sys.exit(0 if result["state"] == "done" else FAILED)


def _follow(arguments: dict[str, Any], *, overwrite: bool) -> dict[str, Any]:
    """Begin or join a copy and return its end; an interrupt leaves it to the gateway."""
    line, wait = _Line(), LOOK_EVERY if sys.stderr.isatty() else WAIT
    try:
        result: dict[str, Any] = gateway("received.cp", overwrite=overwrite, wait=wait, **arguments)
        while result["ended"] is None:
            line.show(_progress(result))
            result = gateway("received.cp.watch", wait=wait, **arguments)
    except KeyboardInterrupt:
        line.clear()
        fail("the gateway goes on with it; `received cp` shows how far it is, with --stop it ends")
    finally:
        line.clear()
    return result


class _Line:
    """A line on the terminal that is written over; nothing where standard error is none."""

    def __init__(self) -> None:
        self._length = 0

    def show(self, text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r" + harmless(text).ljust(self._length))
            sys.stderr.flush()
            self._length = len(text)

    def clear(self) -> None:
        if self._length:
            sys.stderr.write("\r" + " " * self._length + "\r")
            sys.stderr.flush()
            self._length = 0


def _progress(result: dict[str, Any]) -> str:
    moving = sum(one["bytes"] for one in result["moving"])
    text = f"{_counts(result)}, {size(result['bytes'] + moving)}"
    if result["moving"]:
        one = max(result["moving"], key=lambda each: each["size"])
        text += f"; {one['path'][-40:]} {size(one['bytes'])} of {size(one['size'])}"
    return text


def _summarise(result: dict[str, Any]) -> None:
    for failure in result["failures"]:
        note(f"{failure['path']}: {failure['reason']}")
    if untold := result["failed"] - len(result["failures"]):
        note(f"and {untold} more")
    if result["reason"]:
        note(f"stopped: {result['reason']}")
    say(f"{result['path']}: {_counts(result)}, {size(result['bytes'])} ({result['state']}).")


def _counts(result: dict[str, Any]) -> str:
    copied, skipped, failed = (result[name] for name in COUNTED)
    text = f"{copied} file{'' if copied == 1 else 's'} copied, {skipped} there already"
    return f"{text}, {failed} failed" if failed else text


def size(count: float) -> str:
    """Return a number of bytes for people: `12 bytes`, `3.4 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {UNITS[unit]}" if unit else f"{count:.0f} {UNITS[0]}"
