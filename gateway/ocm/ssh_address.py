"""Where a Share is met by SSH: `username@host.fqdn:port/resource/path` (draft-07, Share Creation Notification, Fields).

It is no URL: nothing in it is percent-encoded, and a password has no place in it. What ssh, a shell or a resolver could
take for anything but a name is refused, since people copy these addresses into command lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.ocm.address import DEFAULT_PORT as OCM_PORT
from gateway.ocm.address import canonical_server
from gateway.ocm.errors import Malformed
from gateway.ocm.text import is_identifier

PORT = 22  # RFC 4253 section 4.1; the example of API 1.4 has a colon and no port behind it
PATH_MAX = 4096  # characters

# As portable as user names are (POSIX.1-2024, 3.412), with what servers put into theirs; no "-" in front.
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+=~$-]{0,254}")
_AUTHORITY = re.compile(r"(\[[^\[\]@/]*\]|[^\[\]@/:-][^\[\]@/:]*)(?::([0-9]{0,5}))?")


@dataclass(frozen=True, slots=True)
class SSHAddress:
    """Who logs in where, and what is shared there; an IPv6 `host` is in brackets, an empty `path` is where one is then.

    What the path begins with is the server's root directory.
    """

    user: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> SSHAddress:
        """Read the `uri` of a Share's `ssh`; raises Malformed("INVALID_URI")."""
        user, at, rest = text.partition("@")
        authority, slash, path = rest.partition("/")
        if not at or not _USER.fullmatch(user):
            raise _refused("the user's name is missing, or none that ssh could be given")
        path = slash + path
        if path and not is_identifier(path, PATH_MAX):
            raise _refused("the path is too long, or holds what is not shown")
        if ".." in path.split("/"):
            raise _refused("the path leads upwards")
        return cls(user, *_host_and_port(authority), path)

    @property
    def server(self) -> str:
        """Return `host:port`, as discovery has it."""
        return f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """Return what the server is called among other servers, such as those that are watched for silence."""
        return f"ssh://{self.server}"

    def __str__(self) -> str:
        return f"{self.user}@{self.server}{self.path}"


def ssh_server(text: str) -> str:
    """Return `host:port` of a discovery document in its one form; raises Malformed("INVALID_URI")."""
    host, port = _host_and_port(text)
    return f"{host}:{port}"


def _host_and_port(authority: str) -> tuple[str, int]:
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        raise _refused("it has to be username@host:port/path")
    port = int(split[2] or PORT)
    if not 0 < port < 65536:
        raise _refused(f"{port} is no port")
    try:
        host = canonical_server(f"{split[1]}:{OCM_PORT}")  # which leaves out this port
    except Malformed as error:
        raise _refused("its host is none") from error
    return host, port


def _refused(why: str) -> Malformed:
    return Malformed("INVALID_URI", f"no address for ssh: {why}")
