"""A gateway in front of three backends, each with a mount of its own: local disk, an S3 server and an SSH server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import s3_servers
import sftp_servers
from sites import Site

BACKENDS = ("local", "s3", "sftp")


@dataclass(frozen=True)
class Servers:
    """The two servers behind such gateways; their files are in `place`."""

    place: Path
    s3: s3_servers.Server
    ssh: sftp_servers.Server

    @property
    def ports(self) -> dict[str, int]:
        return {"s3": self.s3.port, "sftp": self.ssh.port}

    def site(self, directory: Path, ports: Mapping[str, int], **config: Any) -> Site:
        """Return a gateway, not started yet, that meets the servers at these ports, their own or others' for them."""
        keys = s3_servers.key_files(self.place)
        account = self.ssh.account(ports["sftp"])
        backends = {
            "local": {"type": "local", "root": str(directory / "data")},
            "s3": {
                "type": "s3",
                "endpoint": f"http://127.0.0.1:{ports['s3']}",
                "bucket": s3_servers.BUCKET,
                "access_key_file": str(keys.access_key),
                "secret_key_file": str(keys.secret_key),
            },
            "sftp": {
                "type": "sftp",
                "host": account.host,
                "port": account.port,
                "user": account.user,
                "root": str(self.ssh.data),
                "key_file": str(account.key_file),
                "known_hosts_file": str(account.known_hosts_file),
            },
        }
        mounts = [{"name": name, "backend": name, "path": "", "rights": "write"} for name in BACKENDS]
        return Site(directory, backends=backends, mounts=mounts, **config)


@contextmanager
def servers(rclone: str, place: Path) -> Iterator[Servers]:
    """Start an S3 server and an SSH server below `place`."""
    for name in ("s3", "ssh"):
        (place / name).mkdir(parents=True)
    with s3_servers.rclone_s3(rclone, place / "s3") as s3, sftp_servers.sshd(place / "ssh") as ssh:
        yield Servers(place, s3.server, ssh)
