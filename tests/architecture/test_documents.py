"""docs/architecture.md says what is there, all of it, and nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

from gateway.api.door import ROLE_OF
from gateway.ocm.states import (
    INCOMING_ON_EVENT,
    OUTGOING_ON_EVENT,
    RECEIVED_ON_EVENT,
    RECEIVED_ON_NOTIFICATION,
    SENT_ON_EVENT,
    SENT_ON_NOTIFICATION,
    ReceivedEvent,
    ReceivedState,
    RequestEvent,
    RequestState,
    SentEvent,
    SentState,
)

from .source import MODULES, ROOT
from .test_dependencies import DECLARED

PAGE = ROOT / "docs" / "architecture.md"
DOCUMENTS = (PAGE, ROOT / "README.md")
NEVER_STORED = {"expired", "missing"}  # they are what time and storage make of a stored state


def section(heading: str) -> str:
    text = PAGE.read_text(encoding="utf-8")
    assert f"\n## {heading}\n" in text
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in `text`, headings included, rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def layout() -> dict[str, str]:
    block = section("Layout").partition("```layout\n")[2].partition("\n```")[0]
    lines = [line.partition(" ") for line in block.splitlines() if line]
    assert len(lines) == len({path for path, _, _ in lines}), "a path stands there twice"
    return {path: text.strip() for path, _, text in lines}


def test_the_layout_has_one_line_for_every_module_and_for_nothing_else() -> None:
    paths = {f"{Path(module.path).parent}/" if module.is_package else module.path for module in MODULES}
    assert set(layout()) == paths


def test_every_line_of_the_layout_says_something_of_its_own() -> None:
    texts = list(layout().values())
    assert min(map(len, texts)) > 10
    assert len(texts) == len(set(texts))


def test_every_dependency_is_named_with_its_reason() -> None:
    table = rows(section("Dependencies"))[1:]
    assert {name for name, _ in table} == DECLARED
    assert all(len(reason) > 20 for _, reason in table)


def test_every_directory_of_tests_is_named_with_what_it_proves() -> None:
    filled = {path.relative_to(ROOT / "tests").parts for path in (ROOT / "tests").rglob("*.*") if path.suffix != ".pyc"}
    directories = {f"tests/{parts[0]}/" for parts in filled if len(parts) > 1}
    table = rows(section("Tests"))[1:]
    assert {cell.strip("`") for cell, _ in table if cell.endswith("/`")} == directories
    assert all(len(text) > 20 for _, text in table)


def test_the_tables_of_states_are_those_of_the_code() -> None:
    sent = table_of("sent Share")
    received = table_of("received Share")
    assert sent == moves(SentState, {SentEvent.REVOKE}, SENT_ON_NOTIFICATION, SENT_ON_EVENT)
    gestures = set(ReceivedEvent) - {ReceivedEvent.EXPIRE, ReceivedEvent.VANISH}
    assert received == moves(ReceivedState, gestures, RECEIVED_ON_NOTIFICATION, RECEIVED_ON_EVENT)
    assert table_of("incoming request") == moves(RequestState, set(RequestEvent), {}, INCOMING_ON_EVENT)
    assert table_of("outgoing request") == moves(RequestState, set(RequestEvent), {}, OUTGOING_ON_EVENT)


def table_of(heading: str) -> dict[tuple[str, str], str]:
    """Return what the page says: (state, what happens) -> the state that follows, or `no`."""
    written = rows(section("States"))
    start = next(number for number, row in enumerate(written) if row[0] == heading)
    body = itertools.takewhile(lambda row: len(row) == len(written[start]) and " " not in row[0], written[start + 1 :])
    return {(row[0], kind): after for row in body for kind, after in zip(written[start][1:], row[1:], strict=True)}


def moves(states: type[StrEnum], gestures: set, told: Mapping, done: Mapping) -> dict[tuple[str, str], str]:
    """Return what the code does, for the states that are stored and for what can happen to them."""
    happens, table = gestures | {kind for _, kind in told if kind in ROLE_OF}, {**told, **done}
    stored = [state for state in states if state not in NEVER_STORED]
    return {(str(state), str(what)): str(table.get((state, what), "no")) for state in stored for what in happens}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:gateway|backends|tests|docs|systemd|\.ci)/[\w./*-]*)`", text))
    named |= {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    assert named
    missing = [name for name in named if not list(ROOT.glob(name))]
    assert missing == []


def test_every_function_that_the_page_names_is_in_the_module_it_names() -> None:
    by_name = {module.name: {function.name for function in module.functions} for module in MODULES}
    named = re.findall(r"`([a-z_]+)\.([a-z_]+)`", PAGE.read_text(encoding="utf-8"))
    functions = [
        (f"gateway.{module}", name) for module, name in named if f"gateway.{module}" in by_name and name != "py"
    ]
    assert len(functions) > 10
    assert [(module, name) for module, name in functions if name not in by_name[module]] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_lines_are_short_enough_for_a_terminal_and_end_where_they_end(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line != line.rstrip()] == []
    assert [line for line in lines if len(line) > 160 and not line.startswith("|")] == []
