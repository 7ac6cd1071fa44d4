"""What the operator reads of the SSH door: who did what, from where, how much and how it ended; and no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.ssh.audit import shown_login

from ..dav.served import PASSWORD, WRITE
from .clients import paramiko_sftp
from .raw_client import connected, string, u32
from .served import SshServed, logged, public_key, wait_until

CONTENT = b"content that is no secret" * 1000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServed]:
    with SshServed(tmp_path_factory.mktemp("ssh"), ssh={"passwords": True}) as served:
        (served.data / "shared").mkdir()
        (served.data / "shared/file").write_bytes(CONTENT)
        yield served


def facts(served: SshServed, login: str) -> dict[str, str]:
    """Return what every line about a log-in has."""
    principal = f"share:{served.shares[login].id}" if login in served.shares else f"user:{login}"
    return {"principal": principal, "key": public_key(served.key_of(login)).fingerprint, "remote": "127.0.0.1"}


@pytest.mark.parametrize("who", ["user", "share"])
def test_a_session_of_sftp_is_told(served: SshServed, log: list[Any], tmp_path: Path, who: str) -> None:
    login = "alice" if who == "user" else served.login("shared", WRITE)
    folder = "home/shared/" if who == "user" else ""
    (tmp_path / "new").write_bytes(CONTENT[:100])
    done = served.sftp(f"get {folder}file {tmp_path}/got\nput {tmp_path}/new {folder}new\nls {folder}\n", login)
    assert done.returncode == 0, done.stderr
    wait_until(lambda: logged(log, "ssh.session.ended"))
    known = facts(served, login)
    for event in ("ssh.login", "ssh.session.begun", "ssh.reading", "ssh.writing", "ssh.listing", "ssh.session.ended"):
        (line, *_) = logged(log, event)
        assert known.items() <= line.items(), event
        assert event in ("ssh.login", "ssh.session.begun") or line["seconds"] >= 0
    (read,), (written,) = logged(log, "ssh.reading"), logged(log, "ssh.writing")
    assert (read["path"], read["bytes"]) == (f"{folder}file", len(CONTENT))
    assert (written["path"], written["bytes"]) == (f"{folder}new", 100)
    assert "failed" not in read.keys() | written.keys()
    assert logged(log, "ssh.session.ended")[0]["reason"] == "ended by the client"


def test_what_is_changed_by_name_is_told(served: SshServed, log: list[Any], folder: Path) -> None:
    (folder / "old").write_bytes(CONTENT)
    login, below = "alice", f"home/{folder.name}"
    with paramiko_sftp(served, login) as client:
        client.mkdir(f"{below}/made")
        client.truncate(f"{below}/old", 7)
        client.utime(f"{below}/old", (1_500_000_000, 1_500_000_000))
        client.rename(f"{below}/old", f"{below}/made/new")
        client.posix_rename(f"{below}/made/new", f"{below}/made/newer")
        client.remove(f"{below}/made/newer")
        client.rmdir(f"{below}/made")
        for refused in (lambda: client.remove(f"{below}/gone"), lambda: client.mkdir("/new")):
            with pytest.raises(OSError):
                refused()
    known = facts(served, login)
    lines = [line for line in log if line["event"].startswith("ssh.") and "path" in line]
    assert all(known.items() <= line.items() for line in lines)
    own = [{name: value for name, value in line.items() if name not in known} for line in lines]
    told = [(line.pop("event"), *(line[name] for name in line if name != "log_level")) for line in own]
    assert told == [
        ("ssh.folder.made", f"{below}/made"),
        ("ssh.resized", f"{below}/old", 7),
        ("ssh.dated", f"{below}/old", 1_500_000_000),
        ("ssh.renamed", f"{below}/old", f"{below}/made/new"),
        ("ssh.renamed", f"{below}/made/new", f"{below}/made/newer"),
        ("ssh.removed", f"{below}/made/newer"),
        ("ssh.folder.removed", f"{below}/made"),
    ]


def test_files_of_scp_are_told(served: SshServed, log: list[Any], tmp_path: Path) -> None:
    login = served.login("shared")
    assert served.scp("-O", f"{login}:file", f"{tmp_path}/got").returncode == 0
    wait_until(lambda: logged(log, "ssh.session.ended"))
    (line,) = logged(log, "ssh.reading")
    assert facts(served, login).items() <= line.items()
    assert line["bytes"] == len(CONTENT)


def test_folders_of_scp_are_told(served: SshServed, log: list[Any], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert served.scp("-O", "-rp", f"{tmp_path}/tree", f"alice:home/{folder.name}").returncode == 0
    for event in ("ssh.folder.made", "ssh.dated"):
        (line,) = logged(log, event)
        assert facts(served, "alice").items() <= line.items()
        assert line["path"] == f"home/{folder.name}/tree"


def test_what_was_cut_is_told_with_the_reason(served: SshServed, log: list[Any]) -> None:
    with connected(served.ssh_port) as client:
        client.log_in("alice", served.user)
        channel = client.sftp()
        opening = b"\3" + u32(1) + string("/home/cut") + u32(2 | 8 | 16) + u32(0)
        client.send_data(channel, u32(5) + b"\1" + u32(3) + u32(len(opening)) + opening)
        client.receive_data(231 + 17)  # VERSION and HANDLE
    wait_until(lambda: logged(log, "ssh.session.ended"))
    assert logged(log, "ssh.session.ended")[0]["reason"] == "the client is gone"
    assert logged(log, "ssh.writing")[0]["failed"]


def test_a_revoked_share_is_told_as_the_reason(served: SshServed, log: list[Any]) -> None:
    login = served.login("shared")
    with connected(served.ssh_port) as client:
        client.log_in(login, served.guest).sftp()
        served.end(login)
        assert client.wait_for_end() == "Your access has ended"
    wait_until(lambda: logged(log, "ssh.session.ended"))
    assert logged(log, "ssh.session.ended")[0]["reason"] == "the access has ended"


@pytest.mark.parametrize(
    ("login", "shown"),
    [
        ("alice", "alice"),
        ("s-smith", "s-smith"),
        ("s-" + "A" * 22, "s-AAAA…"),
        ("s-" + "a" * 21, "s-aaaa…"),
        ("s-" + "a" * 500, "s-aaaa…"),
        ("correct horse", "(no name)"),
        ("Tr0ub4dor&3", "(no name)"),
        ("", "(no name)"),
        ("a\nb", "(no name)"),
    ],
)
def test_of_a_login_that_failed_no_more_is_told_than_is_safe(login: str, shown: str) -> None:
    assert shown_login(login) == shown


def test_no_line_and_no_answer_has_a_secret(served: SshServed, log: list[Any], tmp_path: Path) -> None:
    """Whatever goes well or wrong; whoever reads the log must not be able to come in."""
    login, ended = served.login("shared", WRITE), served.login("shared")
    served.end(ended)
    answers = [served.sftp(f"get file {tmp_path}/got\nget none\nput {tmp_path}/got new\n", login).stderr]
    answers += [served.sftp("ls\n", ended).stderr, served.sftp("ls\n", login, served.user).stderr]
    answers += [served.scp("-O", f"{login}:none", str(tmp_path)).stderr]
    with connected(served.ssh_port) as client:
        client.begin()
        answers += [client.give_password(name, PASSWORD) for name in ("nobody", login, PASSWORD, "alice")]
    wait_until(lambda: len(logged(log, "ssh.login")) >= 3)
    private = [line for key in (served.user, served.guest) for line in key.read_text().splitlines()[1:-1]]
    secrets = [login, ended, login[2:], ended[2:], PASSWORD, served.shares[login].secret, *private]
    for text in (json.dumps(log), repr(log)):
        assert not [secret for secret in secrets if secret in text]
    for answer in answers:
        told = answer.replace(login.encode(), b"").replace(ended.encode(), b"")  # OpenSSH's own words name the log-in
        assert not [secret for secret in (PASSWORD, *private) if secret.encode() in told]


def test_the_metrics_count_it(served: SshServed, tmp_path: Path) -> None:
    before = counted(served)
    (tmp_path / "new").write_bytes(CONTENT[:77])
    assert served.sftp(f"get home/shared/file {tmp_path}/got\nput {tmp_path}/new home/counted\n").returncode == 0
    assert served.sftp("ls\n", key=served.guest).returncode != 0
    assert served.scp("-O", "alice:home/counted", str(tmp_path)).returncode == 0
    expected = {
        'logins_total{outcome="accepted"}': 2,
        'logins_total{outcome="refused"}': 1,
        'sessions_total{protocol="sftp"}': 1,
        'sessions_total{protocol="scp"}': 1,
        'bytes_total{direction="read"}': len(CONTENT) + 77,
        'bytes_total{direction="written"}': 77,
    }
    wait_until(lambda: {name: value - before.get(name, 0) for name, value in counted(served).items()} == expected)


def counted(served: SshServed) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(served.tally)
    lines = re.findall(r"^ocm_gateway_ssh_(\S+) (\S+)$", generate_latest(registry).decode(), re.MULTILINE)
    return {name: float(value) for name, value in lines}
