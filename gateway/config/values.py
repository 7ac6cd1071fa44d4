"""The kinds of values in the configuration, each with the words for what it may be."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

from pydantic import BeforeValidator, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SHARE_LOGIN = re.compile(r"s-[0-9A-Za-z_-]{22,}")  # the SSH door's name space for Shares; no user may stand in it
HOST_NAME = re.compile(r"(?![0-9.]+$)(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")
URL_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*")
ADDRESS_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):([0-9]{1,5})")
WORKERS_MAX = 64
PER_MINUTE_MAX = 100_000
DEFAULT_PORTS = {"http": 80, "https": 443}
WATCHES_MAX = 1_000_000  # the kernel's own limit is about that, in 1 GB of its memory


def refuse(allowed: str, found: str | None = None) -> NoReturn:
    """Refuse a value in a validator; without `found` the value itself is shown."""
    raise PydanticCustomError("mistake", "{allowed}", {"allowed": allowed, "found": found})


def canonical_ip(text: str) -> str | None:
    """Return an IP address in its usual form, or None for anything else, an address with a zone included."""
    try:
        return None if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def resolve(path: str, directory: Path) -> Path:
    """Return `path` from the view of `directory`, without following links."""
    return Path(os.path.normpath(directory / path))


# ------------------------------------------------------------------------------------------------- network


@dataclass(frozen=True, slots=True)
class Address:
    """Where a door listens; port 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    parts = ADDRESS_AND_PORT.fullmatch(value) if isinstance(value, str) else None
    host = parts[1].strip("[]") if parts else ""
    if parts is None or int(parts[2]) > 65535 or (host != "localhost" and canonical_ip(host) is None):
        refuse("'ADDR:PORT' with an IP address or localhost, as in '127.0.0.1:8080' or '[::1]:8080'; port 0 is any")
    return Address(canonical_ip(host) or host, int(parts[2]))


def _loopback_address(value: object) -> Address | None:
    if value is None:
        return None
    found = _address(value)
    if not found.is_loopback:
        refuse("a loopback address, since this door asks for no password; null for none")
    return found


def _network(value: object) -> Network:
    try:
        return value if isinstance(value, Network) else ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        refuse("a network in CIDR form without host bits, as in '10.1.0.0/16' or 'fd00::/8'")


def http_host(value: object) -> str:
    """Return a host name, an address, or "." and a suffix of names, in lower case."""
    host = value.lower() if isinstance(value, str) else ""
    address = canonical_ip(host.strip("[]"))
    if address is None and not HOST_NAME.fullmatch(host.removeprefix(".")):
        refuse("a host name without port, or '.' and a suffix of names, as in localhost or .lab.example.org")
    return address or host


def names_host(entries: Iterable[str], host: str) -> bool:
    """Tell whether `host`, without port, is one of `entries`, or ends in one that begins with a dot."""
    host = host.lower().strip("[]")
    return any(host == entry or (entry.startswith(".") and host.endswith(entry)) for entry in entries)


def public_url(value: object) -> str:
    """Return the URL without trailing slash and default port, scheme and host in lower case."""
    allowed = "the URL that users and peers see, as in https://cloud.example.org or https://example.org/gateway"
    if not isinstance(value, str) or not all("!" <= char <= "~" for char in value):
        refuse(allowed)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        refuse(allowed)
    if "@" in parts.netloc:
        refuse(f"{allowed}, without user name or password", "a URL with a user name")
    if "?" in value or "#" in value:
        refuse(f"{allowed}, without query and fragment")
    host, path = parts.hostname or "", parts.path.rstrip("/")
    address = canonical_ip(host)
    named = address is not None or HOST_NAME.fullmatch(host)
    if parts.scheme not in DEFAULT_PORTS or not named or not URL_PATH.fullmatch(path) or port == 0:
        refuse(allowed)
    server = f"[{address}]" if address and ":" in address else address or host
    if port not in (None, DEFAULT_PORTS[parts.scheme]):
        server += f":{port}"
    return f"{parts.scheme}://{server}{path}"


def _origin(value: object) -> str:
    """Return scheme, host and, unless it is the scheme's own, port."""
    try:
        url = public_url(value)
    except PydanticCustomError:
        url = ""
    if not url or urlsplit(url).path:
        refuse("scheme, host and port alone, as in http://127.0.0.1:8081, since every path is passed on as it is")
    return url


def web_url(value: object) -> str:
    """Return an http or https URL as it was given."""
    allowed = "an http or https URL without user name and fragment, as in https://directory.example.org/list"
    if not isinstance(value, str) or not all("!" <= char <= "~" for char in value):
        refuse(allowed)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "#" in value:
        refuse(allowed)
    if "@" in parts.netloc:
        refuse(allowed, "a URL with a user name")
    return value


def is_loopback(host: str) -> bool:
    """Tell whether `host`, of a URL, is this machine by its name or address."""
    address = canonical_ip(host)
    return host == "localhost" or (address is not None and ipaddress.ip_address(address).is_loopback)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 86400:
        refuse("a number of seconds, more than 0 and at most 86400")
    return float(value)


def _peer_host(value: object) -> str:
    """Return the name or address of one host, in the form that outgoing connections have it."""
    host = value.lower().strip("[]") if isinstance(value, str) else ""
    address = canonical_ip(host)
    if address is None and not HOST_NAME.fullmatch(host):
        refuse("a host name or address without scheme and port, as in cloud.example.org")
    return address or host


ListenAddress = Annotated[Address, PlainValidator(_address)]
LoopbackAddress = Annotated[Address | None, PlainValidator(_loopback_address)]
CIDR = Annotated[Network, PlainValidator(_network)]
HTTPHost = Annotated[str, PlainValidator(http_host)]
PeerHost = Annotated[str, PlainValidator(_peer_host)]
PublicURL = Annotated[str, PlainValidator(public_url)]
Origin = Annotated[str, PlainValidator(_origin)]
WebURL = Annotated[str, PlainValidator(web_url)]
Seconds = Annotated[float, PlainValidator(_seconds)]


# --------------------------------------------------------------------------------------------------- files


def _path(value: object, info: ValidationInfo) -> Path:
    """Resolve against the directory of the configuration file, which the validation's context holds."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        refuse("a path")
    directory: Path = (info.context or {})["directory"]
    return resolve(value, directory)


def _readable_file(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        refuse("a file that this user can read", f"{str(path)!r}: {os.strerror(error.errno or 0)}")


def require_certificates(path: Path) -> Path:
    """Refuse a file that holds no certificates."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        refuse("a PEM file with certificates", f"{str(path)!r}, which holds none")
    return path


def _directory(value: object, info: ValidationInfo) -> Path:
    path = _path(value, info)
    if not (info.context or {}).get("absent_roots") and not path.is_dir():
        wrong = "which is no directory" if path.exists() else "which does not exist"
        refuse(f"a directory; to make it: mkdir -p {path}", f"{str(path)!r}, {wrong}")
    return path


def _database(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("sqlite:////") or set("?#") & set(value):
        refuse("sqlite:///ABSOLUTE/PATH (four slashes in all); other databases are not supported yet")
    return value


AnyPath = Annotated[Path, PlainValidator(_path)]
ReadableFile = Annotated[Path, PlainValidator(_readable_file)]
Directory = Annotated[Path, PlainValidator(_directory)]
DatabaseURL = Annotated[str, PlainValidator(_database)]


# --------------------------------------------------------------------------------------------------- names


def _matching(pattern: str, allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            refuse(allowed)
        return value

    return check


def _no_share_log_in(value: str) -> str:
    if SHARE_LOGIN.match(value):
        refuse("a name that does not look like the log-in of a Share (s- and 22 characters or more)")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 100:
        refuse("a text of 1 to 100 printable characters")
    return value


def _mount_name(value: object) -> str:
    allowed = "one path component of at most 255 bytes without '/', '\\' and control characters, not 'received'"
    if not isinstance(value, str) or not value.isprintable() or value.casefold() == "received":
        refuse(allowed)
    if value in ("", ".", "..") or set("/\\") & set(value) or len(value.encode()) > 255:
        refuse(allowed)
    return value


def _mount_path(value: object) -> str:
    allowed = "a path below the backend's root without leading '/', '.', '..' and '//'; {user} is the user's name"
    if not isinstance(value, str) or (value and not value.isprintable()) or "\\" in value:
        refuse(allowed)
    path = value.removesuffix("/")
    if value and any(part in ("", ".", "..") for part in path.split("/")):
        refuse(allowed)
    if set("{}") & set(path.replace("{user}", "")):
        refuse(f"{allowed}, and there are no other braces")
    return path


def _some(value: object) -> object:
    """Refuse an empty list: it could be meant as everybody or as nobody."""
    if value is None or value == []:
        refuse("at least one name; leave the key out to admit everybody")
    return value


def _workers(value: object) -> int:
    if type(value) is not int or not 1 <= value <= WORKERS_MAX:
        refuse(f"a number of processes from 1 to {WORKERS_MAX}; one for each core is enough")
    return value


def _per_minute(value: object) -> int:
    if type(value) is not int or not 1 <= value <= PER_MINUTE_MAX:
        refuse(f"a number a minute from 1 to {PER_MINUTE_MAX:,}")
    return value


def _watches(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= WATCHES_MAX:
        refuse(f"a number from 0 (none) to {WATCHES_MAX:,}")
    return value


_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
_NAME_ALLOWED = "a-z, 0-9, '.', '_' and '-', 1 to 64 characters, beginning with a-z or 0-9"
_check_user_name = _matching(_NAME, f"a user name: {_NAME_ALLOWED}")

UserName = Annotated[str, PlainValidator(lambda value: _no_share_log_in(_check_user_name(value)))]
GroupName = Annotated[str, PlainValidator(_matching(_NAME, f"a group name: {_NAME_ALLOWED}"))]
BackendName = Annotated[
    str, PlainValidator(_matching(r"[a-z0-9][a-z0-9_-]{0,31}", "a backend name: a-z, 0-9, '_', '-', at most 32"))
]
Text = Annotated[str, PlainValidator(_text)]
MountName = Annotated[str, PlainValidator(_mount_name)]
MountPath = Annotated[str, PlainValidator(_mount_path)]
Watches = Annotated[int, PlainValidator(_watches)]
PerMinute = Annotated[int, PlainValidator(_per_minute)]
Workers = Annotated[int, PlainValidator(_workers)]
NotEmpty = BeforeValidator(_some)
