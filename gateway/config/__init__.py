"""The operator's YAML as a frozen, typed model; every mistake is reported at once, with its YAML path."""

from gateway.config.legacy import LegacyConfig, is_open
from gateway.config.loading import admin_socket, load
from gateway.config.mistakes import ConfigError, Mistake
from gateway.config.model import (
    BACKENDS,
    BackendConfig,
    Config,
    DirectoryConfig,
    FederationConfig,
    ListenConfig,
    LocalConfig,
    LogConfig,
    MemoryConfig,
    MountConfig,
    ProxyConfig,
    TLSConfig,
    UpstreamConfig,
)
from gateway.config.ownership import FixedOwnership, MapOwnership, OwnershipConfig, ServiceOwnership
from gateway.config.s3 import S3Config
from gateway.config.sftp import SFTPConfig
from gateway.config.ssh import SSHConfig
from gateway.config.values import Address, Network
from gateway.config.webdav import OAuthConfig, WebDAVConfig

__all__ = [
    "BACKENDS",
    "Address",
    "BackendConfig",
    "Config",
    "ConfigError",
    "DirectoryConfig",
    "FederationConfig",
    "FixedOwnership",
    "LegacyConfig",
    "ListenConfig",
    "LocalConfig",
    "LogConfig",
    "MapOwnership",
    "MemoryConfig",
    "Mistake",
    "MountConfig",
    "Network",
    "OAuthConfig",
    "OwnershipConfig",
    "ProxyConfig",
    "S3Config",
    "SFTPConfig",
    "SSHConfig",
    "ServiceOwnership",
    "TLSConfig",
    "UpstreamConfig",
    "WebDAVConfig",
    "admin_socket",
    "is_open",
    "load",
]
