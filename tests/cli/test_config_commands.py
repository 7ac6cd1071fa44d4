"""The commands that need no running gateway: check-config tells every mistake, init writes what loads."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from backends import credentials
from gateway import logs
from gateway.cli import main
from gateway.config import load


def run(config: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["--config", str(config), *arguments], input=stdin)


# --- check-config ---------------------------------------------------------------------------------------------------


def test_a_good_configuration_has_no_mistakes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    config = tmp_path / "config.yaml"
    config.write_text("""
public_url: https://gateway.example
state_dir: state
backends: {storage: {type: local, root: data}}
mounts: [{name: home, backend: storage, rights: read}]
""")
    done = run(config, "check-config")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "no mistakes" in done.stdout
    assert "gateway.example" in done.stdout
    assert not (tmp_path / "state").exists(), "a check makes nothing"


def test_every_mistake_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("""
public_url: ftp://gateway.example
state_dir: state
colour: blue
listen: {http: here, workers: 0}
backends: {storage: {type: tape}}
mounts: [{name: 'a/b', backend: nowhere, rights: all}]
""")
    done = run(config, "check-config")
    assert (done.exit_code, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert lines[0] == f"{config}:"
    places = {line.partition(":")[0] for line in lines[1:]}
    assert {
        "public_url",
        "colour",
        "listen.http",
        "listen.workers",
        "backends.storage.type",
        "mounts[0].name",
        "mounts[0].backend",
        "mounts[0].rights",
    } <= places
    assert all("found" in line and "allowed" in line for line in lines[1:])


@pytest.mark.parametrize("text", ["", "[]", "public_url: [", "\x00", "a: 1\na: 2\n"])
def test_a_file_that_is_no_configuration_is_one_sentence_and_no_traceback(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    for command in ("check-config", "serve"):
        done = run(config, command)
        assert done.exit_code == 1
        assert "Traceback" not in done.output
        assert str(config) in done.stderr


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for command in (("check-config",), ("serve",), ("user", "list")):
        done = run(tmp_path / "none.yaml", *command)
        assert done.exit_code == 1
        assert "none.yaml" in done.stderr
        assert "no such file" in done.stderr


def test_the_configuration_may_be_named_by_the_environment(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["check-config"], env={"OCM_GATEWAY_CONFIG": str(tmp_path / "named.yaml")})
    assert "named.yaml" in done.stderr


# --- init -----------------------------------------------------------------------------------------------------------


def init(directory: Path, url: str = "https://gateway.example", root: str = "data", *more: str) -> Result:
    (directory / root).mkdir(exist_ok=True, parents=True)
    config, state = directory / "etc" / "config.yaml", str(directory / "state")
    return run(config, "init", "--public-url", url, "--root", str(directory / root), "--state-dir", state, *more)


@pytest.mark.parametrize(
    ("url", "root", "mount"),
    [
        ("https://gateway.example", "data", "data"),
        ("https://gateway.example/base/", "Run 42", "run 42"),
        ("http://localhost:8080", "Meßdaten", "meßdaten"),
        ("http://[::1]:8080", "received", "files"),
        ("https://gateway.example", "back\\slash", "files"),
        ("https://gateway.example", "new\nline", "files"),
    ],
)
def test_what_init_writes_loads(tmp_path: Path, url: str, root: str, mount: str) -> None:
    done = init(tmp_path, url, root)
    assert done.exit_code == 0, done.output
    path = tmp_path / "etc" / "config.yaml"
    config = load(path)
    assert config.public_url == url.rstrip("/")
    assert config.backends["storage"].root == tmp_path / root  # type: ignore[union-attr]
    assert [(one.name, one.rights) for one in config.mounts] == [(mount, "read")]
    assert config.state_dir == tmp_path / "state"
    assert run(path, "check-config").exit_code == 0
    assert f"ocm-gateway --config {path} serve" in done.stdout


def test_init_asks_for_what_is_not_given(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    config = tmp_path / "config.yaml"
    done = run(
        config,
        "init",
        "--rights",
        "write",
        "--state-dir",
        str(tmp_path / "state"),
        stdin=f"https://gateway.example\n{tmp_path / 'data'}\n",
    )
    assert done.exit_code == 0, done.output
    assert load(config).mounts[0].rights == "write"


def test_init_never_touches_a_file_that_is_there(tmp_path: Path) -> None:
    config = tmp_path / "etc" / "config.yaml"
    config.parent.mkdir()
    config.write_text("precious: true\n")
    done = init(tmp_path)
    assert done.exit_code == 1
    assert "exists already" in done.stderr
    assert config.read_text() == "precious: true\n"
    config.unlink()
    config.symlink_to(tmp_path / "elsewhere.yaml")
    assert init(tmp_path).exit_code == 1
    assert not (tmp_path / "elsewhere.yaml").exists()


@pytest.mark.parametrize(
    "url", ["", "gateway.example", "ftp://x", "https://user:secret@gateway.example", "https://x?y"]
)
def test_init_writes_nothing_that_does_not_load(tmp_path: Path, url: str) -> None:
    done = init(tmp_path, url)
    assert done.exit_code in (1, 2)
    assert "secret" not in done.output
    assert not (tmp_path / "etc" / "config.yaml").exists()


def test_init_refuses_a_root_that_is_none_and_a_state_that_would_be_shared(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    (tmp_path / "file").write_text("")
    for root in ("nothing", "file"):
        done = run(config, "init", "--public-url", "https://x.example", "--root", str(tmp_path / root))
        assert done.exit_code == 2
    inside = ("--root", str(tmp_path), "--state-dir", str(tmp_path / "state"))
    done = run(tmp_path / "etc" / "config.yaml", "init", "--public-url", "https://x.example", *inside)
    assert done.exit_code == 1
    assert "holds the keys" in done.stderr


def test_what_init_writes_is_yaml_with_a_heading(tmp_path: Path) -> None:
    init(tmp_path, "http://localhost:8080")
    path = tmp_path / "etc" / "config.yaml"
    assert path.read_text().startswith("# ")
    assert yaml.safe_load(path.read_text())["federation"] == {"allow_http": ["localhost"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_mask()


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- ownership ------------------------------------------------------------------------------------------------------

FIXED, MAP = {"mode": "fixed", "user": 70_001, "group": 70_001}, {"mode": "map"}


@pytest.mark.parametrize(
    ("ownership", "without", "mode"),
    [
        *((FIXED, [name], "fixed") for name in ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")),
        (FIXED | {"umask": "007"}, ["CAP_FOWNER", "CAP_FSETID"], "fixed"),
        *((MAP, [name], "map") for name in ("CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_FOWNER")),
    ],
)
def test_a_mode_of_ownership_that_this_process_has_not_the_rights_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ownership: dict[str, object], without: list[str], mode: str
) -> None:
    """By check-config, and by serve before it has made anything."""
    config = with_ownership(tmp_path, ownership)
    monkeypatch.setattr(credentials, "missing", lambda names: [name for name in names if name in without])
    monkeypatch.setattr(logs, "configure", lambda form, level: None)  # which would stay for other tests
    for command in ("check-config", "serve"):
        done = run(config, command)
        assert done.exit_code == 1
        found = f"{mode} in a process of uid {os.geteuid()} without {' and '.join(without)}"
        allowed = f"service; {mode} for root, or with "
        assert f"backends.storage.ownership.mode: found {found}; allowed: {allowed}" in done.stderr
        assert "Traceback" not in done.output
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("ownership", [FIXED, MAP, {"mode": "service", "umask": "027"}, {"umask": "002"}])
def test_with_the_rights_for_it_every_mode_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ownership: dict[str, object]
) -> None:
    monkeypatch.setattr(credentials, "missing", lambda names: [])
    assert run(with_ownership(tmp_path, ownership), "check-config").exit_code == 0


def test_the_services_own_account_needs_no_rights_to_be_given_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "missing", list)
    own = {"mode": "fixed", "user": os.geteuid(), "group": os.getegid()}
    assert run(with_ownership(tmp_path, own), "check-config").exit_code == 0
    refused = run(with_ownership(tmp_path, own | {"group": 70_001}), "check-config")
    assert (refused.exit_code, "without CAP_CHOWN;" in refused.stderr) == (1, True)
    assert run(with_ownership(tmp_path, FIXED), "check-config").exit_code == 1


def test_an_architecture_without_known_system_calls_has_no_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_NUMBERS", None)
    done = run(with_ownership(tmp_path, MAP), "check-config")
    assert (done.exit_code, "system calls are not known" in done.stderr) == (1, True)
    assert run(with_ownership(tmp_path, {"umask": "027"}), "check-config").exit_code == 0


def with_ownership(directory: Path, ownership: dict[str, object]) -> Path:
    (directory / "data").mkdir(exist_ok=True)
    document = {
        "public_url": "https://gateway.example",
        "state_dir": "state",
        "backends": {"storage": {"type": "local", "root": "data", "ownership": ownership}},
    }
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(document))
    return config
