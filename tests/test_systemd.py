"""The unit is clean and tight, and the service speaks the notification protocol."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sites import Site

from backends import credentials
from backends.mapped import MappedBackend
from backends.ownership import NewFiles, Owner

UNIT = Path(__file__).parent.parent / "systemd" / "ocm-gateway.service"
README = Path(__file__).parent.parent / "README.md"
INSTALLED = "/opt/ocm-gateway/bin/ocm-gateway"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """The unit with this clone's command, because systemd checks that ExecStart exists."""
    command = shutil.which("ocm-gateway", path=str(Path(sys.executable).parent))
    assert command, "the command ocm-gateway is installed beside the interpreter"
    copy = tmp_path / UNIT.name
    text = UNIT.read_text()
    assert INSTALLED in text
    copy.write_text(text.replace(INSTALLED, command))
    return copy


def test_verify_finds_nothing_to_say(rendered: Path) -> None:
    done = analyze("verify", "--man=no", str(rendered))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_exposure_is_at_most_2(rendered: Path) -> None:
    done = analyze("security", "--offline=yes", "--threshold=20", "--no-pager", str(rendered))
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 2.0
    assert done.returncode == 0


def test_the_sandbox_leaves_openat2_to_the_confinement() -> None:
    """RestrictSUIDSGID makes openat2 fail with ENOSYS, and the gateway would fall back to the slower walk."""
    settings = [line.partition("=")[0] for line in UNIT.read_text().splitlines() if not line.startswith("#")]
    assert "RestrictSUIDSGID" not in settings
    assert "PrivateUsers" not in settings


def test_a_file_that_replaces_another_may_be_given_its_group() -> None:
    """fchown(2) is among @privileged, which is taken away; a line after that gives it back (systemd.exec(5))."""
    filters = [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter=")]
    assert filters[0] == "@system-service"
    assert filters[-1] == "@chown"
    assert "fchown" in analyze("syscall-filter", "@chown").stdout.split()


# --- the drop-ins for other owners of files, as README has them ------------------------------------------------------


def drop_in(capability: str) -> str:
    """Return the drop-in of README that names `capability`, with what is an alternative there in force."""
    blocks = re.findall(r"^```ini\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if capability in block]
    lines = [line.removeprefix("#") for line in block.splitlines() if not line.startswith("# ")]
    others = {"CAP_SETUID", "CAP_CHOWN"} - {capability}
    return "\n".join(line for line in lines if not any(other in line for other in others)) + "\n"


@pytest.mark.parametrize("capability", ["CAP_SETUID", "CAP_CHOWN"])
def test_the_drop_ins_for_other_owners_verify(rendered: Path, capability: str) -> None:
    directory = rendered.with_name(f"{UNIT.name}.d")
    directory.mkdir()
    text = drop_in(capability)
    needed = {"CAP_SETUID": MappedBackend.NEEDED, "CAP_CHOWN": NewFiles(Owner(1, 1), umask=0).needed()}[capability]
    for setting in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert re.findall(rf"^{setting}=(.*)$", text, re.MULTILINE) == [" ".join(needed)]
    (directory / "ownership.conf").write_text(text)
    done = analyze("verify", "--man=no", str(rendered))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    exposed = analyze("security", "--offline=yes", "--no-pager", str(rendered)).stdout.splitlines()
    shown = {"CAP_SETUID": "CAP_SET(UID|GID|PCAP)", "CAP_CHOWN": "CAP_(CHOWN|FSETID|SETFCAP)"}[capability]
    assert [line for line in exposed if line.startswith("✗") and shown in line], "the drop-in was read"


def test_the_drop_in_for_map_allows_the_calls_that_it_makes() -> None:
    """Those that the unit takes away with @privileged, and no other is left out."""
    (line,) = re.findall(r"^SystemCallFilter=(.*)$", drop_in("CAP_SETUID"), re.MULTILINE)
    given = set(line.split())
    system_service = expanded("@system-service") - expanded("@privileged") - expanded("@resources")
    called = set(credentials._Numbers._fields)
    assert called <= system_service | expanded("@default") | given
    assert given <= called


def expanded(group: str) -> set[str]:
    """Return the system calls of a group of systemd's, those of the groups in it too."""
    words = [line.strip() for line in analyze("syscall-filter", group).stdout.splitlines()[1:]]
    named = {word for word in words if word and not word.startswith("#")}
    return {word for word in named if not word.startswith("@")}.union(
        *(expanded(word) for word in named if word.startswith("@"))
    )


@pytest.fixture
def notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(path))
        channel.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        yield channel


def test_ready_is_said_when_the_doors_listen_and_the_watchdog_is_fed(
    tmp_path: Path, notifications: socket.socket
) -> None:
    site = Site(tmp_path / "site")
    with site:
        assert notifications.recv(100) == b"READY=1"
        assert site.http("GET", "/.well-known/ocm").status == 200
        assert [notifications.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
        assert site.process is not None
        os.kill(site.process.pid, 15)
        said = []
        while not said or said[-1] != b"STOPPING=1":
            said.append(notifications.recv(100))
