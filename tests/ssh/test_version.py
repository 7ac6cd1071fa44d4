"""No door on an asyncssh that nobody has looked at: the gateway says what it found, and what to do."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.ssh import version

from ..sites import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), has_ssh=True)


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_the_gateway_does_not_start_with_another_version(site: Site, tmp_path: Path, command: str) -> None:
    about = tmp_path / "asyncssh-2.24.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: asyncssh\nVersion: 2.24.0\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    done = subprocess.run([*site.command, command], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert "listen.ssh: found asyncssh 2.24.0; allowed: asyncssh from 2.24.1" in done.stderr
    assert "pip install 'asyncssh>=2.24.1,<2.25'" in done.stderr
    assert not (site.directory / "state").exists()


@pytest.mark.parametrize(
    ("installed", "is_good"),
    [
        *((name, True) for name in ("2.24.1", "2.24.2", "2.24.10", "2.24.1.post1")),
        *((name, False) for name in ("2.24.0", "2.24", "2.9.9", "1.99", "2.25", "2.25.0rc1", "2.25.0", "2.100", "3.0")),
    ],
)
def test_which_versions_will_do(site: Site, monkeypatch: pytest.MonkeyPatch, installed: str, is_good: bool) -> None:
    monkeypatch.setattr(version, "version", lambda _name: installed)
    if is_good:
        version.require_version(load(site.config))
        return
    with pytest.raises(ConfigError, match=f"found asyncssh {installed};"):
        version.require_version(load(site.config))


def test_without_a_door_any_version_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "version", lambda _name: "2.24.0")
    version.require_version(load(Site(tmp_path).config))


def test_what_is_required_is_what_is_installed_with_the_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"asyncssh>={version.LEAST},<{version.BEYOND}" in project["dependencies"]
