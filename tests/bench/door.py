"""The requests that are measured at a WebDAV door, made by curl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.servers import PASSWORD, USER, Server

PROPFIND = (
    '<propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/><getlastmodified/><getetag/><getcontenttype/>'
    "<displayname/><creationdate/><quota-available-bytes/></prop></propfind>"
)


def get(server: Server, path: str) -> float:
    """Return the seconds of a download."""
    return _curl(server, path)


def put(server: Server, path: str, file: Path) -> float:
    """Return the seconds of an upload."""
    return _curl(server, path, "--upload-file", str(file))


def propfind(server: Server, path: str) -> float:
    """Return the seconds of a listing, with what file managers ask for."""
    return _curl(server, path, "--request", "PROPFIND", "--header", "Depth: 1", "--data", PROPFIND)


def _curl(server: Server, path: str, *arguments: str) -> float:
    command = ["curl", "--silent", "--show-error", "--fail", "--user", f"{USER}:{PASSWORD}", "--output", "/dev/null"]
    command += ["--insecure", "--write-out", "%{time_total}", *arguments, server.url + path]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)
