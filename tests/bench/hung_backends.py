"""What a backend that hangs costs the others of the same gateway.

One of three, local disk, an S3 server and an SSH server, is behind a link that stalls after the start: its packets
vanish, also those of open connections. Users keep asking all three, and write to that one. The A/A run has the same
link flowing.
"""

from __future__ import annotations

from pathlib import Path

from bench.beside import Ask, Isolation, compare, load, reads
from bench.link import link_to
from bench.servers import PASSWORD, USER, rclone_command
from sites import Site, eventually
from three_backends import BACKENDS, Servers, servers

SMALL = b"x" * 4096
EACH = 4  # users that make each of three requests to the one that hangs: together more than it has threads
CALM_SECONDS = 60.0  # at most, until a backend whose link flows again answers


def measure(directory: Path) -> list[Isolation]:
    """Measure with each of the remote ones hanging."""
    with servers(rclone_command(), directory / "servers") as started:
        return [one_of_three(directory / hangs, started, hangs) for hangs in ("s3", "sftp")]


def one_of_three(directory: Path, started: Servers, hangs: str) -> Isolation:
    """The backend `hangs` does, and the two others are measured, with the listing of `/`, which has them all."""
    others = [name for name in BACKENDS if name != hangs]
    asks = reads(["", *(path for name in others for path in (f"{name}/", f"{name}/a.bin"))])
    beside = [*reads([f"{hangs}/", f"{hangs}/a.bin"]), Ask("PUT", f"{hangs}/new.bin", SMALL)] * EACH
    with (
        link_to(started.ports[hangs]) as link,
        started.site(directory, started.ports | {hangs: link.port}, log={"level": "error"}) as site,
    ):
        site.add_user(USER, PASSWORD)
        for name in BACKENDS:
            assert _status(site, "PUT", f"{name}/a.bin", SMALL) in (201, 204), name

        def well() -> float:
            eventually(lambda: _status(site, "GET", f"{hangs}/a.bin"), 200, CALM_SECONDS)
            return load(site, asks, beside)

        def dead() -> float:
            link.stall()
            try:
                return load(site, asks, beside)
            finally:
                link.flow()

        return compare(f"three backends, {hangs} black-holed", well, dead)


def _status(site: Site, method: str, path: str, body: bytes | None = None) -> int:
    return site.http(method, f"/dav/files/{USER}/{path}", body, user=USER, password=PASSWORD).status
