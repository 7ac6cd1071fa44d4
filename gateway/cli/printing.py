"""What people read: aligned lines on a terminal, or JSON with `--json`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]

TIMES = frozenset(
    (
        *("created", "updated", "expiration", "discovered", "seen", "next_attempt", "finished", "probed", "at", "used"),
        *("fetched", "checked", "expires", "accepted", "silent_since", "unreachable_since", "retry"),
        *("begun", "ended"),
    )
)


def show_json(value: Any) -> None:
    """Print JSON: text as it is, and what could steer the terminal as escapes, which mean the same."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print("".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text))


def say(sentence: str) -> None:
    """Print a sentence about the result."""
    print(harmless(sentence))


def table(rows: Sequence[Row], columns: Sequence[str], nothing: str) -> None:
    """Print `columns` of `rows` under headings, or the sentence `nothing` when there are none."""
    if not rows:
        print(nothing)
        return
    lines = [[column.replace("_", " ").upper() for column in columns]]
    lines += [[text(column, row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def facts(row: Row, columns: Iterable[str], indent: str = "") -> None:
    """Print one thing as `name: value` lines, leaving out what is not known."""
    shown = [(column.replace("_", " "), text(column, row.get(column))) for column in columns]
    width = max(len(name) for name, _ in shown) + 1
    for name, value in shown:
        if value != "-":
            print(f"{indent}{name + ':':<{width}} {value}")


def dialect(profile: Row) -> None:
    """Print what a server is taken for, by which rule, and how it is spoken to."""
    names = ("body", "folders", "permissions", "exchange", "signature", "algorithm", "ways", "invite")
    print("how it is spoken to:")
    facts(profile, ("title", "rule", *names), "  ")


def history(events: Iterable[Row]) -> None:
    for event in events:
        detail = ", ".join(f"{name} {plain(value)}" for name, value in event["detail"].items())
        line = f"  {text('at', event['at'])}  {plain(event['actor'])}  {plain(event['action'])}"
        print(f"{line}  ({detail})" if detail else line)


def note(sentence: str) -> None:
    """Say something beside the result, on standard error."""
    print(harmless(f"ocm-gateway: {sentence}"), file=sys.stderr)


def harmless(sentence: str) -> str:
    """Return `sentence`, in which what is quoted of peers and file names cannot steer the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in sentence)


def text(column: str, value: Any) -> str:
    if value is None or value == []:
        return "-"
    if column in TIMES:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return plain(value)


def ago(moment: int | None) -> str | None:
    """Return how long ago `moment`, in seconds since the epoch, was, in one unit; None stays what it is."""
    if moment is None:
        return None
    seconds = max(0, int(time.time()) - moment)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def plain(value: Any) -> str:
    """Return a value on one line; control characters of peers and file names cannot reach the terminal."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(plain(each) for each in value)
    return "".join(char if char.isprintable() else "?" for char in str(value))
