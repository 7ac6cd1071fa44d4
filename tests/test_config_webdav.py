"""Backends of type webdav in the configuration: what is accepted, and mistakes by their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_config import loaded, make_certificate, mistakes

from gateway.config import OAuthConfig, WebDAVConfig

URL = "https://nas.example.org/dav/"
OAUTH = {"token_endpoint": "https://iam.example.org/token", "client_id": "ocm", "client_secret_file": "secret"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the files that sections name."""
    for name in ("data", "authorities"):
        (tmp_path / name).mkdir()
    for name in ("password", "secret", "no-pem"):
        (tmp_path / name).write_text("wonderland\n")
    make_certificate(tmp_path / "a.pem", tmp_path / "a.key")
    make_certificate(tmp_path / "b.pem", tmp_path / "b.key")
    (tmp_path / "proxy").write_bytes((tmp_path / "a.pem").read_bytes() + (tmp_path / "a.key").read_bytes())
    return tmp_path


def remote(**keys: Any) -> dict[str, Any]:
    return {"nas": {"type": "webdav", "url": URL} | keys}


def test_every_key_of_a_webdav_backend_is_understood(directory: Path) -> None:
    """Paths are relative to the file, as everywhere."""
    with_password = loaded(directory, backends=remote(user="ä b", password_file="password", ca_file="a.pem"))
    with_oauth = loaded(directory, backends=remote(oauth=OAUTH | {"scope": "a b"}, ca_path="authorities"))
    with_key = loaded(directory, backends=remote(client_certificate_file="a.pem", client_key_file="a.key"))
    with_proxy = loaded(directory, backends=remote(client_certificate_file="proxy", uploads="direct"))
    assert [config.backends["nas"] for config in (with_password, with_oauth, with_key, with_proxy)] == [
        WebDAVConfig.model_construct(
            type="webdav", url=URL, user="ä b", password_file=directory / "password", ca_file=directory / "a.pem"
        ),
        WebDAVConfig.model_construct(
            type="webdav",
            url=URL,
            oauth=OAuthConfig.model_construct(
                **OAUTH | {"scope": "a b", "client_secret_file": directory / "secret"},
            ),
            ca_path=directory / "authorities",
        ),
        WebDAVConfig.model_construct(
            type="webdav",
            url=URL,
            client_certificate_file=directory / "a.pem",
            client_key_file=directory / "a.key",
        ),
        WebDAVConfig.model_construct(
            type="webdav", url=URL, client_certificate_file=directory / "proxy", uploads="direct"
        ),
    ]


@pytest.mark.parametrize(
    ("keys", "path", "allowed"),
    [
        *(
            ({"url": url}, "backends.nas.url", "http or https URL")
            for url in (
                None,
                5,
                "nas",
                "ftp://nas/",
                f"{URL}?a",
                f"{URL}#a",
                "https://u:pw@nas/",
                "https://nas:22/",
                "/dav",
            )
        ),
        ({"user": "alice"}, "backends.nas", "user and password_file together"),
        ({"password_file": "password"}, "backends.nas", "user and password_file together"),
        ({"user": "a:b", "password_file": "password"}, "backends.nas.user", "without ':'"),
        ({"token_file": "nowhere"}, "backends.nas.token_file", "a file that this user can read"),
        ({"token_file": "secret", "oauth": OAUTH}, "backends.nas", "one of password_file, token_file and oauth"),
        (
            {"oauth": OAUTH | {"token_endpoint": "http://iam.example.org/"}},
            "backends.nas.oauth.token_endpoint",
            "https",
        ),
        ({"oauth": {"client_id": "ocm"}}, "backends.nas.oauth.client_secret_file", "in one line"),
        ({"ca_file": "a.pem", "ca_path": "authorities"}, "backends.nas", "ca_file or ca_path"),
        ({"ca_file": "no-pem"}, "backends.nas", "certificates in ca_file"),
        ({"ca_path": "nowhere"}, "backends.nas.ca_path", "a directory"),
        ({"client_key_file": "a.key"}, "backends.nas", "client_certificate_file beside"),
        ({"client_certificate_file": "a.pem"}, "backends.nas", "its own key"),
        ({"client_certificate_file": "a.pem", "client_key_file": "b.key"}, "backends.nas", "its own key"),
        ({"url": "http://nas/", "ca_file": "a.pem"}, "backends.nas", "an https url"),
        ({"uploads": "often"}, "backends.nas.uploads", "aside or direct"),
        ({"password": "wonderland"}, "backends.nas.password", "password_file"),
    ],
)
def test_a_mistake_is_reported_where_it_stands(directory: Path, keys: dict[str, Any], path: str, allowed: str) -> None:
    """And no secret is shown."""
    found = [mistake for mistake in mistakes(directory, backends=remote(**keys)) if mistake.path == path]
    assert any(allowed in mistake.allowed for mistake in found), found
    assert not any("wonderland" in str(mistake) or "pw" in str(mistake) for mistake in found if "password" not in keys)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_token_endpoint_on_this_machine_may_speak_plain_http(directory: Path, host: str) -> None:
    config = loaded(directory, backends=remote(oauth=OAUTH | {"token_endpoint": f"http://{host}:8080/token"}))
    backend = config.backends["nas"]
    assert isinstance(backend, WebDAVConfig)
    assert backend.oauth is not None
