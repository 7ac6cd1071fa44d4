"""The sections and keys of the configuration; nothing else may stand in it.

The description of a field says what it may hold, where no validator of its own says it better.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, ValidationInfo, field_validator, model_validator

from gateway.config.accepting import Accept, ServerOrAddress
from gateway.config.legacy import LegacyConfig
from gateway.config.limits import LimitsConfig
from gateway.config.ownership import Ownership, ServiceOwnership
from gateway.config.s3 import S3Config
from gateway.config.section import Section, chosen_by
from gateway.config.servers import Server, matching
from gateway.config.sftp import SFTPConfig
from gateway.config.ssh import SSHConfig
from gateway.config.values import (
    CIDR,
    Address,
    AnyPath,
    BackendName,
    DatabaseURL,
    Directory,
    GroupName,
    HTTPHost,
    ListenAddress,
    LoopbackAddress,
    MountName,
    MountPath,
    NotEmpty,
    Origin,
    PeerHost,
    PerMinute,
    PublicURL,
    ReadableFile,
    Seconds,
    Text,
    UserName,
    Watches,
    WebURL,
    Workers,
    names_host,
    refuse,
    require_certificates,
)
from gateway.config.webdav import WebDAVConfig


class ListenConfig(Section):
    """Where the doors are."""

    http: ListenAddress = Address("127.0.0.1", 8080)
    metrics: LoopbackAddress = Address("127.0.0.1", 9180)
    admin: AnyPath
    ssh: ListenAddress | None = None
    workers: Workers = 1


class TLSConfig(Section):
    """Certificate chain and private key of the HTTP door, as PEM files."""

    certificate: ReadableFile = Field(description="a PEM file with the certificate chain")
    key: ReadableFile = Field(description="a PEM file with the certificate's key")

    @model_validator(mode="after")
    def _belong_together(self) -> TLSConfig:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, password=lambda: b"")
        except (ssl.SSLError, ValueError):  # ValueError: a key with a pass phrase
            refuse("a certificate chain and its own key in PEM form, without pass phrase", "files that do not fit")
        return self


class ProxyConfig(Section):
    """Reverse proxies in front of the gateway."""

    trusted: tuple[CIDR, ...] = Field(default=(), description="a list of networks")


class UpstreamConfig(Section):
    """The HTTP server that was there before; it gets every path that is not the gateway's own."""

    url: Origin = Field(description="the URL of the server behind, as in http://127.0.0.1:8081")
    ca: ReadableFile | None = Field(default=None, description="a PEM file with the certificates to believe")
    idle_timeout: Seconds = Field(default=300.0, description="seconds, more than 0")

    @field_validator("ca")
    @classmethod
    def _has_certificates(cls, ca: Path | None, info: ValidationInfo) -> Path | None:
        if ca is not None and info.data.get("url", "https:").startswith("http:"):
            refuse("nothing beside an http url, which uses no certificates")
        return ca if ca is None else require_certificates(ca)


class LocalConfig(Section):
    """A directory of this machine, also one that is mounted there."""

    type: Literal["local"]
    root: Directory = Field(description="a directory")
    watch: Watches = 8192
    ownership: Ownership = ServiceOwnership()


class MemoryConfig(Section):
    """Storage that ends with the process, for trying things out."""

    type: Literal["memory"]


BackendConfig = LocalConfig | MemoryConfig | S3Config | SFTPConfig | WebDAVConfig
BACKENDS: Mapping[str, type[BackendConfig]] = {
    "local": LocalConfig,
    "memory": MemoryConfig,
    "s3": S3Config,
    "sftp": SFTPConfig,
    "webdav": WebDAVConfig,
}


class MountConfig(Section):
    """A part of a backend as some users have it in their tree; no users and no groups means everybody."""

    name: MountName = Field(description="a name for the top of the users' trees")
    backend: str = Field(description="the name of a backend")
    path: MountPath = ""
    rights: Literal["read", "write"] = Field(description="read or write")
    users: Annotated[tuple[UserName, ...], NotEmpty] = Field(default=(), description="a list of user names")
    groups: Annotated[tuple[GroupName, ...], NotEmpty] = Field(default=(), description="a list of group names")


class FirstContactsConfig(Section):
    """How many documents a minute are fetched from servers that nobody here has dealt with."""

    per_source: PerMinute = 60
    per_target: PerMinute = 30


class DirectoryConfig(Section):
    """A Directory Service: a signed list of the members of a Federation."""

    url: WebURL = Field(description="the URL of a signed list, as in https://directory.example.org/list")
    key: ReadableFile = Field(description="a file with the public key of the list, as PEM, JWK or JWK Set")
    name: Text | None = None
    trusted: bool = Field(default=False, description="true or false")


class PeerConfig(Section):
    """What is special about one peer."""

    ca_file: ReadableFile = Field(description="a PEM file with the certificates of the authority that signs for it")

    _has_certificates = field_validator("ca_file")(require_certificates)


class FederationConfig(Section):
    """Which servers may be dealt with and contacted, and whose Shares are taken."""

    allow_http: tuple[HTTPHost, ...] = Field(default=(), description="a list of host names")
    allow_networks: tuple[CIDR, ...] = Field(default=(), description="a list of networks")
    allowlist: tuple[Server, ...] | None = Field(default=None, description="a list of servers; null for everybody")
    denylist: tuple[Server, ...] = Field(default=(), description="a list of servers")
    first_contacts: FirstContactsConfig = FirstContactsConfig()
    directories: tuple[DirectoryConfig, ...] = Field(default=(), description="a list of Directory Services")
    legacy: LegacyConfig = LegacyConfig()
    accept: Accept = ()
    auto_accept: tuple[ServerOrAddress, ...] = Field(default=(), description="a list of servers and OCM Addresses")
    plain_discovery: bool = Field(default=False, description="true or false")
    peers: Mapping[PeerHost, PeerConfig] = Field(default={}, description="a mapping of host names to what is special")

    @property
    def authorities(self) -> Mapping[str, Path]:
        """By host, the authority that alone may sign for it."""
        return {host: peer.ca_file for host, peer in self.peers.items()}

    def http_allowed(self, host: str) -> bool:
        """Tell whether `host`, a name or an address without port, may be spoken to in plain http."""
        return names_host(self.allow_http, host)

    @property
    def is_closed(self) -> bool:
        """Whether only servers that some list names are dealt with."""
        return self.allowlist is not None

    def allows(self, server: str) -> bool:
        """Tell whether `server`, as host[:port], is on the allowlist."""
        return matching(self.allowlist or (), server)

    def denies(self, server: str) -> bool:
        """Tell whether `server`, as host[:port], is on the denylist."""
        return matching(self.denylist, server)


class LogConfig(Section):
    """How and how much is logged."""

    format: Literal["text", "json"] = Field(default="text", description="text or json")
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error"
    )


class Config(Section):
    """The whole configuration."""

    public_url: PublicURL = Field(description="the URL that users and peers see, as in https://cloud.example.org")
    provider: Text = "OCM Gateway"
    state_dir: AnyPath = Field(description="a directory for the gateway's own data")
    database: DatabaseURL
    listen: ListenConfig
    tls: TLSConfig | None = None
    proxy: ProxyConfig = ProxyConfig()
    upstream: UpstreamConfig | None = None
    backends: Mapping[BackendName, Annotated[BackendConfig, PlainValidator(chosen_by("type", BACKENDS))]] = Field(
        default={}, description="a mapping of names to backends"
    )
    mounts: tuple[MountConfig, ...] = Field(default=(), description="a list of mounts")
    groups: Mapping[GroupName, tuple[UserName, ...]] = Field(
        default={}, description="a mapping of group names to lists of user names"
    )
    federation: FederationConfig = FederationConfig()
    limits: LimitsConfig = LimitsConfig()
    ssh: SSHConfig = SSHConfig()
    log: LogConfig = LogConfig()

    @property
    def database_url(self) -> str:
        """The state's SQLAlchemy URL."""
        return self.database

    @property
    def origin(self) -> str:
        """Scheme, host and, unless it is the scheme's own, port of `public_url`."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def server(self) -> str:
        """The name of this OCM Server: host[:port] of `public_url`, the port only if it is not the scheme's own."""
        return urlsplit(self.public_url).netloc

    @property
    def base_path(self) -> str:
        """The path of `public_url`: empty, or beginning and not ending with a slash."""
        return urlsplit(self.public_url).path

    @property
    def ssh_public(self) -> Address | None:
        """Where others reach the SSH door; None when there is none."""
        if self.listen.ssh is None:
            return None
        return self.ssh.public or Address(urlsplit(self.public_url).hostname or "", self.listen.ssh.port)
