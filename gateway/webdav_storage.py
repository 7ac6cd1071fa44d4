"""Any WebDAV server as configured storage: its section of the configuration becomes a backend with its own way out.

What the operator has named may be on a private network and speak plain http, and has its own certificates; nobody
else can choose where these requests go (rule 8).
"""

from __future__ import annotations

from collections.abc import Mapping

from backends.secret_file import SecretFile
from backends.webdav import Configured, Credential, Response, Upload, WebDAVBackend
from backends.webdav.credentials import Client, ClientCredentials, basic, bearer, nobody
from gateway import __version__
from gateway.config import OAuthConfig, WebDAVConfig
from gateway.outbound import EVERYWHERE, Guard, OutboundError, OwnCertificates, SyncOutbound, SyncUpload, TLSFiles

USER_AGENT = f"ocm-gateway/{__version__}"
IDLE_SECONDS = 30.0  # without a byte, until a server is given up
WORK_SECONDS = 600.0  # until the answer of a server that copies, moves or removes, or has got all of an upload
WORKING = frozenset({"COPY", "MOVE", "DELETE"})


class BriefRequests:
    """`outbound` for answers that are short, each of which has its idle time in all; the shape of `Requests` there."""

    failures: tuple[type[Exception], ...] = (OutboundError,)

    def __init__(self, outbound: SyncOutbound) -> None:
        self._outbound = outbound

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """Send a request and return its answer; raises OutboundError."""
        return self._outbound.request(method, url, headers, body, whole=True)


class LaboriousTransport:
    """`outbound` with patience for what takes a server long; the shape of `Transport` in `backends.webdav`."""

    failures: tuple[type[Exception], ...] = (OutboundError,)

    def __init__(self, outbound: SyncOutbound, patience: float) -> None:
        """Wait `patience` seconds for the answer to what is work."""
        self._outbound = outbound
        self._patience = patience

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """Send a request and return its answer; raises OutboundError."""
        return self._outbound.request(
            method, url, headers, body, patience=self._patience if method in WORKING else None
        )

    def upload(self, method: str, url: str, headers: Mapping[str, str], size: int | None) -> Upload:
        """Begin a request whose body is pushed; raises OutboundError.

        One of unknown size waits to be invited: XRootD 5 loses what comes before it has opened the file.
        """
        expecting = {"Expect": "100-continue"} if size is None else {}
        return _Upload(self._outbound.upload(method, url, {**headers, **expecting}, size), self._patience)


class _Upload:
    def __init__(self, upload: SyncUpload, patience: float) -> None:
        self._upload = upload
        self._patience = patience
        self.send = upload.send
        self.abort = upload.abort

    def finish(self) -> Response:
        return self._upload.finish(self._patience)


def open_webdav(
    name: str, config: WebDAVConfig, *, idle: float = IDLE_SECONDS, work: float = WORK_SECONDS
) -> WebDAVBackend:
    """Return the backend `name`, without a look at its server; `idle` and `work` are in seconds."""
    section = f"backends.{name}"
    outbound = _way_out(OwnCertificates(section, _tls_files(config)), idle)
    asking = _way_out(
        OwnCertificates(section, TLSFiles(ca_file=config.ca_file, ca_path=config.ca_path), also_system=True), idle
    )

    def release() -> None:
        outbound.close()
        asking.close()

    credential, keys = _credential(section, config, asking)
    configured = Configured(section, keys, aside=config.uploads == "aside", release=release)
    return WebDAVBackend(
        config.url, transport=LaboriousTransport(outbound, work), credential=credential, configured=configured
    )


def _way_out(certificates: OwnCertificates, idle: float) -> SyncOutbound:
    guard = Guard(EVERYWHERE, lambda _host: True)
    return SyncOutbound(guard, user_agent=USER_AGENT, certificates=certificates, idle_timeout=idle)


def _tls_files(config: WebDAVConfig) -> TLSFiles:
    return TLSFiles(config.ca_file, config.ca_path, config.client_certificate_file, config.client_key_file)


def _credential(section: str, config: WebDAVConfig, asking: SyncOutbound) -> tuple[Credential, str]:
    """Return what proves who this side is, and the keys that say so in words."""
    if config.user is not None and config.password_file is not None:
        password = SecretFile(config.password_file, f"{section}.password_file")
        return basic(config.user, password), f"{section}.user and {password.setting}"
    if config.token_file is not None:
        token = SecretFile(config.token_file, f"{section}.token_file")
        return bearer(token), token.setting
    if config.oauth is not None:
        client = _client(f"{section}.oauth", config.oauth)
        return ClientCredentials(client, BriefRequests(asking)), f"the token that {client.setting} brings"
    if config.client_certificate_file is not None:
        return nobody, f"{section}.client_certificate_file"
    return nobody, f"{section} without any of password_file, token_file, oauth and client_certificate_file"


def _client(section: str, oauth: OAuthConfig) -> Client:
    secret = SecretFile(oauth.client_secret_file, f"{section}.client_secret_file")
    return Client(oauth.token_endpoint, oauth.client_id, secret, oauth.scope, section)
