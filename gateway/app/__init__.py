"""The composition root: builds everything from the configuration, starts it, and stops it in the reverse order.

Nothing else constructs what it uses: every part gets its neighbours as constructor arguments.
"""

from gateway.app.ground import Seat
from gateway.app.running import Lead, check, start

__all__ = ["Lead", "Seat", "check", "start"]
