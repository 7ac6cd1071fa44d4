"""The content of received Shares, kept as ordinary files in a mount, so that whatever serves the mount serves them too.

The work is done by the gateway, whoever watches it: a command line that is interrupted leaves it running. What was
copied stays, however a copy ends, and the same copy again goes on with what is missing.
"""

from gateway.keeping.copies import Copies
from gateway.keeping.progress import Copy, Run

__all__ = ["Copies", "Copy", "Run"]
