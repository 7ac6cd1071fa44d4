"""README tells the truth: its commands exist, its first five minutes take place, its proxy passes everything on."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from sites import Site, eventually, free_port

from gateway.cli import main
from gateway.cli.client import FAILED, USAGE
from gateway.config import Config

from .source import ROOT
from .test_documents import rows

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (README, (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COMMAND = ".venv/bin/ocm-gateway"
START_TIME = 60.0  # seconds


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    assert f"\n## {heading}\n" in README
    return README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def shell_lines() -> list[str]:
    """Return the commands of all shell blocks, without here-documents; what a pipe joins are several."""
    script = re.sub(r" <<'END'\n.*?\nEND$", "", "\n".join(blocks("sh")), flags=re.MULTILINE | re.DOTALL)
    return [part.strip() for line in script.splitlines() for part in line.partition("#")[0].split("|") if part.strip()]


def mentioned(first: str) -> list[list[str]]:
    """Return what stands in backquotes and begins with one of the words `first`, in any document."""
    found = [words.split() for page in PAGES for words in re.findall(r"`([^`\n]+)`", page)]
    return [words for words in found if words and re.fullmatch(first, words[0])]


# --- the commands exist ---------------------------------------------------------------------------------------------


def resolved(words: list[str]) -> tuple[click.Command, dict[str, object], list[click.Parameter]]:
    """Return the command that `words` name, what they give it, and the options they use; fails as the program would."""
    command: click.Command = main
    context = click.Context(main, info_name="ocm-gateway")
    given, rest, used = main.make_parser(context).parse_args(list(words))
    while isinstance(command, click.Group) and rest:
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name} in {words}"
        assert not found.hidden, f"{name} is not built, and named in {words}"
        command, context = found, click.Context(found, parent=context)
        given, rest, used = command.make_parser(context).parse_args(rest)
    assert rest == [], f"{rest} has no meaning in {words}"
    return command, given, list(used)


def check(words: list[str]) -> None:
    """Check a command that is given in full: it is no group, and nothing that it needs is missing."""
    command, given, used = resolved(words)
    assert not isinstance(command, click.Group), words
    missing = [each.name for each in command.params if each.required and given.get(each.name or "") is None]
    assert missing == [], words
    assert not [each.name for each in used if getattr(each, "hidden", False)], words


def check_make(words: list[str]) -> None:
    targets = [word for word in words[1:] if "=" not in word]
    assert targets, words
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:.*##", MAKEFILE, re.MULTILINE), f"make has no {target}"
    for variable in [word.partition("=")[0] for word in words[1:] if "=" in word]:
        scripts = [ROOT / name for name in re.findall(r"tests/\w+\.py", MAKEFILE)]
        assert any(variable in text for text in (MAKEFILE, *(path.read_text() for path in scripts))), variable


def test_every_command_in_a_shell_block_is_one() -> None:
    ours = [shlex.split(line) for line in shell_lines() if shlex.split(line)[0] in (COMMAND, "ocm-gateway")]
    assert len(ours) > 10
    for words in ours:
        check(words[1:])


def test_every_make_target_is_one() -> None:
    lines = [shlex.split(line) for line in shell_lines() if line.startswith("make ")]
    for words in (*lines, *mentioned("make")):
        check_make(words)
    assert len(lines) >= 4


def test_every_command_in_the_prose_is_one() -> None:
    groups = "|".join(name for name, command in main.commands.items() if not command.hidden)
    named = mentioned(f"ocm-gateway|{groups}")
    assert len(named) > 10
    for words in named:
        if words not in (["ocm-gateway"], ["received"], ["share"]) and "=" not in "".join(words):
            resolved(_without_open_options(words[words[0] == "ocm-gateway" :]))


def _without_open_options(words: list[str]) -> list[str]:
    """Give the option at the end, which the prose names alone, a value."""
    return [*words, "value"] if words[-1].startswith("--") else words


@pytest.mark.parametrize(
    "words",
    [
        ["share", "creat", "/home"],
        ["share", "create", "/home", "--as", "alice"],
        ["share", "create", "/home", "--with", "bob@b", "--mfa"],
        ["share", "create", "/home", "--with", "bob@b", "--until", "30d"],
        ["share"],
        ["transfer"],
        ["share", "list", "all"],
    ],
)
def test_a_command_that_is_none_is_found(words: list[str]) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        check(words)


def test_a_target_that_is_none_is_found() -> None:
    with pytest.raises(AssertionError):
        check_make(["make", "deploy"])
    with pytest.raises(AssertionError):
        check_make(["make", "demo", "TWICE=1"])


def test_the_quick_start_runs_it_first_and_tests_it_next() -> None:
    (quick_start,) = re.findall(r"```sh\n(.*?)```", section("Quick start"), re.DOTALL)
    assert [line.partition("#")[0].strip() for line in quick_start.splitlines()] == [
        "make run",
        "make test",
        "make demo ONCE=1",
    ]


# --- the tables are true --------------------------------------------------------------------------------------------


def test_every_top_level_key_is_in_the_table() -> None:
    table = rows(section("Configuration"))[1:]
    assert [row[0].strip("`") for row in table] == list(Config.model_fields)
    required = {row[0].strip("`") for row in table if row[2] == "required"}
    assert required == {"public_url", "state_dir"}


def test_every_key_within_a_section_that_is_named_exists() -> None:
    found = [words.split(".") for words in re.findall(r"`([a-z]+\.[a-z_]+)`", README)]
    dotted = [words for words in found if words[0] in Config.model_fields]
    assert dotted
    for section_name, key in dotted:
        annotation = Config.model_fields[section_name].annotation
        assert key in getattr(annotation, "model_fields", {}), f"{section_name}.{key}"


def test_the_exit_statuses_are_those_of_the_command_line() -> None:
    assert [row[0] for row in rows(section("Limits"))[1:]] == ["0", str(FAILED), str(USAGE)]


def test_the_draft_is_answered_for_in_three_words() -> None:
    table = rows(section("What of the draft works"))[1:]
    assert {row[1] for row in table} == {"full", "partial", "no"}
    assert all(row[2] for row in table if row[1] == "partial")


def test_the_measurements_have_their_place() -> None:
    assert "<!-- bench -->" in section("Speed")


# --- the first five minutes take place ------------------------------------------------------------------------------


class Newcomer:
    """Somebody with a fresh clone, who types what README says; 8080 and 8081 are taken on this machine."""

    def __init__(self, clone: Path) -> None:
        self.clone = clone
        self.ports = {"8080": str(free_port()), "8081": str(free_port()), "9180": str(free_port())}
        self.running: list[subprocess.Popen[bytes]] = []
        (clone / "var" / "data").mkdir(parents=True)
        (clone / ".venv").symlink_to(ROOT / ".venv")
        for name in ("config.example.yaml", "Makefile"):
            text = self.translated((ROOT / name).read_text(encoding="utf-8"))
            (clone / name).write_text(text.replace("#: metrics:", "metrics:"), encoding="utf-8")

    def translated(self, text: str) -> str:
        return re.sub(r"\b(8080|8081|9180)\b", lambda match: self.ports[match[0]], text)

    def type(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.translated(line)],
            cwd=self.clone,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, config: str) -> None:
        """Start a gateway in a terminal of its own and wait until it says that it is ready."""
        log = self.clone / f"{Path(config).stem}.log"
        with log.open("wb") as output:
            command = [self.clone / COMMAND, "--config", config, "serve"]
            self.running.append(subprocess.Popen(command, cwd=self.clone, stdout=output, stderr=output))
        deadline = time.monotonic() + START_TIME
        while "ocm-gateway is ready" not in log.read_text():
            assert self.running[-1].poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def leave(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(30)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    newcomer = Newcomer(tmp_path)
    yield newcomer
    newcomer.leave()


def test_the_first_five_minutes(newcomer: Newcomer) -> None:
    preparing, working = re.findall(r"```sh\n(.*?)```", section("The first five minutes"), re.DOTALL)
    preparing, _, serve = preparing.strip().rpartition("\n")
    assert serve == f"{COMMAND} --config var/bob.yaml serve"
    newcomer.serve("config.example.yaml")
    newcomer.type(preparing)
    newcomer.serve("var/bob.yaml")
    ids: dict[str, str] = {}
    said = {}
    for line in filter(None, working.splitlines()):
        for placeholder, value in ids.items():
            line = line.replace(placeholder, value)
        output = newcomer.type(line.replace("curl ", "curl --silent --show-error --fail ", 1))
        said[line] = output
        for words, placeholder in (("received list", "RECEIVED_ID"), ("share list", "SHARE_ID")):
            if words in line:
                ids[placeholder] = output.splitlines()[1].split()[0]
    assert any("Beam test, run 42." in output for line, output in said.items() if line.startswith("curl "))
    assert (newcomer.clone / "var/data/run42/Makefile").read_text() == (newcomer.clone / "Makefile").read_text()
    (revoked,) = [output for line, output in said.items() if "share revoke" in line]
    assert revoked.startswith("Revoked: bob@localhost:")


# --- the proxy passes everything on ---------------------------------------------------------------------------------

MODULES = "/usr/lib/apache2/modules"
PROXY_CONFIG = """
{modules}
ServerRoot {directory}
ServerName localhost
PidFile {directory}/apache.pid
ErrorLog {directory}/error.log
User nobody
Group nogroup
Define APACHE_LOG_DIR {directory}
Listen 127.0.0.1:{port}
<VirtualHost *:{port}>
{snippet}
</VirtualHost>
"""


@pytest.fixture
def apache(tmp_path: Path) -> Iterator[Site]:
    """A gateway whose public address is an Apache with README's lines."""
    command = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
    assert command, "apache2 is not installed: `make tools`"
    public = free_port()
    site = Site(tmp_path / "site", public_url=f"http://localhost:{public}", proxy={"trusted": ["127.0.0.0/8"]})
    (snippet,) = blocks("apache")
    config = tmp_path / "apache.conf"
    names = ("mpm_event", "authz_core", "proxy", "proxy_http", "reqtimeout")
    text = PROXY_CONFIG.format(
        modules="\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in names),
        directory=tmp_path,
        port=public,
        snippet=snippet.replace("127.0.0.1:8080", f"127.0.0.1:{site.port}"),
    )
    config.write_text(text, encoding="utf-8")
    with site:
        process = subprocess.Popen([command, "-D", "FOREGROUND", "-f", str(config)])
        try:
            site.add_user("alice", "alice-password")
            yield site
        finally:
            process.terminate()
            process.wait(30)


def through(site: Site, method: str, target: str, body: object = None, user: str = "alice:alice-password") -> tuple:
    """Make a request to the public address, with the target as given; return status and body."""
    port = int(yaml.safe_load(site.config.read_text())["public_url"].rpartition(":")[2])
    headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode(), "X-Forwarded-For": "192.0.2.7"}
    headers["Destination"] = f"http://localhost:{port}/dav/files/alice/home/moved%FF"
    deadline = time.monotonic() + START_TIME
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request(method, target, body, headers, encode_chunked=hasattr(body, "__next__"))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        finally:
            connection.close()


def test_the_apache_lines_pass_everything_on_and_log_no_secret(apache: Site) -> None:
    home = "/dav/files/alice/home"
    for target in ("/.well-known/ocm", "/.well-known/ocm/", "/ocm-provider", "/ocm-provider/", "/ocm/jwks"):
        assert through(apache, "GET", target)[0] == 200, target
    for name in ("a%20b", "%FF", "%25FF", "x%2525", "q%3Fq", "%C3%A9", "+"):
        assert through(apache, "PUT", f"{home}/{name}", name.encode())[0] == 201, name
        assert through(apache, "GET", f"{home}/{name}") == (200, name.encode())
    piece = os.urandom(1 << 20)
    assert through(apache, "PUT", f"{home}/large", iter([piece] * 32))[0] == 201
    assert through(apache, "GET", f"{home}/large") == (200, piece * 32)
    assert through(apache, "MOVE", f"{home}/%FF")[0] == 201
    assert b"moved\xff" in os.listdir(os.fsencode(apache.data))
    assert through(apache, "PROPFIND", "/dav/ocm/", user="a-secret-of-a-share:")[0] == 401
    assert through(apache, "GET", "/accept-invite?token=an-invite-token&providerDomain=peer.example")[0] == 200
    assert through(apache, "GET", "/metrics")[0] == 404
    log = apache.directory.parent / "ocm.log"
    for request in ("PROPFIND /dav/ocm/", "GET /accept-invite", "GET /metrics"):
        eventually(lambda request=request: request in log.read_text(), True)  # Apache answers first, and logs then
    logged = log.read_text() + apache.log.read_text()
    assert "a-secret-of-a-share" not in logged
    assert "an-invite-token" not in logged
    assert "remote=192.0.2.7" in logged
