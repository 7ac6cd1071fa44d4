"""`make run ROOT=...` fronts that directory, whatever its name, or says why it does not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from sites import STOP_TIME, free_port

ROOT = Path(__file__).resolve().parent.parent
PORTS = {"8080": str(free_port()), "9180": str(free_port())}


@pytest.fixture
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone after `make install`, which the tests do not repeat; its usual ports are taken on this machine."""
    clone = tmp_path_factory.mktemp("clone")  # short: a socket lies deep in it, unix(7)
    binaries = clone / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        (clone / name).write_bytes((ROOT / name).read_bytes())
    example = (ROOT / "config.example.yaml").read_text(encoding="utf-8").replace("#: metrics:", "metrics:")
    example = re.sub(r"\b(8080|9180)\b", lambda match: PORTS[match[0]], example)
    (clone / "config.example.yaml").write_text(example, encoding="utf-8")
    (binaries / "ocm-gateway").write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$@"\n')
    (binaries / "ocm-gateway").chmod(0o755)
    (clone / ".venv" / ".ready").touch()
    return clone


def only_check(clone: Path) -> None:
    """Let the command `serve` be `check-config`, which also wants the root to be there."""
    command = clone / ".venv" / "bin" / "ocm-gateway"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m gateway "$1" "$2" check-config\n')


def make_run(clone: Path, root: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "run", f"ROOT={root}"],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def rendered(clone: Path) -> dict[str, dict[str, object]]:
    """Return the configurations that were made, by their directory."""
    files = (clone / "var").glob("*/config.yaml")
    return {file.parent.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}


NAMES = ["nas", "My Data", "it's 100% & | a\\b", "- # yes: [no]", "grüße", 'quoted "twice"', "a,b)(c"]


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_fronts_that_directory(clone: Path, tmp_path: Path, name: str) -> None:
    only_check(clone)
    root = tmp_path / name
    root.mkdir()
    done = make_run(clone, str(root))
    assert done.returncode == 0, done.stderr
    assert "no mistakes" in done.stdout
    ((site, config),) = rendered(clone).items()
    assert re.fullmatch(r"at-[\w-]+-[0-9a-f]{8}", site)
    example = yaml.safe_load((clone / "config.example.yaml").read_text(encoding="utf-8"))
    example["backends"]["storage"]["root"] = str(root)
    assert config == example | {"state_dir": "./state"}


def test_each_directory_has_a_state_of_its_own(clone: Path, tmp_path: Path) -> None:
    only_check(clone)
    roots = [tmp_path / "a-b", tmp_path / "a b", tmp_path / "a" / "b", tmp_path / "b", tmp_path / ("b" * 200)]
    for root in roots:
        root.mkdir(parents=True)
        for _ in range(2):
            assert make_run(clone, str(root)).returncode == 0
    assert len(rendered(clone)) == len(roots)


def test_a_relative_root_is_relative_to_where_make_runs(clone: Path) -> None:
    only_check(clone)
    (clone / "here" / "deep").mkdir(parents=True)
    assert make_run(clone, "here/../here/deep/").returncode == 0
    (config,) = rendered(clone).values()
    assert config["backends"] == {"storage": {"type": "local", "root": str(clone / "here" / "deep")}}


@pytest.mark.parametrize("name", ["absent", "two words"])
def test_a_root_that_is_not_there_is_refused_and_nothing_is_made(clone: Path, tmp_path: Path, name: str) -> None:
    done = make_run(clone, str(tmp_path / name))
    assert done.returncode != 0
    assert f"{tmp_path / name}" in done.stderr
    assert "No such file or directory" in done.stderr
    assert not (clone / "var").exists()


def test_a_root_that_is_a_file_is_refused(clone: Path, tmp_path: Path) -> None:
    only_check(clone)
    (tmp_path / "file").touch()
    done = make_run(clone, str(tmp_path / "file"))
    assert done.returncode != 0
    assert "backends.storage.root" in done.stderr


@contextmanager
def running(clone: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["make", "run", *arguments],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what make has started ends with it
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=STOP_TIME)


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "ocm-gateway is ready" in line:
            return
    raise AssertionError("".join(said))


@pytest.mark.parametrize("name", [None, "My Data"])
def test_what_lies_there_is_read_through_the_gateway(clone: Path, tmp_path: Path, name: str | None) -> None:
    root = tmp_path / name if name else clone / "var" / "data"
    root.mkdir(parents=True)
    (root / "notes.txt").write_text("Beam test, run 42.\n")
    with running(clone, *([f"ROOT={root}"] if name else [])) as process:
        wait_until_ready(process)
        config = str(next(clone.glob("var/*/config.yaml"))) if name else "config.example.yaml"
        command = [".venv/bin/ocm-gateway", "--config", config, "user", "add", "alice", "--password-file", "-"]
        subprocess.run(
            command,
            cwd=clone,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input="correct-horse",
            text=True,
            check=True,
        )
        url = f"http://localhost:{PORTS['8080']}/dav/files/alice/home/notes.txt"
        curl = ["curl", "--silent", "--show-error", "--fail", "--user", "alice:correct-horse", url]
        done = subprocess.run(curl, capture_output=True, text=True, timeout=60)
        assert done.stdout == "Beam test, run 42.\n", done.stderr
