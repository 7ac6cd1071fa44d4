"""Real clients do what people do with them: curl, rclone and cadaver."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from rclone_client import RcloneClient

from .served import READ, WRITE, Served, Shared


@pytest.fixture
def folder(served: Served, request) -> str:
    """A folder of this test alone, with two files and a folder in it."""
    name = re.sub(r"\W", "-", request.node.name)
    (served.data / name / "sub").mkdir(parents=True)
    (served.data / name / "hello.txt").write_text("hello")
    (served.data / name / "sub" / "grüße & co.txt").write_text("deep")
    return name


@pytest.fixture
def curl(served: Served):
    def run_curl(share: Shared, path: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [
            "curl",
            "-sS",
            "--fail-with-body",
            "-u",
            f"{share.secret}:",
            *options,
            served.url(f"/dav/ocm/{path}"),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run_curl


@pytest.fixture
def rclone_at(served: Served, rclone):
    """Run rclone with `dav:` as the Share's root."""

    def run_rclone(share: Shared, *arguments: str) -> subprocess.CompletedProcess[str]:
        return RcloneClient(rclone, served.url("/dav/ocm/"), share.secret, "anything").attempt(*arguments)

    return run_rclone


def test_curl_reads_writes_and_is_refused(served, folder, curl, tmp_path):
    share = served.share(folder, WRITE)
    assert curl(share, "hello.txt").stdout == "hello"
    assert curl(share, "hello.txt", "-r", "1-2").stdout == "el"
    big = tmp_path / "big"
    big.write_bytes(os.urandom(5_000_000))
    assert curl(share, "big", "-T", str(big)).returncode == 0
    assert (served.data / folder / "big").read_bytes() == big.read_bytes()
    assert curl(share, "big", "-o", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    reader = served.share(folder, READ)
    refused = curl(reader, "big", "-T", str(big), "-w", "%{http_code}")
    assert refused.returncode == 22
    assert refused.stdout.endswith("403")
    assert "READ_ONLY" in refused.stdout


def test_curl_resumes_a_download(served, folder, curl, tmp_path):
    share = served.share(folder)
    content = os.urandom(3_000_000)
    (served.data / folder / "big").write_bytes(content)
    (tmp_path / "half").write_bytes(content[:1_000_000])
    assert curl(share, "big", "-C", "-", "-o", str(tmp_path / "half")).returncode == 0
    assert (tmp_path / "half").read_bytes() == content


def test_rclone_mirrors_both_ways(served, folder, rclone_at, tmp_path):
    share = served.share(folder, WRITE)
    there = tmp_path / "there"
    done = rclone_at(share, "sync", "dav:", str(there))
    assert done.returncode == 0, done.stderr
    assert (there / "sub" / "grüße & co.txt").read_text() == "deep"
    (there / "new" / "deeper").mkdir(parents=True)
    (there / "new" / "deeper" / "100% #1?.bin").write_bytes(os.urandom(2_000_000))
    (there / "hello.txt").unlink()
    done = rclone_at(share, "sync", str(there), "dav:")
    assert done.returncode == 0, done.stderr
    assert not (served.data / folder / "hello.txt").exists()
    assert tree(served.data / folder) == tree(there)
    done = rclone_at(share, "check", str(there), "dav:", "--download")
    assert done.returncode == 0, done.stderr


def test_rclone_moves_copies_and_removes_on_the_server(served, folder, rclone_at):
    share = served.share(folder, WRITE)
    for arguments in (
        ("moveto", "dav:hello.txt", "dav:sub/renamed.txt"),
        ("copyto", "dav:sub/renamed.txt", "dav:copied.txt"),
        ("move", "dav:sub", "dav:elsewhere"),
        ("purge", "dav:elsewhere"),
    ):
        done = rclone_at(share, *arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    assert tree(served.data / folder) == {"copied.txt": b"hello"}


def test_rclone_is_refused_where_it_may_only_read(served, folder, rclone_at, tmp_path):
    share = served.share(folder, READ)
    (tmp_path / "new").write_text("x")
    for arguments in (
        ("copy", str(tmp_path / "new"), "dav:"),
        ("deletefile", "dav:hello.txt"),
        ("mkdir", "dav:made"),
        ("moveto", "dav:hello.txt", "dav:moved.txt"),
    ):
        done = rclone_at(share, *arguments)
        assert done.returncode != 0, arguments
        assert "403" in done.stderr
    assert set(tree(served.data / folder)) == {"hello.txt", "sub/grüße & co.txt"}


def test_rclone_is_refused_after_the_revocation(served, folder, rclone_at):
    share = served.share(folder)
    assert "hello.txt" in rclone_at(share, "ls", "dav:").stdout
    served.revoke(share)
    time.sleep(1)
    done = rclone_at(share, "ls", "dav:")
    assert done.returncode != 0
    assert "401" in done.stderr


@pytest.mark.parametrize("client", ["curl", "rclone"])
def test_a_slow_download_ends_within_five_seconds_of_the_revocation(served, folder, client, rclone, tmp_path):
    with (served.data / folder / "big").open("wb") as file:
        file.truncate(1 << 30)
    share = served.share(folder)
    url = served.url("/dav/ocm/")
    if client == "curl":
        command = ["curl", "-sS", "--limit-rate", "4M", "-u", f"{share.secret}:", "-o", os.devnull, f"{url}big"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
    else:
        bearer = RcloneClient(rclone, url, token=share.secret)
        process = bearer.begin("--bwlimit", "4M", "copyto", "dav:big", tmp_path / "big", stderr=subprocess.PIPE)
    try:
        time.sleep(1.5)
        assert process.poll() is None
        served.revoke(share)
        process.wait(5)
        assert process.returncode != 0
    finally:
        process.kill()
        process.communicate()


def test_cadaver_works_as_with_any_server(served, folder, tmp_path):
    home = tmp_path / "cadaver"
    home.mkdir()
    (home / "local.txt").write_text("from here")
    commands = ["ls", "get hello.txt", "put local.txt", "mkcol made", "copy local.txt made/copy.txt", "cd made", "ls",
                "cd ..", "move local.txt moved.txt", "delete hello.txt", "rmcol sub", "quit"]  # fmt: skip
    share = served.share(folder, WRITE)
    (home / ".netrc").write_text(f"machine 127.0.0.1\nlogin {share.secret}\npassword x\n")
    done = subprocess.run(
        ["cadaver", served.url("/dav/ocm/")],
        input="\n".join(commands) + "\n", capture_output=True, text=True, timeout=60, cwd=home,
        env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    assert "failed" not in done.stdout + done.stderr, done.stdout
    assert (home / "hello.txt").read_text() == "hello"
    assert tree(served.data / folder) == {"made/copy.txt": b"from here", "moved.txt": b"from here"}


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
