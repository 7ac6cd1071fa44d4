"""The command line: each command parses its arguments and makes one call to the running gateway."""

from gateway.cli.root import main

__all__ = ["main"]
