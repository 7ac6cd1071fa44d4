"""One line per event, on which neither a secret nor the bytes of a client do harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import logging, sys
import structlog
from gateway import logs
logs.configure(sys.argv[1], sys.argv[2])
log, library = structlog.get_logger(), logging.getLogger("library")
{code}
"""
EVIL = "a\\nb\\x1b[31mc\\x9bd\\u202ee\\ud800f"  # as Python source


def logged(code: str, form: str = "text", level: str = "info", *, path: str = "") -> list[str]:
    """Return the lines that a process writes; logging is a matter of the whole process, so it is one of its own."""
    arguments = [sys.executable, "-c", PROGRAM.replace("{code}", code), form, level]
    done = subprocess.run(arguments, capture_output=True, timeout=60, env=os.environ | {"PYTHONPATH": path})
    assert (done.returncode, done.stdout) == (0, b""), done.stderr.decode()
    return done.stderr.decode().splitlines()


def parsed(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_event_is_one_line_with_its_fields(form: str) -> None:
    (line,) = logged("log.info('refused', code='NO_SUCH', peer='peer.example')", form)
    for word in ("refused", "NO_SUCH", "peer.example", "info"):
        assert word in line


def test_json_says_when_what_and_how_grave() -> None:
    (line,) = parsed(logged("log.warning('refused', code=7)", "json"))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "refused", "level": "warning", "code": 7}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error", "library warning"]),
        ("info", ["info", "warning", "error", "library warning"]),
        ("warning", ["warning", "error", "library warning"]),
        ("error", ["error"]),
    ],
)
def test_the_level_holds_for_us_and_libraries_speak_from_warning_upwards(level: str, expected: list[str]) -> None:
    code = "for level in ('debug', 'info', 'warning', 'error'): getattr(log, level)(level)\n"
    code += "for level in ('debug', 'info', 'warning'): getattr(library, level)('library ' + level)"
    assert [line["event"] for line in parsed(logged(code, "json", level))] == expected


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("field", ["password", "secret", "shared_secret", "token", "access_token", "authorization"])
def test_a_field_that_could_hold_a_secret_is_masked_whoever_passes_it(form: str, field: str) -> None:
    (line,) = logged(f"log.info('event', {field}='hunter2', other='shown')", form)
    assert "hunter2" not in line
    assert "***" in line
    assert "shown" in line


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("code", [f"log.warning('event', reason='{EVIL}')", f"library.warning('%s', '{EVIL}')"])
def test_what_a_peer_wrote_makes_no_second_line_and_steers_no_terminal(form: str, code: str) -> None:
    (line,) = logged(code, form)
    assert line.isprintable()


FAILING = """
def broken(password):
    raise KeyError("a bug")
try:
    broken("hunter2")
except KeyError:
    {logger}.exception("failed")
"""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("logger", ["log", "library"])
def test_an_error_of_ours_brings_its_trace(form: str, logger: str) -> None:
    lines = logged(FAILING.replace("{logger}", logger), form)
    text = "\n".join(lines)
    for part in ("failed", "Traceback (most recent call last)", "in broken", "a bug"):
        assert part in text
    if form == "json":
        (line,) = parsed(lines)
        assert line["exception"].startswith("Traceback")


@pytest.mark.parametrize("logger", ["log", "library"])
def test_a_trace_holds_no_values_of_variables(tmp_path: Path, logger: str) -> None:
    """Where the library `rich` is at hand, structlog would print the local variables of every frame by default."""
    (tmp_path / "rich").mkdir()
    (tmp_path / "rich" / "__init__.py").write_text("")
    (tmp_path / "rich" / "console.py").write_text(
        "class Console:\n"
        "    def __init__(self, file=None, **_more): self.file = file\n"
        "    def print(self, what): self.file.write('the value of every variable')\n"
    )
    (tmp_path / "rich" / "traceback.py").write_text(
        "class Traceback:\n    @classmethod\n    def from_exception(cls, *_some, **_more): return cls()\n"
    )
    text = "\n".join(logged(FAILING.replace("{logger}", logger), path=str(tmp_path)))
    assert "Traceback (most recent call last)" in text
    assert "the value of every variable" not in text
