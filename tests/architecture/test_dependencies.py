"""What is installed is what is used: every library that is imported is declared, and every declared one imported."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions, requires

import pytest

from .source import MODULES, PACKAGES, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Imported as part of what another one's interface consists of.
COMES_WITH = {
    "multidict": "aiohttp",
    "yarl": "aiohttp",
    "jinja2": "aiohttp-jinja2",
    "pydantic-core": "pydantic",
    "botocore": "boto3",
}


def normalised(requirement: str) -> str:
    """Return the name in a requirement as PEP 503 writes it."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


DECLARED = {normalised(requirement) for requirement in PROJECT["dependencies"]}


def imported() -> set[str]:
    """Return the distributions whose modules the program imports."""
    tops = {name.partition(".")[0] for module in MODULES for name in module.imports}
    foreign = tops - set(sys.stdlib_module_names) - set(PACKAGES)
    known = packages_distributions()
    assert foreign <= known.keys(), "an import of something that is not installed"
    return {normalised(known[top][0]) for top in foreign}


def test_every_library_that_is_imported_is_declared() -> None:
    assert {COMES_WITH.get(name, name) for name in imported()} <= DECLARED


def test_every_declared_library_is_imported() -> None:
    assert DECLARED - imported() == set()


@pytest.mark.parametrize(("part", "whole"), COMES_WITH.items())
def test_what_comes_with_another_really_does(part: str, whole: str) -> None:
    assert part in imported()
    assert part in {normalised(requirement) for requirement in requires(whole) or ()}


def test_each_tool_is_declared_with_a_lower_bound() -> None:
    """What was tested; no upper one, as this is a program and no library, but where the inside of one is used."""
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[a-z0-9-]+>=[0-9.]+(,<[0-9.]+)?", requirement), requirement
