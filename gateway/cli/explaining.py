"""`share create --explain`: what would be sent, shown to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.cli.printing import dialect, facts, note, say, show_json


def explain(result: Mapping[str, Any]) -> None:
    """Print the peer, its profile and the rule that chose it, and each body that may be sent."""
    facts(result, ("server", "product"))
    dialect(result["profile"])
    if result["problem"]:
        note(f"Nothing would be sent: {result['problem']}")
        return
    say(f"\n{result['method']} {result['url']}  (signature: {result['signature']})")
    show_json(result["body"])
    if result["other_body"]:
        say("\nand if that is answered with 400 or 501:")
        show_json(result["other_body"])
    say("\nNothing was sent or stored. Each Share has an id and a secret of its own.")
