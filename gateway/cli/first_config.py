"""The configuration file that `init` writes."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import yaml


def first_config(public_url: str, root: Path, rights: str, state_dir: Path) -> str:
    """Return a configuration with one mount; plain http is allowed for the host alone that the URL names."""
    parts = urlsplit(public_url)
    config: dict[str, object] = {
        "public_url": public_url,
        "state_dir": str(state_dir),
        "backends": {"storage": {"type": "local", "root": str(root)}},
        "mounts": [{"name": _mount_name(root), "backend": "storage", "path": "", "rights": rights}],
    }
    if parts.scheme == "http" and parts.hostname:
        config["federation"] = {"allow_http": [parts.hostname]}
    heading = (
        "# The gateway's configuration; config.example.yaml explains every key. `check-config` reports mistakes.\n"
    )
    return heading + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def _mount_name(root: Path) -> str:
    """Return the directory's own name where a mount can have it."""
    name = root.name.lower()
    return name if name.isprintable() and "\\" not in name and name not in ("", "received") else "files"
