"""`backends.NAME` of type webdav: where the server is, and how this side proves who it is."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, PlainValidator, model_validator

from gateway.config.section import Section
from gateway.config.values import DEFAULT_PORTS, Directory, ReadableFile, is_loopback, refuse, web_url


def _collection(value: object) -> str:
    allowed = "the http or https URL of a WebDAV collection, as in https://nas.example.org/dav/"
    url = web_url(value)
    port = urlsplit(url).port
    if "?" in url or "%2f" in url.lower() or not (port is None or port >= 1024 or port in DEFAULT_PORTS.values()):
        refuse(allowed)
    return url


def _token_endpoint(value: object) -> str:
    url = web_url(value)
    if url.startswith("http:") and not is_loopback(urlsplit(url).hostname or ""):
        refuse("an https URL, since the client secret is sent there (RFC 6749 section 3.2)")
    return url


def _user(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value or ":" in value:
        refuse("a user name at that server, without ':' (RFC 7617 section 2)")
    return value


class OAuthConfig(Section):
    """An OAuth 2 client (RFC 6749 section 4.4)."""

    token_endpoint: Annotated[str, PlainValidator(_token_endpoint)] = Field(
        description="an https URL, as in https://iam.example.org/token"
    )
    client_id: str = Field(description="the name of the client at the token endpoint")
    client_secret_file: ReadableFile = Field(description="a file with the client's secret in one line")
    scope: str | None = Field(default=None, description="what the token is asked for, in words with spaces between")


class WebDAVConfig(Section):
    """A collection on a WebDAV server."""

    type: Literal["webdav"]
    url: Annotated[str, PlainValidator(_collection)] = Field(description="the URL of a WebDAV collection")
    user: Annotated[str, PlainValidator(_user)] | None = Field(default=None, description="a user name at that server")
    password_file: ReadableFile | None = Field(default=None, description="a file with the password in one line")
    token_file: ReadableFile | None = Field(default=None, description="a file with a Bearer token in one line")
    oauth: OAuthConfig | None = None
    client_certificate_file: ReadableFile | None = Field(
        default=None, description="a PEM file with a client certificate and its chain, also a proxy (RFC 3820)"
    )
    client_key_file: ReadableFile | None = Field(
        default=None, description="a PEM file with the key of the client certificate, unless that file holds it too"
    )
    ca_file: ReadableFile | None = Field(default=None, description="a PEM file with the certificates to believe")
    ca_path: Directory | None = Field(default=None, description="a directory of certificates to believe, by hashes")
    uploads: Literal["aside", "direct"] = Field(default="aside", description="aside or direct")

    @model_validator(mode="after")
    def _go_together(self) -> WebDAVConfig:
        ways = [key for key in ("password_file", "token_file", "oauth") if getattr(self, key) is not None]
        if len(ways) > 1:
            refuse("one of password_file, token_file and oauth", f"{' and '.join(ways)} together")
        if (self.user is None) != (self.password_file is None):
            refuse("user and password_file together", "one of them")
        if self.ca_file is not None and self.ca_path is not None:
            refuse("ca_file or ca_path", "both")
        if self.client_key_file is not None and self.client_certificate_file is None:
            refuse("client_certificate_file beside client_key_file", "the key alone")
        keys = ("client_certificate_file", "ca_file", "ca_path")
        if self.url.startswith("http:") and (idle := [key for key in keys if getattr(self, key) is not None]):
            refuse("an https url beside it: http uses no certificates", idle[0])
        _require_certificates(self.ca_file, self.client_certificate_file, self.client_key_file)
        return self


def _require_certificates(ca_file: Path | None, certificate: Path | None, key: Path | None) -> None:
    """Look into the files of TLS; they are read again when they change."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
    except ssl.SSLError:
        refuse("a PEM file with certificates in ca_file", f"{str(ca_file)!r}, which holds none")
    try:
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError):  # ValueError: a key with a pass phrase
        allowed = "a client certificate and its own key in PEM form, without pass phrase"
        refuse(allowed, f"{str(certificate)!r} and a key that do not fit")
