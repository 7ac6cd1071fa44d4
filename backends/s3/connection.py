"""The client of boto3: where the bucket is, whose keys sign the requests, and how long to wait."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import CredentialProvider, Credentials, ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError

CONNECTIONS = 64  # kept open; of the pool's threads and those that send parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A bucket, and the prefix in it that is the root.

    `endpoint` is the URL of the server, None for Amazon's in `region`; `prefix` is without slashes at its ends.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"
    ca_file: Path | None = None

    def __str__(self) -> str:
        return f"S3 bucket {self.bucket} at {self.endpoint or f'Amazon, {self.region}'}"


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The files that hold access key and secret key, each on its first line; read again when they change."""

    access_key: Path
    secret_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long, in seconds, the server may let us wait.

    `connect` also bounds each step of sending (urllib3), `read` each step of receiving, `work` the wait for what the
    server does by itself (copies, joining parts). Nothing is sent again later than `total` after its first attempt.
    """

    connect: float = 10.0
    read: float = 30.0
    work: float = 600.0
    total: float = 60.0
    attempts: int = 4


class _FileCredentials(Credentials):  # type: ignore[misc]  # botocore has no types
    """Keys in files, which are looked at whenever something is signed."""

    def __init__(self, files: KeyFiles) -> None:
        super().__init__("", "", method="files")
        self._files = files
        self._lock = threading.Lock()
        self._seen: tuple[object, ...] = ()
        self._frozen = ReadOnlyCredentials("", "", None)

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        try:
            with self._lock:
                return self._current()
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise CredentialRetrievalError(provider="files", error_msg=type(error).__name__) from None

    def _current(self) -> ReadOnlyCredentials:
        paths = (self._files.access_key, self._files.secret_key)
        states = [path.stat() for path in paths]
        seen = tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states)
        if seen != self._seen:
            access, secret = (path.read_text("utf-8").split()[0] for path in paths)
            self._frozen, self._seen = ReadOnlyCredentials(access, secret, None), seen
        return self._frozen


class _FileProvider(CredentialProvider):  # type: ignore[misc]
    """Comes before all others of boto3's chain, and always has an answer."""

    METHOD = "files"
    CANONICAL_NAME = "files"

    def __init__(self, files: KeyFiles) -> None:
        super().__init__()
        self._files = files

    def load(self) -> Credentials:
        return _FileCredentials(self._files)


def connect(location: Location, files: KeyFiles | None, patience: Patience, *, read: float) -> Any:
    """Return a client, which any number of threads may use; raises BotoCoreError.

    Without `files` the keys come from boto3's own chain: environment, AWS's files, instance profile; finding them may
    take a request. Nothing is sent again by botocore itself, so that one place bounds what an operation may take.
    """
    session = botocore.session.Session()
    if files is not None:
        session.get_component("credential_provider").insert_before("env", _FileProvider(files))
    # What other servers do with the checksums that Amazon's clients add is not certain; all check the signed SHA-256.
    checksums = "when_supported" if location.endpoint is None else "when_required"
    config = Config(
        s3={"addressing_style": location.addressing},
        connect_timeout=patience.connect,
        read_timeout=read,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        user_agent_extra="ocm-gateway",
    )
    return boto3.session.Session(botocore_session=session).client(
        "s3",
        endpoint_url=location.endpoint,
        region_name=location.region,
        verify=None if location.ca_file is None else str(location.ca_file),
        config=config,
    )
