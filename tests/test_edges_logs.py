"""Tracebacks in the log show code, never the values in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# As much of the library `rich` as structlog asks for: its tracebacks show local variables.
RICH = {
    "__init__.py": "",
    "console.py": "class Console:\n    def __init__(self, *a, **k): self.file = k['file']\n"
    "    def print(self, value): self.file.write(str(value))\n",
    "traceback.py": "import sys\nclass Traceback(str):\n    @classmethod\n    def from_exception(cls, t, v, tb, **k):\n"
    "        while tb.tb_next: tb = tb.tb_next\n        return cls(f'rich {tb.tb_frame.f_locals}')\n",
}
PROGRAM = """
import logging, sys, structlog
from gateway import logs
logs.configure(sys.argv[1], "info")
def work(local):
    raise LookupError("what failed")
for log in (structlog.get_logger(), logging.getLogger("some.library")):
    try:
        work("SUPER" + "SECRET")
    except LookupError:
        log.exception("it broke")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_local_variable_is_logged_even_where_rich_is_installed(tmp_path: Path, form: str) -> None:
    (tmp_path / "rich").mkdir()
    for name, text in RICH.items():
        (tmp_path / "rich" / name).write_text(text)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert "SUPERSECRET" not in done.stderr
    assert done.stderr.count("LookupError: what failed") == 2, done.stderr
    assert done.stderr.count("in work") == 2, done.stderr
