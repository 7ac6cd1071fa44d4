"""A directory on any server that speaks SFTP, version 3, by paramiko's SSH and packets of our own."""

from backends.sftp.backend import CONNECTIONS, SFTPBackend
from backends.sftp.connecting import Account, Link, shown_host_key
from backends.sftp.guests import KINDS, Guest, KeyRefused, OtherHostKey

__all__ = [
    "CONNECTIONS",
    "KINDS",
    "Account",
    "Guest",
    "KeyRefused",
    "Link",
    "OtherHostKey",
    "SFTPBackend",
    "shown_host_key",
]
