"""A federation as its operators run it: a key, a signed list, a gateway that reads it, and one that may not come in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sites import Site, eventually

from gateway.cli import main
from gateway.ocm.key_files import public_keys

TOKEN = "an-invite-token-that-nobody-else-may-see"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class DirectoryService:
    """A web server that gives out one document."""

    def __init__(self) -> None:
        self.document = b""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(service.document)))
                self.end_headers()
                self.wfile.write(service.document)

            def log_message(self, *arguments: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}/list"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service() -> Iterator[DirectoryService]:
    service = DirectoryService()
    yield service
    service.stop()


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments], input=stdin)


def key_in(directory: Path) -> tuple[Path, Path]:
    """Make a key; return the files with its private and its public half."""
    directory.mkdir(exist_ok=True)
    private, public = directory / "directory.key", directory / "directory.pem"
    made = run("directory", "key", str(private))
    assert made.exit_code == 0, made.output
    public.write_text(made.stdout)
    return private, public


def members(*urls: str) -> str:
    return json.dumps(
        {"federation": "Test Mesh", "servers": [{"url": url, "displayName": f"At {url}"} for url in urls]}
    )


def signed(key: Path, *urls: str, expires: str = "30d") -> bytes:
    done = run("directory", "sign", "-", "--key", str(key), "--expires", expires, stdin=members(*urls))
    assert done.exit_code == 0, done.output
    return done.stdout.encode()


def test_a_federation_from_its_key_to_who_may_come_in(tmp_path: Path, service: DirectoryService) -> None:
    private, public = key_in(tmp_path)
    directory = {"url": service.url, "key": str(public), "name": "Mesh", "trusted": True}
    lists = {"allowlist": [], "denylist": ["denied.example"], "directories": [directory]}
    networks = {"allow_http": ["localhost"], "allow_networks": ["127.0.0.0/8", "::1/128"]}
    service.document = signed(private, "https://member.example", "https://other.example:8443")
    site = Site(tmp_path / "site", federation=lists | networks)
    with site:
        site.add_user("alice", "alice-password")
        (site.data / "run42").mkdir()
        eventually(lambda: site.json("directory", "list")[0]["federation"], "Test Mesh")
        (listed,) = site.json("directory", "list")
        assert (listed["name"], listed["servers"], listed["problem"], listed["expired"]) == ("Mesh", 2, None, False)
        assert [member["server"] for member in site.json("directory", "show", "Mesh")["members"]] == [
            "member.example",
            "other.example:8443",
        ]
        assert "At https://member.example" in site.cli("directory", "show", "Mesh").stdout
        assert f'ocm_gateway_directory_age_seconds{{url="{service.url}"}}' in metrics(site)
        document = json.loads(site.http("GET", "/.well-known/ocm").body)
        assert document["criteria"] == ["allowlist", "denylist"]
        assert "invite-wayf" in document["capabilities"]

        page = site.http("GET", f"/wayf?token={TOKEN}")
        assert (page.status, b'value="other.example:8443"' in page.body) == (200, True)
        assert (
            b"does not work together with"
            in site.http("POST", "/wayf", f"token={TOKEN}&server=x.org".encode(), FORM).body
        )

        def share_with(host: str) -> str:
            return site.cli("share", "create", "/home/run42", "--as", "alice", "--with", f"bob@{host}").stderr

        assert "is not on federation.allowlist here" in share_with("stranger.example")
        assert "is on federation.denylist" in share_with("denied.example")
        assert site.json("share", "list", "--as", "alice") == []
        trusted = site.cli("peer", "trust", "denied.example").stdout
        assert "refused all the same: it is on federation.denylist" in trusted
        assert site.json("peer", "show", "denied.example")["standing"] == "denylist"
        assert "UNTRUSTED_PROVIDER" not in share_with("member.example")
        assert [share["share_with"] for share in site.json("share", "list", "--as", "alice")] == ["bob@member.example"]

        service.document = signed(key_in(tmp_path / "foreign")[0], "https://evil.example")
        refreshed = site.cli("directory", "refresh")
        assert (refreshed.returncode, "none of the configured keys" in refreshed.stdout) == (1, True)
        assert "is not on federation.allowlist here" in share_with("evil.example")
        assert "directory not refreshed" in site.log.read_text()
        assert TOKEN not in site.log.read_text()
    service.stop()
    with site:  # the last good list outlives a restart without its service
        (listed,) = site.json("directory", "list")
        assert (listed["servers"], listed["problem"] is not None) == (2, True)
        assert site.cli("directory", "refresh", "Nobody").returncode == 1


def metrics(site: Site) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{site.metrics_port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


# --- commands that need no gateway ----------------------------------------------------------------------------------


def test_a_key_is_private_and_never_overwritten(tmp_path: Path) -> None:
    private, public = key_in(tmp_path)
    assert private.stat().st_mode & 0o777 == 0o600
    assert [key.alg for key in public_keys(public.read_bytes())] == ["ES256"]
    before = private.read_bytes()
    again = run("directory", "key", str(private))
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)
    assert private.read_bytes() == before
    jwk = json.loads(run("directory", "key", str(tmp_path / "other.key"), "--json").stdout)
    assert (jwk["kty"], jwk["alg"], "d" in jwk) == ("EC", "ES256", False)


@pytest.mark.parametrize(
    ("text", "expires", "said"),
    [
        (members("https://a.example/ocm"), "30d", "ends with its host and port"),
        (members("a.example"), "30d", "servers[0]"),
        ('{"servers": []}', "30d", "federation (REQUIRED)"),
        ("[]", "30d", "not an object"),
        (members("https://a.example"), "2020-01-01", "expired already"),
    ],
)
def test_a_list_that_others_would_not_take_is_not_signed(tmp_path: Path, text: str, expires: str, said: str) -> None:
    private, _ = key_in(tmp_path)
    done = run("directory", "sign", "-", "--key", str(private), "--expires", expires, stdin=text)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr


def test_a_file_that_is_no_private_key_signs_nothing(tmp_path: Path) -> None:
    _, public = key_in(tmp_path)
    for file, said in ((public, "holds no private key"), (tmp_path / "none", "cannot read")):
        done = run("directory", "sign", "-", "--key", str(file), stdin=members("https://a.example"))
        assert (done.exit_code, done.stdout, said in done.stderr) == (1, "", True)


@pytest.mark.parametrize(
    ("public_url", "domain"),
    [
        ("https://cloud.example.org", "cloud.example.org"),
        ("https://cloud.example.org:8443/gateway", "cloud.example.org:8443"),
    ],
)
def test_the_entry_for_ocmproviders_has_domain_with_port_and_endpoint(
    tmp_path: Path, public_url: str, domain: str
) -> None:
    """The shape is that of OpenCloud's own file; `path` is what they post to, with a slash at its end (peers.md §7)."""
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"public_url": public_url, "state_dir": str(tmp_path), "provider": "The Lab"}))
    done = run("--config", str(config), "directory", "provider-entry")
    assert done.exit_code == 0, done.output
    (entry,) = json.loads(done.stdout)
    assert set(entry) == {"name", "full_name", "organization", "domain", "homepage", "description", "services"}
    assert (entry["domain"], entry["homepage"]) == (domain, public_url)
    (service,) = entry["services"]
    assert service == {
        "endpoint": {
            "type": {"name": "OCM", "description": "The Lab Open Cloud Mesh API"},
            "name": "The Lab - OCM API",
            "path": f"{public_url}/ocm/",
            "is_monitored": True,
        },
        "api_version": "0.0.1",
        "host": domain,
    }


def test_check_config_names_a_key_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    config = tmp_path / "config.yaml"
    directories = [{"url": "https://d.example/list", "key": "empty.pem"}]
    document = {"public_url": "https://c.example", "state_dir": "state", "federation": {"directories": directories}}
    config.write_text(json.dumps(document))
    done = run("--config", str(config), "check-config")
    assert (done.exit_code, "federation.directories[0].key" in done.stderr) == (1, True)
    directories[:] = [directories[0] | {"key": str(config)}, directories[0] | {"key": str(config)}]
    config.write_text(json.dumps(document))
    assert "federation.directories[1].url" in run("--config", str(config), "check-config").stderr
