"""Which asyncssh the door stands on: it uses some of the inside, so no other version will do.

2.24.0 looks at several requests to log in side by side: who has proved one key could be let in as who has another.
"""

from __future__ import annotations

import re
from importlib.metadata import version

from gateway.config import Config, ConfigError
from gateway.config.mistakes import Mistake

LEAST, BEYOND = "2.24.1", "2.25"  # as in pyproject.toml; a newer one is looked at before it is let in


def require_version(config: Config) -> None:
    """Refuse to open an SSH door on another version than those that were looked at; raises ConfigError."""
    if config.listen.ssh is None or _parts(LEAST) <= _parts(installed := version("asyncssh")) < _parts(BEYOND):
        return
    why = "others let one client pass for another, or have another inside than the door uses"
    what = f"`pip install 'asyncssh>={LEAST},<{BEYOND}'`, or null for no SSH door"
    raise ConfigError(
        [Mistake("listen.ssh", f"asyncssh {installed}", f"asyncssh from {LEAST} to {BEYOND}: {why}; {what}")]
    )


def _parts(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what stands behind them, as in 2.25.0rc1."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^\d.]", text, maxsplit=1)[0]))
