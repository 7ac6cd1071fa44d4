"""Files and functions of a size that one can read, nothing left to be done, and no test that does not run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from backends.interface import Features
from gateway.config import model
from gateway.limits import LIMITED

from .source import MODULES, ROOT, Module, module, planted

FILE_LINES = 500
FUNCTION_LINES = 60
NO_LOGIC = "gateway.store.migrations.versions"  # one list of tables after the other; as long as there are tables

TESTS = tuple(module(path) for path in sorted((ROOT / "tests").rglob("*.py")))
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")  # in two parts, so that this file passes itself
WRITTEN = ("gateway", "backends", "tests", "docs", "systemd", ".ci", "Makefile", "README.md", "config.example.yaml")
TEXTS = (".py", ".md", ".yaml", ".service", ".html", "")

# A test may leave out what its backend does not claim to do; the conformance suite fails one that drops a claim.
FEATURES = frozenset(Features.__dataclass_fields__)
NOT_RUN = frozenset({"skip", "skipif", "xfail", "importorskip", "skipTest", "SkipTest"})


def too_long(module: Module) -> list[str]:
    lines = module.text.count("\n")
    found = [f"{module.path} has {lines} lines"] if lines > FILE_LINES else []
    if not module.name.startswith(NO_LOGIC):
        long = [function for function in module.functions if function.lines > FUNCTION_LINES]
        found += [f"{module.path}: {function.name} has {function.lines} lines" for function in long]
    return found


def not_run(module: Module) -> list[str]:
    """Return where a test may not run, other than for a feature that its backend does not have."""
    found = []
    excused = {id(node.func) for node in module.nodes if isinstance(node, ast.Call) and _names_a_feature(node)}
    for node in module.nodes:
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name in NOT_RUN and id(node) not in excused:
            found.append(f"{module.path}:{getattr(node, 'lineno', 0)} {name}")
    return found


def _names_a_feature(call: ast.Call) -> bool:
    reason = call.args[0].value if len(call.args) == 1 and isinstance(call.args[0], ast.Constant) else None
    return isinstance(reason, str) and reason.removeprefix("feature: ") in FEATURES


def texts() -> list[Path]:
    found = [ROOT / name for name in WRITTEN if (ROOT / name).is_file()]
    found += [path for name in WRITTEN for path in sorted((ROOT / name).rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix in TEXTS and "__pycache__" not in path.parts]


def test_no_file_and_no_function_is_too_long_to_be_read() -> None:
    assert [sentence for module in MODULES for sentence in too_long(module)] == []


def test_nothing_is_left_to_be_done() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(word in line for word in UNFINISHED)
    ]
    assert found == []


def test_every_test_runs() -> None:
    assert [place for module in TESTS for place in not_run(module)] == []


@pytest.mark.parametrize(
    "text",
    [
        "@pytest.mark.skip\ndef test_x(): ...",
        "@pytest.mark.skipif(True, reason='x')\ndef test_x(): ...",
        "@pytest.mark.xfail\ndef test_x(): ...",
        "def test_x():\n    pytest.skip('no cadaver here')",
        "def test_x():\n    pytest.skip('feature: patience')",
        "cadaver = pytest.importorskip('cadaver')",
        "from pytest import skip\ndef test_x():\n    skip('no time')",
    ],
)
def test_a_planted_mark_is_found(text: str) -> None:
    assert not_run(planted("tests.test_planted", text))


def test_a_feature_may_be_left_out() -> None:
    assert not_run(planted("tests.test_planted", "def test_x():\n    pytest.skip('feature: case_sensitive')")) == []


# What must not be compared by `==`, which stops at the first byte that differs; Secret and hmac take constant time.
SECRETS = frozenset({"secret", "shared_secret", "password", "proof", "csrf", "reveal"})


def compared(module: Module) -> list[str]:
    """Return the places where a value with the name of a secret is compared by `==` or `!=`, but for columns of SQL."""
    return [
        f"{module.path}:{node.lineno}"
        for node in module.nodes
        if isinstance(node, ast.Compare)
        and any(isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops)
        and any(_named(side) & SECRETS for side in (node.left, *node.comparators))
    ]


def _named(value: ast.expr) -> set[str]:
    """Return the last name of what is compared: of `share.secret`, `secret.reveal()` and `secret`."""
    value = value.func if isinstance(value, ast.Call) else value
    return {value.attr} if isinstance(value, ast.Attribute) else {value.id} if isinstance(value, ast.Name) else set()


def test_no_secret_is_compared_in_a_time_that_tells_of_it() -> None:
    assert [place for module in MODULES for place in compared(module)] == []


@pytest.mark.parametrize("text", ["a.secret == b", "b != password", "x = secret.reveal() == b", "a < b == proof"])
def test_a_planted_comparison_is_found(text: str) -> None:
    assert compared(planted("gateway.planted", text)) == ["gateway/planted.py:1"]


def test_a_planted_length_is_found() -> None:
    long = "def long():\n" + "    pass\n" * FUNCTION_LINES
    assert too_long(planted("gateway.planted", long)) == [f"gateway/planted.py: long has {FUNCTION_LINES + 1} lines"]
    assert too_long(planted("gateway.planted", "\n" * FILE_LINES)) == []
    assert too_long(planted("gateway.planted", "\n" * (FILE_LINES + 1))) == ["gateway/planted.py has 501 lines"]


def test_every_key_of_the_configuration_has_an_effect() -> None:
    """A key that is accepted and then read by nobody is a promise that is not kept."""
    read = {
        node.attr
        for module in MODULES
        if module.name == "gateway.config.model" or not module.name.startswith("gateway.config")
        for node in module.nodes
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    sections = [kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, model.Section)]
    keys = {f"{section.__name__}.{key}" for section in sections for key in section.model_fields}
    chooses_the_section = {f"{section.__name__}.type" for section in model.BACKENDS.values()}
    read_by_name = {f"LimitsConfig.{name}" for name in LIMITED}
    assert read_by_name <= keys
    excused = chooses_the_section | read_by_name
    assert {key for key in keys if key.partition(".")[2] not in read} <= excused
