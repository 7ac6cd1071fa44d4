"""In front of Debian's Apache with mod_dav: its WebDAV works for real clients, and ours beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rclone_client import RcloneClient
from sites import Site

from .servers import PASSWORD, USER, apache, somewhere


class Nas(Site):
    """A gateway that has taken over the port of an Apache; alice is a user of ours, carol one of Apache's."""

    legacy: Path


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    with somewhere() as place, apache(place) as port:
        site = Nas(tmp_path_factory.mktemp("nas"), upstream={"url": f"http://127.0.0.1:{port}"})
        site.legacy = place / "data"
        (site.legacy / "index.html").write_text("the NAS")
        with site:
            site.add_user("alice", "alice-password")
            yield site
        log = site.log.read_text()
        assert "Traceback" not in log
        assert PASSWORD not in log


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def tree(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_rclone_works_in_both_trees_at_the_same_host(nas: Nas, rclone: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.txt").write_text("alpha")
    (source / "deep" / "b c & d.bin").write_bytes(os.urandom(3_000_000))
    (source / "deep" / "er" / "gr\u00fc\u00dfe%20.txt").write_text("gamma")
    theirs = RcloneClient(rclone, f"{nas.url}/dav/", USER, PASSWORD)
    ours = RcloneClient(rclone, f"{nas.url}/dav/files/alice/home/", "alice", "alice-password")
    for run_rclone, stored in ((theirs, nas.legacy / "dav" / "work"), (ours, nas.data / "work")):
        run_rclone("copy", str(source), "dav:work")
        assert tree(stored) == tree(source)
        run_rclone("moveto", "dav:work/a.txt", "dav:work/deep/moved.txt")
        run_rclone("check", "--download", str(source / "deep"), "dav:work/deep", "--one-way")
        assert (stored / "deep" / "moved.txt").read_text() == "alpha"
        run_rclone("purge", "dav:work")
        assert not stored.exists()


def test_cadaver_works_in_theirs(nas: Nas, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine localhost login {USER} password {PASSWORD}\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / "notes.txt").write_text("notes")
    script = "mkcol box\ncd box\nput notes.txt\nlock notes.txt\nunlock notes.txt\ncopy notes.txt again.txt\n"
    script += "propset again.txt colour blue\npropget again.txt colour\nmove again.txt moved.txt\nls\nquit\n"
    done = subprocess.run(
        ["cadaver", f"{nas.url}/dav/"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert "failed" not in done.stdout, done.stdout
    assert done.stdout.count("succeeded") >= 6, done.stdout
    stored = {name: content for name, content in tree(nas.legacy / "dav" / "box").items() if ".DAV" not in name}
    assert stored == {"notes.txt": b"notes", "moved.txt": b"notes"}


def test_each_door_asks_for_its_own_credential(nas: Nas) -> None:
    legacy, own = {"user": USER, "password": PASSWORD}, {"user": "alice", "password": "alice-password"}
    propfind = {"Depth": "0"}
    assert nas.http("PROPFIND", "/dav/", headers=propfind, **legacy).status == 207
    assert nas.http("PROPFIND", "/dav/", headers=propfind, **own).status == 401
    assert nas.http("PROPFIND", "/dav/files/alice/", headers=propfind, **own).status == 207
    assert nas.http("PROPFIND", "/dav/files/alice/", headers=propfind, **legacy).status == 401
    assert 'realm="legacy"' in nas.http("PROPFIND", "/dav/", headers=propfind).headers["WWW-Authenticate"]


def test_the_page_at_the_root_is_the_nas_and_discovery_is_ours(nas: Nas) -> None:
    assert nas.http("GET", "/").body == b"the NAS"
    assert b'"apiVersion"' in nas.http("GET", "/.well-known/ocm").body
    assert nas.http("GET", "/status.php").status == 404
    assert b"Apache" in nas.http("GET", "/status.php").body or "Apache" in nas.http("GET", "/x").headers["Server"]
    assert nas.http("GET", "/ocm/unknown").headers["Server"].startswith("Python")


def test_apache_expects_and_refuses_bodies_as_ever(nas: Nas) -> None:
    """It answers 401 before the body, which curl then keeps to itself, and takes it with the password."""
    content = os.urandom(2_000_000)
    file = nas.directory / "content"
    file.write_bytes(content)
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", "-H", "Expect: 100-continue"]
    command += ["--expect100-timeout", "30", "-T", str(file), f"{nas.url}/dav/expected"]
    assert run(*command) == "401 0"
    assert run(*command, "-u", f"{USER}:{PASSWORD}") == f"201 {len(content)}"
    assert (nas.legacy / "dav" / "expected").read_bytes() == content
