"""A directory on any server that speaks SFTP, version 3, by paramiko's SSH and packets of our own."""

from backends.sftp.backend import CONNECTIONS, SFTPBackend
from backends.sftp.connecting import Account

__all__ = ["CONNECTIONS", "Account", "SFTPBackend"]
