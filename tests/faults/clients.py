"""Alice at a gateway of its own process."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sites import Reply, Site

ALICE, PASSWORD = "alice", "alice-password"
HOME = "/dav/files/alice/home"
BASIC = "Basic " + base64.b64encode(f"{ALICE}:{PASSWORD}".encode()).decode()


class Client:
    """Requests below alice's mount; no answer may be a failure of the gateway's own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Make one request, on the connection of the last; `Destination` is below the mount as well.

        Raises OSError and HTTPException when there is no answer.
        """
        if "Destination" in headers:
            headers["Destination"] = f"{HOME}/{headers['Destination']}"
        if self._connection is None:
            self._connection = self.site.connect()
        try:
            self._connection.request(method, f"{HOME}/{path}", body, {"Authorization": BASIC, **headers})
            answer = self._connection.getresponse()
            reply = Reply(answer.status, dict(answer.getheaders()), answer.read())
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if answer.will_close:
            self.close()
        assert reply.status != 500, reply.body
        return reply

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def running(prepared: Site) -> Iterator[Client]:
    """Run a site with the user alice; it has logged no traceback at the end."""
    with prepared as site:
        site.add_user(ALICE, PASSWORD)
        client = Client(site)
        yield client
        client.close()
    log = site.log.read_text()
    assert "Traceback" not in log, log


def on_local(root: Path) -> dict[str, Any]:
    """Return the configuration of a site whose data lies at `root`."""
    return {"backends": {"storage": {"type": "local", "root": str(root)}}}
