"""The configuration: what is accepted, and that every mistake is reported with its place, at once, without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ValidationError

from gateway.config import (
    Address,
    Config,
    ConfigError,
    FixedOwnership,
    LocalConfig,
    MapOwnership,
    MemoryConfig,
    Mistake,
    ServiceOwnership,
    SFTPConfig,
    admin_socket,
    is_open,
    load,
)

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path


def written(directory: Path, text: str) -> Path:
    path = directory / "config.yaml"
    path.write_text(text)
    return path


def minimal(**changes: Any) -> dict[str, Any]:
    """Return a configuration without mistakes; a change to None takes a key away."""
    document = {
        "public_url": "https://cloud.example.org",
        "state_dir": "state",
        "backends": {"nas": {"type": "local", "root": "data"}},
        "mounts": [{"name": "home", "backend": "nas", "rights": "read"}],
    } | changes
    return {key: value for key, value in document.items() if value is not None}


def loaded(directory: Path, **changes: Any) -> Config:
    return load(written(directory, yaml.safe_dump(minimal(**changes))))


def mistakes(directory: Path, **changes: Any) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, **changes)
    assert str(caught.value).splitlines() == [str(mistake) for mistake in caught.value.mistakes]
    return caught.value.mistakes


def only(directory: Path, **changes: Any) -> Mistake:
    found = mistakes(directory, **changes)
    assert len(found) == 1, found
    return found[0]


# --------------------------------------------------------------------------------------------- what is accepted


def test_the_least_configuration_has_all_defaults(directory: Path) -> None:
    """Two keys suffice; paths are absolute, the database and the admin socket are in the state directory."""
    config = loaded(directory, backends=None, mounts=None)
    assert config.state_dir == directory / "state"
    assert config.database_url == f"sqlite:///{directory}/state/state.sqlite"
    assert config.listen.admin == directory / "state" / "admin.sock"
    assert (str(config.listen.http), str(config.listen.metrics), config.listen.workers) == (
        "127.0.0.1:8080",
        "127.0.0.1:9180",
        1,
    )
    assert (config.provider, config.tls, config.proxy.trusted) == ("OCM Gateway", None, ())
    assert (dict(config.backends), config.mounts, dict(config.groups)) == ({}, (), {})
    assert (config.federation.allow_http, config.federation.allow_networks) == ((), ())
    assert (config.federation.accept, config.federation.auto_accept) == ((), ())
    assert (config.log.format, config.log.level) == ("text", "info")


def test_every_key_is_understood(directory: Path) -> None:
    """Given values arrive as typed values."""
    config = loaded(
        directory,
        provider="The Lab",
        database="sqlite:////srv/ocm/state.sqlite",
        listen={"http": "[::1]:0", "metrics": None, "admin": "run/admin.sock", "workers": 1},
        proxy={"trusted": ["10.0.0.0/8", "192.0.2.1"]},
        backends={"nas": {"type": "local", "root": str(directory / "data"), "watch": 0}, "ram": {"type": "memory"}},
        mounts=[
            {"name": "home", "backend": "nas", "path": "homes/{user}/", "rights": "write", "users": ["alice"]},
            {"name": "Lab", "backend": "ram", "path": "", "rights": "read", "groups": ["lab"]},
        ],
        groups={"lab": ["alice", "bob.b-1_x"], "none": []},
        federation={"allow_http": ["LocalHost", ".lab.example", "[::1]"], "allow_networks": ["fd00::/8"]},
        log={"format": "json", "level": "debug"},
    )
    assert config.database_url == "sqlite:////srv/ocm/state.sqlite"
    assert (config.listen.http, config.listen.metrics) == (Address("::1", 0), None)
    assert config.listen.admin == directory / "run" / "admin.sock"
    assert config.proxy.trusted == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1"))
    nas, ram = config.backends["nas"], config.backends["ram"]
    assert (nas, ram) == (LocalConfig(type="local", root=directory / "data", watch=0), MemoryConfig(type="memory"))
    assert [(m.name, m.path, m.rights, m.users, m.groups) for m in config.mounts] == [
        ("home", "homes/{user}", "write", ("alice",), ()),
        ("Lab", "", "read", (), ("lab",)),
    ]
    assert dict(config.groups) == {"lab": ("alice", "bob.b-1_x"), "none": ()}
    assert config.federation.allow_networks == (ip_network("fd00::/8"),)
    assert (config.log.format, config.log.level) == ("json", "debug")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, ServiceOwnership()),
        ({"umask": "0022"}, ServiceOwnership(mode="service", umask="022")),
        ({"mode": "service", "umask": "007"}, ServiceOwnership(mode="service", umask="007")),
        ({"mode": "fixed", "user": 12, "group": 34}, FixedOwnership(mode="fixed", user=12, group=34)),
        ({"mode": "fixed", "user": "root"}, FixedOwnership(mode="fixed", user=0, group=0)),
        ({"mode": "fixed", "user": 0}, FixedOwnership(mode="fixed", user=0, group=0)),
        ({"mode": "fixed", "user": "root", "group": 5}, FixedOwnership(mode="fixed", user=0, group=5)),
        ({"mode": "map"}, MapOwnership(mode="map", minimum_uid=1000)),
        ({"mode": "map", "minimum_uid": 500, "umask": "077"}, MapOwnership(mode="map", minimum_uid=500, umask="077")),
    ],
)
def test_every_mode_of_ownership_is_understood(directory: Path, given: object, wanted: object) -> None:
    """Names are numbers then, and a user's group is his own where none is given."""
    owned = {} if given is None else {"ownership": given}
    nas = loaded(directory, backends={"nas": {"type": "local", "root": "data", **owned}}).backends["nas"]
    assert isinstance(nas, LocalConfig)
    assert nas.ownership == wanted


def test_the_model_is_frozen(directory: Path) -> None:
    """Nobody changes the configuration of a running gateway."""
    config = loaded(directory)
    with pytest.raises(ValidationError):
        config.provider = "other"  # type: ignore[misc]  # that is the point


def test_a_key_without_value_counts_as_left_out(directory: Path) -> None:
    """A section whose keys are all commented out is no mistake."""
    text = yaml.safe_dump(minimal()) + "federation:\ngroups:\nlog:\nproxy:\ntls:\n"
    assert load(written(directory, text)).log.level == "info"


@pytest.mark.parametrize(
    ("given", "origin", "server", "base_path"),
    [
        ("https://Cloud.Example.ORG/", "https://cloud.example.org", "cloud.example.org", ""),
        ("https://h.example:443", "https://h.example", "h.example", ""),
        ("https://h.example:8443/a/b/", "https://h.example:8443", "h.example:8443", "/a/b"),
        ("HTTPS://[2001:DB8:0::1]:444/x", "https://[2001:db8::1]:444", "[2001:db8::1]:444", "/x"),
        ("https://192.0.2.1", "https://192.0.2.1", "192.0.2.1", ""),
        ("http://localhost:80/", "http://localhost", "localhost", ""),
        ("http://localhost:8080", "http://localhost:8080", "localhost:8080", ""),
    ],
)
def test_the_public_url_is_normalised(directory: Path, given: str, origin: str, server: str, base_path: str) -> None:
    """One canonical host[:port] is the name of the server; the scheme's own port is no part of it."""
    config = loaded(directory, public_url=given, federation={"allow_http": ["localhost"]})
    assert (config.origin, config.server, config.base_path) == (origin, server, base_path)
    assert config.public_url == origin + base_path


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("a.lab.example", True),
        ("b.a.lab.example", True),
        ("::1", True),
        ("[::1]", True),
        ("lab.example", False),
        ("evillab.example", False),
        ("a.lab.example.org", False),
        ("sub.localhost", False),
        ("127.0.0.1", False),
        ("", False),
    ],
)
def test_plain_http_is_allowed_by_whole_labels(directory: Path, host: str, allowed: bool) -> None:
    """A name means itself, a suffix the names below it and not what happens to end alike."""
    config = loaded(directory, federation={"allow_http": ["localhost", ".Lab.Example", "::1"]})
    assert config.federation.http_allowed(host) is allowed


@pytest.mark.parametrize(
    ("server", "is_wanted"),
    [
        ("old.example", True),
        ("old.example:8443", True),
        ("a.lab.example:8443", True),
        ("[::1]:8443", True),
        ("[::1]", True),
        ("lab.example", False),
        ("evilold.example", False),
        ("old.example.org", False),
        ("[::2]:8443", False),
    ],
)
def test_a_legacy_way_is_open_to_the_hosts_that_are_listed_on_any_port(
    directory: Path, server: str, is_wanted: bool
) -> None:
    given = {"basic": ["Old.example", ".lab.example", "::1"], "unsigned": "deny"}
    legacy = loaded(directory, federation={"legacy": given}).federation.legacy
    assert is_open(legacy.basic, server) is is_wanted
    assert not is_open(legacy.unsigned, server)
    assert is_open(legacy.cavage, server)
    assert is_open(legacy.bearer_secret, server)


def test_a_certificate_with_its_key_is_accepted(directory: Path) -> None:
    """Both files are read at the start."""
    make_certificate(directory / "a.pem", directory / "a.key")
    config = loaded(directory, tls={"certificate": "a.pem", "key": "a.key"})
    assert config.tls is not None
    assert (config.tls.certificate, config.tls.key) == (directory / "a.pem", directory / "a.key")


def make_certificate(certificate: Path, key: Path) -> None:
    """Write a self-signed certificate and its key."""
    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(
            name, name, made.public_key(), x509.random_serial_number(), now, now + timedelta(days=1)
        )
    ).sign(made, hashes.SHA256())
    pem = serialization.Encoding.PEM
    certificate.parent.mkdir(exist_ok=True)
    certificate.write_bytes(signed.public_bytes(pem))
    key.write_bytes(made.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


@pytest.mark.parametrize(
    ("given", "demanded"),
    [
        ("anyone", ()),
        (["anyone"], ()),
        ("signed", ("signed",)),
        ("contacts", ("contacts",)),
        (["allowlist", "contacts", "signed", "contacts"], ("signed", "contacts", "allowlist")),
    ],
)
def test_whose_shares_are_taken_is_one_word_or_several(directory: Path, given: object, demanded: object) -> None:
    assert loaded(directory, federation={"accept": given}).federation.accept == demanded


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("Cloud.Example.org", "cloud.example.org"),
        ("cloud.example.org:443", "cloud.example.org"),
        ("nas.example.org:8443", "nas.example.org:8443"),
        ("Bob@Cloud.example.org", "Bob@cloud.example.org"),
        ("b@c@[0:0::1]:8443", "b@c@[::1]:8443"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_who_is_accepted_without_asking_is_named_in_one_form(directory: Path, given: str, wanted: str) -> None:
    assert loaded(directory, federation={"auto_accept": [given]}).federation.auto_accept == (wanted,)


def test_an_sftp_backend_needs_little(directory: Path) -> None:
    """Port and number of connections have their usual values, and a root there is no directory here."""
    backend = loaded(directory, state_dir="/srv/data/state", mounts=None, backends={"lab": LAB}).backends["lab"]
    assert isinstance(backend, SFTPConfig)
    assert (backend.port, backend.connections, backend.root) == (22, 4, "/srv/data")


def test_an_sftp_backend_proves_itself_in_some_way(directory: Path) -> None:
    mistake = only(directory, mounts=None, backends={"lab": {key: LAB[key] for key in LAB if key != "key_file"}})
    assert (mistake.path, mistake.found) == ("backends.lab", "neither")


# ------------------------------------------------------------------------------------------ the example file


def uncommented() -> str:
    """Return the example with every optional key in force."""
    return re.sub(r"^( *)#: ", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_loads_as_it_stands(tmp_path: Path) -> None:
    """`make run` starts from it: one writable mount over ./var/data, plain http on localhost."""
    (tmp_path / "var/data").mkdir(parents=True)
    config = load(written(tmp_path, EXAMPLE.read_text()))
    assert (config.public_url, config.server) == ("http://localhost:8080", "localhost:8080")
    assert config.database_url == f"sqlite:///{tmp_path}/var/state/state.sqlite"
    storage = config.backends["storage"]
    assert isinstance(storage, LocalConfig)
    assert storage.root == tmp_path / "var/data"
    assert [(m.name, m.path, m.rights, m.users, m.groups) for m in config.mounts] == [("home", "", "write", (), ())]


def test_the_example_names_its_missing_directory(tmp_path: Path) -> None:
    """Who starts without `make run` is told what to do."""
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, EXAMPLE.read_text()))
    assert [mistake.path for mistake in caught.value.mistakes] == ["backends.storage.root"]
    assert f"mkdir -p {tmp_path}/var/data" in str(caught.value)


def test_the_example_loads_with_every_optional_key(tmp_path: Path) -> None:
    """No commented line has rotted."""
    (tmp_path / "var/data").mkdir(parents=True)
    make_certificate(tmp_path / "var/tls/certificate.pem", tmp_path / "var/tls/key.pem")
    (tmp_path / "var/directory.pem").touch()
    (tmp_path / "var/s3").mkdir()
    for name in ("access-key", "secret-key"):
        (tmp_path / "var/s3" / name).write_text("a-key\n")
    (tmp_path / "var/webdav").mkdir()
    for secret in ("password", "token", "secret"):
        (tmp_path / "var/webdav" / secret).write_text("secret\n")
    (tmp_path / "var/ssh").mkdir()
    for name in ("key", "password", "known_hosts"):
        (tmp_path / "var/ssh" / name).touch()
    (tmp_path / "var/ssh/keys-of").touch(0o755)
    config = load(written(tmp_path, uncommented()))
    assert config.tls is not None
    assert config.groups == {"lab": ("alice", "carol")}


def model_keys(annotation: object, prefix: str = "") -> set[str]:
    """Return the keys of a model as paths: `*` for a name of the operator's own, `[]` for an item."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        keys = set()
        for name, field in annotation.model_fields.items():
            keys |= {f"{prefix}{name}"} | model_keys(field.annotation, f"{prefix}{name}.")
        return keys
    inner = f"{prefix}*." if get_origin(annotation) is Mapping else prefix
    return {key for argument in get_args(annotation) for key in model_keys(argument, inner)}


FREE = frozenset({"backends", "groups", "federation.peers"})  # their keys are the operator's own


def document_keys(value: Any, prefix: str = "", free: frozenset[str] = FREE) -> set[str]:
    if isinstance(value, list):
        return set().union(*(document_keys(item, prefix) for item in value)) if value else set()
    if not isinstance(value, dict):
        return set()
    keys = set()
    for name, item in value.items():
        if prefix.rstrip(".") in free:
            keys |= document_keys(item, f"{prefix}*.")
        else:
            keys |= {f"{prefix}{name}"} | document_keys(item, f"{prefix}{name}.")
    return keys


def test_the_example_has_exactly_the_keys_of_the_model() -> None:
    """A key that is missing from either is a mistake of ours."""
    assert document_keys(yaml.safe_load(uncommented())) == model_keys(Config)


# ------------------------------------------------------------------------------------------------- mistakes


def test_all_mistakes_are_reported_at_once(directory: Path) -> None:
    """Fields, unknown keys and what several keys say together: one line each, with path, found and allowed."""
    found = mistakes(
        directory,
        public_url="http://cloud.example.org",
        state_dir=None,
        listen={"http": 8080, "workers": 65},
        backends={"nas": {"type": "local", "root": "nowhere"}, "tape": {"type": "tape"}},
        mounts=[
            {"name": "home", "backend": "naas", "rights": "rw"},
            {"name": "HOME", "backend": "nas", "rights": "read", "groups": ["lab"], "pth": "x"},
        ],
        federaton={},
    )
    assert [mistake.path for mistake in found] == [
        "state_dir",
        "listen.http",
        "listen.workers",
        "backends.nas.root",
        "backends.tape.type",
        "mounts[0].rights",
        "mounts[1].pth",
        "federaton",
        "mounts[0].backend",
        "mounts[1].groups[0]",
        "mounts[1].name",
        "public_url",
    ]
    lines = [str(mistake) for mistake in found]
    assert lines[0] == "state_dir: found nothing; allowed: a directory for the gateway's own data"
    assert lines[4] == "backends.tape.type: found 'tape'; allowed: one of local, memory, s3, sftp, webdav"
    assert lines[5] == "mounts[0].rights: found 'rw'; allowed: read or write"
    assert lines[6] == "mounts[1].pth: found an unknown key; allowed: perhaps path was meant"
    assert lines[7] == "federaton: found an unknown key; allowed: perhaps federation was meant"
    assert lines[8] == "mounts[0].backend: found 'naas'; allowed: a name under backends: nas, tape"


LAB = {
    "type": "sftp",
    "host": "storage.lab.example",
    "user": "gateway",
    "root": "/srv/data",
    "key_file": __file__,
    "known_hosts_file": __file__,
}

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    # change, path of the mistake, word in what is allowed
    *[
        ({"public_url": value}, "public_url", "the URL that users")
        for value in (
            "",
            7,
            ["https://h.example"],
            "h.example",
            "ftp://h.example",
            "https://",
            "https://h.example?x",
            "https://h.example/?",
            "https://h.example#x",
            "https://h.example/a b",
            "https://h.example/a//b",
            "https://h.example/a/../b",
            "https://h.example/%2e",
            "https://h.example:0",
            "https://h.example:65536",
            "https://h.example:x",
            "https://user@h.example",
            "https://h_x.example",
            "https://-h.example",
            "https://h.example.",
            "https://127.1",
            "https://m\u00fcnchen.example",
            "https://h.example\n",
            "https://[::1",
            "https://[fe80::1%25eth0]",
        )
    ],
    ({"public_url": "http://h.example"}, "public_url", "federation.allow_http lists h.example"),
    ({"public_url": "http://127.0.0.1:8080"}, "public_url", "lists 127.0.0.1"),
    ({"provider": ""}, "provider", "1 to 100 printable"),
    ({"provider": "a\nb"}, "provider", "1 to 100 printable"),
    ({"state_dir": 5}, "state_dir", "a path"),
    ({"state_dir": ""}, "state_dir", "a path"),
    ({"state_dir": "data/state"}, "state_dir", "outside backends.nas.root"),
    ({"state_dir": "data"}, "state_dir", "outside backends.nas.root"),
    ({"state_dir": "other/../data"}, "state_dir", "outside backends.nas.root"),
    ({"database": "postgresql://localhost/ocm"}, "database", "not supported yet"),
    ({"database": "sqlite:///state.sqlite"}, "database", "four slashes"),
    ({"database": "sqlite://"}, "database", "four slashes"),
    ({"listen": []}, "listen", "keys of admin, http, metrics, ssh, workers"),
    ({"listen": {"http": "8080"}}, "listen.http", "ADDR:PORT"),
    ({"listen": {"http": "0.0.0.0:65536"}}, "listen.http", "ADDR:PORT"),
    ({"listen": {"http": "example.org:80"}}, "listen.http", "ADDR:PORT"),
    ({"listen": {"http": "::1:80"}}, "listen.http", "ADDR:PORT"),
    ({"listen": {"http": ["::1"]}}, "listen.http", "ADDR:PORT"),
    ({"listen": {"http": None}}, "listen.http", "ADDR:PORT"),
    ({"listen": {"metrics": "0.0.0.0:9180"}}, "listen.metrics", "loopback"),
    ({"listen": {"metrics": "[2001:db8::1]:9180"}}, "listen.metrics", "loopback"),
    ({"listen": {"workers": 0}}, "listen.workers", "from 1 to 64"),
    ({"listen": {"workers": 65}}, "listen.workers", "from 1 to 64"),
    ({"listen": {"workers": True}}, "listen.workers", "from 1 to 64"),
    ({"listen": {"workers": "1"}}, "listen.workers", "from 1 to 64"),
    (
        {"listen": {"workers": 2}, "backends": {"nas": {"type": "local", "root": "data"}, "ram": {"type": "memory"}}},
        "listen.workers",
        "1 beside backends.ram",
    ),
    ({"listen": {"admin": 1}}, "listen.admin", "a path"),
    ({"tls": {"certificate": "data"}}, "tls.certificate", "can read"),
    ({"upstream": {}}, "upstream.url", "http://127.0.0.1:8081"),
    ({"upstream": "http://127.0.0.1:8081"}, "upstream", "ca, idle_timeout, url"),
    ({"upstream": {"url": "http://nas:8081/"}, "proxy": 1}, "proxy", "trusted"),
    ({"upstream": {"url": "http://nas/path"}}, "upstream.url", "every path is passed on"),
    ({"upstream": {"url": "nas:8081"}}, "upstream.url", "scheme, host and port"),
    ({"upstream": {"url": "http://me:hush@nas"}}, "upstream.url", "scheme, host and port"),
    ({"upstream": {"url": "unix:/run/x"}}, "upstream.url", "scheme, host and port"),
    ({"upstream": {"url": "http://127.0.0.1:8080"}}, "upstream.url", "round for ever"),
    ({"upstream": {"url": "http://localhost:8080"}}, "upstream.url", "round for ever"),
    ({"upstream": {"url": "https://cloud.example.org"}}, "upstream.url", "round for ever"),
    ({"upstream": {"url": "http://nas", "ca": "config.yaml"}}, "upstream.ca", "nothing beside an http url"),
    ({"upstream": {"url": "https://nas", "ca": "config.yaml"}}, "upstream.ca", "certificates"),
    ({"upstream": {"url": "https://nas", "ca": "none.pem"}}, "upstream.ca", "can read"),
    ({"upstream": {"url": "https://nas", "idle_timeout": 0}}, "upstream.idle_timeout", "more than 0"),
    ({"upstream": {"url": "https://nas", "idle_timeout": "5 s"}}, "upstream.idle_timeout", "number of seconds"),
    ({"upstream": {"url": "https://nas", "timeout": 5}}, "upstream.timeout", "idle_timeout"),
    ({"federation": {"allowlist": "example.org"}}, "federation.allowlist", "null for everybody"),
    ({"federation": {"allowlist": ["*.example.org"]}}, "federation.allowlist[0]", "a suffix of hosts"),
    ({"federation": {"denylist": None}}, "federation.denylist", "a list of servers"),
    ({"federation": {"first_contacts": {"per_source": 0}}}, "federation.first_contacts.per_source", "from 1 to"),
    ({"federation": {"first_contacts": {"per_target": True}}}, "federation.first_contacts.per_target", "from 1 to"),
    *[
        ({"federation": {"directories": [{"url": url, "key": "config.yaml"}]}}, "federation.directories[0].url", "as in https://")
        for url in ("directory.example.org", "ftp://d.example", "https://", "https://d.example/#x", "https://me:x@d.example")
    ],
    ({"proxy": {"trusted": "10.0.0.0/8"}}, "proxy.trusted", "a list of networks"),
    ({"proxy": {"trusted": ["10.0.0.1/8"]}}, "proxy.trusted[0]", "without host bits"),
    ({"proxy": {"trusted": [10]}}, "proxy.trusted[0]", "CIDR"),
    ({"backends": ["nas"]}, "backends", "a mapping of names"),
    ({"backends": {"nas": "data"}}, "backends.nas", "a mapping with `type`"),
    ({"backends": {"nas": {"root": "data"}}}, "backends.nas.type", "one of local, memory, s3, sftp, webdav"),
    ({"backends": {"nas": {"type": ["local"]}}}, "backends.nas.type", "one of local, memory, s3, sftp, webdav"),
    ({"backends": {"nas": {"type": "local"}}}, "backends.nas.root", "a directory"),
    ({"backends": {"nas": {"type": "memory", "root": "data"}}}, "backends.nas.root", "ownership, "),
    *(
        ({"backends": {"lab": {**LAB, **change}}}, f"backends.lab{key}", allowed)
        for change, key, allowed in (
            ({"host": "sftp://storage"}, ".host", "a host name"),
            ({"port": 0}, ".port", "from 1 to 65535"),
            ({"port": "22"}, ".port", "from 1 to 65535"),
            ({"user": "two words"}, ".user", "without spaces"),
            ({"user": None}, ".user", "name of an account"),
            ({"root": "../etc"}, ".root", "without '..'"),
            ({"root": ""}, ".root", "a directory on the server"),
            ({"root": None}, ".root", "a directory on the server"),
            ({"connections": 0}, ".connections", "from 1 to 32"),
            ({"connections": True}, ".connections", "from 1 to 32"),
            ({"known_hosts_file": "missing"}, ".known_hosts_file", "can read"),
            ({"known_hosts_file": None}, ".known_hosts_file", "a path"),
            ({"key_file": "missing"}, ".key_file", "can read"),
            ({"password_file": __file__}, "", "one of key_file and password_file"),
            ({"password": "wonderland"}, ".password", "password_file was meant"),
        )
    ),
    ({"backends": {"nas": {"type": "local", "root": "data", "watch": -1}}}, "backends.nas.watch", "from 0 (none)"),
    ({"backends": {"nas": {"type": "local", "root": "data", "watch": True}}}, "backends.nas.watch", "from 0 (none)"),
    *(
        ({"backends": {"nas": {"type": "local", "root": "data", "ownership": given}}}, path, allowed)
        for given, path, allowed in (
            ("map", "backends.nas.ownership", "a mapping with `mode`"),
            ({"mode": "mapped"}, "backends.nas.ownership.mode", "one of service, fixed, map"),
            ({"mode": ["map"]}, "backends.nas.ownership.mode", "one of service, fixed, map"),
            ({"mode": "map", "user": 5}, "backends.nas.ownership.user", "mode, umask"),
            ({"mode": "map", "minimum_uid": 0}, "backends.nas.ownership.minimum_uid", "from 1"),
            ({"mode": "map", "minimum_uid": True}, "backends.nas.ownership.minimum_uid", "from 1"),
            ({"mode": "fixed"}, "backends.nas.ownership.user", "an account of this machine"),
            ({"mode": "fixed"}, "backends.nas.ownership.group", "a group of this machine"),
            ({"mode": "fixed", "user": "nobody-of-that-name"}, "backends.nas.ownership.user", "an account of this"),
            ({"mode": "fixed", "user": 3_999_999_999}, "backends.nas.ownership.group", "with an account has one"),
            ({"mode": "fixed", "user": -1, "group": 5}, "backends.nas.ownership.user", "an account of this machine"),
            ({"mode": "fixed", "user": 2**32 - 1, "group": 5}, "backends.nas.ownership.user", "an account of this"),
            ({"mode": "fixed", "user": "a\0b", "group": 5}, "backends.nas.ownership.user", "an account of this"),
            ({"mode": "fixed", "user": 5, "group": "nobodies"}, "backends.nas.ownership.group", "a group of this"),
            ({"mode": "fixed", "user": 5, "group": 5, "minimum_uid": 5}, "backends.nas.ownership.minimum_uid", "mode"),
            *(
                ({"umask": umask}, "backends.nas.ownership.umask", "in quotes and beginning with 0")
                for umask in (7, 22, "22", "700", "0o22", "0700", "02022", "089", "", True)
            ),
        )
    ),
    ({"mounts": {}}, "mounts", "a list of mounts"),
    ({"mounts": ["home"]}, "mounts[0]", "a list of mounts"),
    ({"groups": {"lab": "alice"}}, "groups.lab", "lists of user names"),
    ({"groups": {"Lab": []}}, "groups.Lab", "a group name"),
    ({"groups": {"lab": ["Alice"]}}, "groups.lab[0]", "a user name"),
    ({"groups": {"lab": [12]}}, "groups.lab[0]", "a user name"),
    ({"federation": {"allow_http": ["localhost:80"]}}, "federation.allow_http[0]", "without port"),
    ({"federation": {"allow_http": ["http://localhost"]}}, "federation.allow_http[0]", "without port"),
    ({"federation": {"allow_http": ["."]}}, "federation.allow_http[0]", "suffix"),
    ({"federation": {"allow_http": ["*"]}}, "federation.allow_http[0]", "suffix"),
    ({"federation": {"peers": {"https://x": {}}}}, "federation.peers.https://x", "without scheme and port"),
    ({"federation": {"peers": {"x.example": {"ca_file": "no.pem"}}}}, "federation.peers.x.example.ca_file", "can read"),
    ({"federation": {"peers": {"x.example": {"ca_file": "config.yaml"}}}}, "federation.peers.x.example.ca_file", "PEM"),
    ({"federation": {"allow_networks": ["all"]}}, "federation.allow_networks[0]", "CIDR"),
    ({"federation": {"legacy": "deny"}}, "federation.legacy", "a mapping"),
    ({"federation": {"legacy": {"basic": True}}}, "federation.legacy.basic", "allow, deny, or a list"),
    ({"federation": {"legacy": {"basic": []}}}, "federation.legacy.basic", "allow, deny, or a list"),
    ({"federation": {"legacy": {"basic": "old.example"}}}, "federation.legacy.basic", "allow, deny, or a list"),
    ({"federation": {"legacy": {"cavage": ["old.example:443"]}}}, "federation.legacy.cavage", "without port"),
    ({"federation": {"legacy": {"none": "deny"}}}, "federation.legacy.none", "unsigned"),
    *(
        ({"federation": {"accept": given}}, "federation.accept", "anyone, or one or several of")
        for given in ("everyone", [], ["anyone", "signed"], {"signed": True}, True, 1)
    ),
    ({"federation": {"auto_accept": "cloud.example.org"}}, "federation.auto_accept", "a list of servers"),
    *(
        ({"federation": {"auto_accept": [given]}}, "federation.auto_accept[0]", "a server or an OCM Address")
        for given in ("", "@a.example", "https://a.example", "a.example/x", "a.example:0", "a b", "bob@", 7, "x@[::g]")
    ),
    ({"log": {"level": "loud"}}, "log.level", "debug, info"),
    ({"log": {"fromat": "json"}}, "log.fromat", "perhaps format"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "path", "allowed"), REFUSED)
def test_a_mistake_is_reported_where_it_stands(
    directory: Path, changes: dict[str, Any], path: str, allowed: str
) -> None:
    """One line, with the path and what is allowed."""
    found = mistakes(directory, **changes)
    assert path in [mistake.path for mistake in found]
    assert any(allowed in mistake.allowed for mistake in found if mistake.path == path), found


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "received", "Received", "a\tb", "a\x00", "\u202ea", 5, "x" * 256]
)
def test_a_mount_name_is_one_component(directory: Path, name: object) -> None:
    """Names that cannot stand at the top of a tree, or stand there already."""
    found = only(directory, mounts=[{"name": name, "backend": "nas", "rights": "read"}])
    assert found.path == "mounts[0].name"


@pytest.mark.parametrize(
    "path", ["/", "/a", "..", "a/../b", "a/..", "./a", "a//b", "a\\..\\b", "a\nb", "{group}", "{user", "{{user}}", 5]
)
def test_a_mount_path_stays_below_the_root(directory: Path, path: object) -> None:
    """Only {user} is replaced."""
    found = only(directory, mounts=[{"name": "home", "backend": "nas", "path": path, "rights": "read"}])
    assert found.path == "mounts[0].path"


@pytest.mark.parametrize(
    "user",
    ["", "Alice", "a b", "-a", ".a", "a/b", "a@b", "a" * 65, "s-" + "a" * 22, "s-0123456789012345678901x", None, 5],
)
def test_a_user_name_is_one_that_can_exist(directory: Path, user: object) -> None:
    """The log-ins of Shares are no user names."""
    found = only(directory, mounts=[{"name": "home", "backend": "nas", "rights": "read", "users": [user]}])
    assert found.path == "mounts[0].users[0]"


@pytest.mark.parametrize("user", ["a", "0", "a.b_c-d", "s-short", "s-" + "a" * 21, "a" * 64])
def test_an_ordinary_user_name_is_accepted(directory: Path, user: str) -> None:
    """Also one that begins like a Share's log-in and is shorter."""
    config = loaded(directory, mounts=[{"name": "home", "backend": "nas", "rights": "read", "users": [user]}])
    assert config.mounts[0].users == (user,)


@pytest.mark.parametrize("key", ["users", "groups"])
@pytest.mark.parametrize("value", [[], None])
def test_an_empty_list_is_neither_everybody_nor_nobody(directory: Path, key: str, value: object) -> None:
    """What could mean both is refused."""
    found = only(directory, mounts=[{"name": "home", "backend": "nas", "rights": "read", key: value}])
    assert (found.path, "leave the key out" in found.allowed) == (f"mounts[0].{key}", True)


@pytest.mark.parametrize("name", ["", "Nas", "-nas", "n" * 33, "a.b"])
def test_a_backend_name_is_plain(directory: Path, name: str) -> None:
    """It appears in logs, metrics and the state."""
    found = mistakes(directory, backends={name: {"type": "memory"}}, mounts=None)
    assert [mistake.path for mistake in found] == [f"backends.{name}"]
    assert found[0].found == repr(name)


def test_files_of_tls_have_to_fit(directory: Path) -> None:
    """A key of another certificate is found at the start, not at the first connection."""
    make_certificate(directory / "a.pem", directory / "a.key")
    make_certificate(directory / "b.pem", directory / "b.key")
    found = only(directory, tls={"certificate": "a.pem", "key": "b.key"})
    assert (found.path, found.found) == ("tls", "files that do not fit")


def test_tls_needs_both_files(directory: Path) -> None:
    """A certificate without a key is half a door."""
    make_certificate(directory / "a.pem", directory / "a.key")
    found = only(directory, tls={"certificate": "a.pem"})
    assert (found.path, found.found) == ("tls.key", "nothing")


def test_a_state_directory_reached_through_a_link_is_seen(directory: Path) -> None:
    """The real place counts."""
    (directory / "link").symlink_to(directory / "data")
    assert only(directory, state_dir="link/state").path == "state_dir"


# --------------------------------------------------------------------------------------------- the file itself


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    """Not a traceback."""
    assert (
        refused(tmp_path / "none.yaml") == "the file: found no such file or directory; allowed: a file that can be read"
    )


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    """Nor is a device or a socket."""
    assert "is a directory" in refused(tmp_path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just text\n", "42\n"])
def test_a_file_that_holds_no_mapping_is_a_mistake(tmp_path: Path, text: str) -> None:
    """An empty file is no gateway."""
    assert "allowed: a mapping" in refused(written(tmp_path, text))


def test_a_syntax_error_names_line_and_column_and_not_the_line(tmp_path: Path) -> None:
    """A password on the wrong line is not repeated."""
    message = refused(written(tmp_path, "public_url: https://h.example\npassword: 'hunter2\nstate_dir: x\n"))
    assert re.match(r"the file: found line \d+, column \d+: ", message)
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "text", ["a: !!python/object:os.system x\n", "a: *b\n", "{a: 1}: b\n", "a: 2026-13-45\n", "\x01\n"]
)
def test_what_yaml_cannot_build_is_a_mistake(tmp_path: Path, text: str) -> None:
    """Tags, aliases and keys of other kinds do not get further than the reader."""
    assert "allowed: valid YAML" in refused(written(tmp_path, text))


def test_bytes_that_are_no_text_are_a_mistake(tmp_path: Path) -> None:
    """Latin-1 is named, not guessed."""
    path = tmp_path / "config.yaml"
    path.write_bytes("provider: M\u00fcnchen\n".encode("latin-1"))
    assert "valid YAML in UTF-8" in refused(path)


def test_a_key_that_stands_twice_is_a_mistake(directory: Path) -> None:
    """YAML would take the last one without a word."""
    text = yaml.safe_dump(minimal()) + "provider: a\nlog: {level: info, level: debug}\nprovider: b\n"
    lines = refused(written(directory, text)).splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"log.level: found the key twice, in lines (\d+) and \1; allowed: one of them", lines[0])
    assert re.fullmatch(r"provider: found the key twice, in lines \d+ and \d+; allowed: one of them", lines[1])


def test_a_key_that_is_no_text_is_a_mistake(directory: Path) -> None:
    """`on:` is a boolean in YAML."""
    assert "True: found an unknown key" in refused(written(directory, yaml.safe_dump(minimal()) + "on: 1\n"))


def test_a_document_that_holds_itself_is_a_mistake(directory: Path) -> None:
    """A recursive alias ends."""
    assert "mounts" in refused(written(directory, yaml.safe_dump(minimal(mounts=None)) + "mounts: &a [*a]\n"))


@pytest.mark.parametrize(
    ("changes", "secret"),
    [
        ({"public_url": "https://alice:hunter2@h.example"}, "hunter2"),
        ({"database": "postgresql://ocm:hunter2@db/ocm"}, "hunter2"),
        ({"client_secret": "hunter2"}, "hunter2"),
        ({"backends": {"nas": {"type": "memory", "password": "hunter2"}}}, "hunter2"),
        ({"tls": {"certificate": {"pem": "hunter2"}, "key": ["hunter2"]}}, "hunter2"),
    ],
)
def test_no_secret_is_repeated(directory: Path, changes: dict[str, Any], secret: str) -> None:
    """What is found is described, and passwords in URLs and under unknown keys are not shown."""
    with pytest.raises(ConfigError) as caught:
        loaded(directory, **changes)
    assert secret not in str(caught.value)
    assert secret not in repr(caught.value)


# ------------------------------------------------------------------------------------------- for the command line


def test_the_admin_socket_is_found_despite_other_mistakes(tmp_path: Path) -> None:
    """A user who cannot read the key, or has no access to the storage, can still talk to the gateway."""
    path = written(tmp_path, "state_dir: state\nbackends: {nas: {type: local, root: nowhere}}\ntls: {key: none}\n")
    assert admin_socket(path) == tmp_path / "state" / "admin.sock"
    assert admin_socket(written(tmp_path, "state_dir: s\nlisten: {admin: /run/a.sock}\n")) == Path("/run/a.sock")


@pytest.mark.parametrize(
    "text", ["", "a: 1\n", "state_dir: 5\n", "state_dir: s\nlisten: {admin: 1}\n", "state_dir: s\nlisten: []\n"]
)
def test_without_a_state_directory_there_is_no_admin_socket(tmp_path: Path, text: str) -> None:
    """The command line says so instead of guessing."""
    with pytest.raises(ConfigError):
        admin_socket(written(tmp_path, text))
