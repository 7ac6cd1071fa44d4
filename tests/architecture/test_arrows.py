"""Who may import whom, as one table that is enforced; docs/architecture.md shows the same table and says why."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable

import pytest

from .source import MODULES, NAMES, ROOT, Module, planted, within

# The parts of the program, each with its modules and everything below them; the longest name that fits wins.
PARTS: dict[str, tuple[str, ...]] = {
    "contract": (
        *("backends.entries", "backends.errors", "backends.interface", "backends.paths", "backends.pool"),
        *("backends.pool_parts", "backends.writer"),
    ),
    "packets": ("backends.sftp_packets",),
    "backends": ("backends",),
    "core": ("gateway.ocm",),
    "disk": ("gateway.durable",),
    "words": (
        *("gateway", "gateway.breaker", "gateway.errors", "gateway.first_contacts", "gateway.limits", "gateway.living"),
        *("gateway.logins", "gateway.own_paths", "gateway.proof", "gateway.proxies", "gateway.single_flight"),
        *("gateway.stamp", "gateway.team", "gateway.tickets", "gateway.turns"),
    ),
    "config": ("gateway.config",),
    "store": ("gateway.store",),
    "outbound": ("gateway.outbound",),
    "use cases": (
        "gateway.access",
        "gateway.admitting",
        "gateway.arriving",
        "gateway.authorized_keys",
        "gateway.believing",
        "gateway.belongings",
        "gateway.delivering",
        "gateway.departing",
        "gateway.doctor",
        "gateway.expiring",
        "gateway.explaining",
        "gateway.changes",
        "gateway.contacts",
        "gateway.directories",
        "gateway.files",
        "gateway.generations",
        "gateway.group_shares",
        "gateway.hinting",
        "gateway.host_keys",
        "gateway.inviting",
        "gateway.issuing",
        "gateway.keeping",
        "gateway.key_files",
        "gateway.key_pairs",
        "gateway.last_seen",
        "gateway.legacy",
        "gateway.locks",
        "gateway.mounts",
        "gateway.noticing",
        "gateway.offered",
        "gateway.offering",
        "gateway.outbox",
        "gateway.peers",
        "gateway.profiles",
        "gateway.proving",
        "gateway.receiving",
        "gateway.removing",
        "gateway.replacing",
        "gateway.requesting",
        "gateway.resharing",
        "gateway.sending",
        "gateway.settling",
        "gateway.signing",
        "gateway.signing_keys",
        "gateway.traces",
        "gateway.tree",
        "gateway.trust",
        "gateway.unfinished",
        "gateway.uploads",
        "gateway.user_keys",
        "gateway.users",
        "gateway.verifying",
        "gateway.watch",
        "gateway.wayf",
        "gateway.withdrawing",
    ),
    "storage": (
        *("gateway.patient", "gateway.remote", "gateway.roots", "gateway.ssh_shares", "gateway.webdav_storage"),
    ),
    "api": ("gateway.api",),
    "dav": ("gateway.dav",),
    "web": ("gateway.web",),
    "admin": ("gateway.admin",),
    "ssh": ("gateway.ssh",),
    "upstream": ("gateway.upstream",),
    "http": (
        *("gateway.asking", "gateway.bodies", "gateway.causing", "gateway.expecting"),
        *("gateway.limiting", "gateway.resetting"),
    ),
    "process": (*("gateway.leading", "gateway.listening", "gateway.logs", "gateway.supervisor", "gateway.systemd"),),
    "app": ("gateway.app", "gateway.serving"),
    "cli": ("gateway.cli", "gateway.__main__"),
}

# What each part may import of the others. `app` builds everything and is known to the command line alone.
ARROWS: dict[str, tuple[str, ...]] = {
    "contract": (),
    "packets": (),
    "backends": ("contract", "packets"),
    "core": (),
    "disk": (),
    "words": ("disk",),
    "config": (),
    "store": ("core", "contract", "disk"),
    "outbound": (),
    "use cases": ("core", "words", "config", "store", "outbound", "storage", "contract"),
    "storage": ("core", "words", "config", "store", "outbound", "use cases", "contract", "backends"),
    "http": ("words",),
    "api": ("core", "words", "use cases", "contract", "http"),
    "dav": ("core", "words", "use cases", "contract", "http"),
    "web": ("core", "words", "config", "use cases", "contract", "http"),
    "admin": ("core", "words", "config", "use cases", "storage", "store", "contract", "http"),
    "ssh": ("core", "words", "config", "use cases", "contract", "packets"),
    "upstream": ("words", "config", "http"),
    "process": ("words", "config"),
    "app": tuple(part for part in PARTS if part not in ("app", "cli")),
    "cli": ("core", "words", "config", "process", "app"),
}

# The core's law: no I/O, no clock, no randomness. What is not here it may not import.
CORE_MAY_IMPORT = (
    *("__future__", "abc", "base64", "binascii", "collections", "dataclasses", "datetime", "enum", "hashlib", "hmac"),
    *("ipaddress", "itertools", "json", "math", "posixpath", "re", "types", "typing", "unicodedata", "urllib.parse"),
    *("cryptography", "http_message_signatures", "http_sf", "joserfc"),
)
CORE_MUST_NOT_CALL = frozenset(
    {"now", "utcnow", "today", "open", "print", "input", "generate", "generate_private_key", "generate_key"}
)

# Libraries and modules that only these modules may import.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "aiohttp": (
        *("gateway.api", "gateway.dav", "gateway.web", "gateway.admin", "gateway.upstream"),
        *("gateway.asking", "gateway.bodies", "gateway.causing", "gateway.expecting", "gateway.limiting"),
        *("gateway.app", "gateway.listening", "gateway.outbound"),
    ),
    "wsgidav": ("gateway.dav",),
    "urllib3": ("gateway.outbound",),
    "http.client": ("gateway.outbound", "gateway.cli.client"),
    "socket": (
        *("gateway.outbound", "gateway.cli.client", "gateway.systemd"),
        "gateway.admin.socket",  # listens
        "gateway.listening",  # serves on one
        "gateway.supervisor",  # a pair to each worker
        "gateway.dav.stream",  # writes to one that a client has opened
        "gateway.resetting",  # ends one that a client has opened
        "gateway.ssh.door",  # serves on one
        "backends.sftp.connecting",  # paramiko is given one
    ),
    "asyncssh": ("gateway.ssh",),
    "boto3": ("backends.s3",),
    "botocore": ("backends.s3",),
    "paramiko": ("backends.sftp",),
    "pydantic": ("gateway.config",),
    "yaml": ("gateway.config", "gateway.cli.first_config"),
    "click": ("gateway.cli",),
    "alembic": ("gateway.store",),
    "sqlite3": (),
    "subprocess": (),
    "asyncio.subprocess": ("gateway.authorized_keys",),  # the operator's own program
    "smtplib": (),
    "ftplib": (),
    "urllib.request": (),
    "requests": (),
    "httpx": (),
}

# What begins a connection; `connect` only counts beside `socket`, as a database has one too.
CONNECTING = frozenset(
    {
        *("create_connection", "create_unix_connection", "open_connection", "open_unix_connection", "sock_connect"),
        *("ClientSession", "TCPConnector", "UnixConnector", "PoolManager", "urlopen"),
    }
)
MAY_CONNECT = (
    "gateway.outbound",  # to addresses that others chose, behind the guard
    "gateway.cli.client",  # to the admin socket
    "gateway.systemd",  # to the service manager's socket
    "gateway.upstream.connection",  # to the operator's own URL, and to no other
    "backends.sftp.connecting",  # to the operator's own server, and to no other
)
MAKES_ENGINES = "gateway.store.engine"


def part_of(name: str) -> str:
    """Return the part that a module, or a name in one, belongs to."""
    fitting = [(prefix, part) for part, prefixes in PARTS.items() for prefix in prefixes if within(name, prefix)]
    return max(fitting, key=lambda found: len(found[0]))[1]


def allowed(name: str, prefixes: Iterable[str]) -> bool:
    return any(within(name, prefix) for prefix in prefixes)


def broken_rules(module: Module) -> list[str]:
    """Return what is wrong in `module`, a sentence each."""
    own = part_of(module.name)
    wrong = [
        f"{module.name} imports {name}: {own} may not know {part_of(name)}"
        for name in module.imports
        if within(name, "gateway") or within(name, "backends")
        if part_of(name) not in (own, *ARROWS[own])
    ]
    wrong += [
        f"{module.name} imports {name}, which is for {', '.join(places) or 'nobody'} only"
        for name in module.imports
        for library, places in ONLY_IN.items()
        if within(name, library) and not allowed(module.name, places)
    ]
    wrong += [f"{module.name} {what}" for what in _forbidden_uses(module, own)]
    return sorted(wrong)


def _forbidden_uses(module: Module, own: str) -> Iterable[str]:
    if own == "core":
        permitted = (*CORE_MAY_IMPORT, "gateway.ocm")
        yield from (f"imports {name}, and is pure" for name in module.imports if not allowed(name, permitted))
        yield from (f"calls {name}, and is pure" for name in module.calls & CORE_MUST_NOT_CALL)
    if not allowed(module.name, MAY_CONNECT):
        connecting = CONNECTING | ({"connect"} if allowed("socket", module.imports) else set())
        yield from (f"uses {name}: gateway.outbound alone connects" for name in module.names & connecting)
    if module.name != MAKES_ENGINES and "create_engine" in module.names:
        yield "makes a database engine"
    if {"import_module", "__import__"} & module.names:
        yield "imports by a name made at run time, which no table can follow"


def test_every_module_keeps_to_the_arrows() -> None:
    assert [sentence for module in MODULES for sentence in broken_rules(module)] == []


def test_no_import_goes_in_a_circle() -> None:
    graph = {module.name: {_owner(name) for name in module.imports} - {module.name, ""} for module in MODULES}
    for module in MODULES:
        if module.is_package:  # a package that gathers what is in it is the same as its modules
            graph[module.name] = {name for name in graph[module.name] if not within(name, module.name)}
    graphlib.TopologicalSorter(graph).prepare()


def _owner(name: str) -> str:
    """Return the module of ours that an imported name is, or is in; empty for those of others."""
    return name if name in NAMES else name.rpartition(".")[0] if name.rpartition(".")[0] in NAMES else ""


def test_every_part_has_its_row_and_every_row_its_modules() -> None:
    assert ARROWS.keys() == PARTS.keys()
    assert {part for row in ARROWS.values() for part in row} <= PARTS.keys()
    named = [prefix for prefixes in PARTS.values() for prefix in prefixes]
    assert len(named) == len(set(named))
    assert set(named) <= NAMES


def test_every_module_of_the_gateway_stands_in_a_part_of_its_own() -> None:
    """`gateway` as a prefix holds the package itself: a new module needs a place in the table."""
    unplaced = [name for name in NAMES if within(name, "gateway") and name != "gateway" and _fits_only_gateway(name)]
    assert unplaced == []


def _fits_only_gateway(name: str) -> bool:
    return not any(within(name, prefix) for prefixes in PARTS.values() for prefix in prefixes if prefix != "gateway")


def test_every_place_that_is_allowed_something_exists() -> None:
    places = {place for row in ONLY_IN.values() for place in row} | {*MAY_CONNECT, MAKES_ENGINES}
    assert places <= NAMES
    for place, library in [(place, library) for library, row in ONLY_IN.items() for place in row]:
        users = [module for module in MODULES if within(module.name, place)]
        assert any(within(name, library) for module in users for name in module.imports), f"{place}: {library}"


EDGES = ("api", "dav", "web", "admin", "ssh", "upstream")


def test_edges_know_neither_each_other_nor_the_command_line() -> None:
    for edge in EDGES:
        assert not {*EDGES, "app", "cli", "outbound", "backends"} & set(ARROWS[edge])


def test_the_program_as_a_whole_is_known_to_the_command_line_alone() -> None:
    assert [part for part, row in ARROWS.items() if "app" in row] == ["cli"]


# --- the checks themselves: each of these has to be found -----------------------------------------------------------

PLANTED = [
    ("backends.local", "from gateway.errors import Busy", "backends may not know words"),
    ("backends.memory", "import gateway.config", "backends may not know config"),
    ("backends.interface", "from backends.local import LocalBackend", "contract may not know backends"),
    ("gateway.ocm.shares", "import asyncio", "is pure"),
    ("gateway.ocm.shares", "from time import time", "is pure"),
    ("gateway.ocm.shares", "import os.path", "is pure"),
    ("gateway.ocm.shares", "from urllib import request", "is pure"),
    ("gateway.ocm.shares", "def f():\n    import secrets", "is pure"),
    ("gateway.ocm.shares", "from datetime import datetime\nx = datetime.now()", "calls now"),
    ("gateway.ocm.keys", "x = Ed25519PrivateKey.generate()", "calls generate"),
    ("gateway.ocm.shares", "from gateway.errors import Invalid", "core may not know words"),
    ("gateway.ocm.shares", "from ..errors import Invalid", "core may not know words"),
    ("gateway.dav.get", "from gateway.api.errors import STATUS", "dav may not know api"),
    ("gateway.dav.get", "from gateway.api import errors", "dav may not know api"),
    ("gateway.dav.get", "from gateway.store import sent_shares", "dav may not know store"),
    ("gateway.api.door", "import gateway.admin.views", "api may not know admin"),
    ("gateway.web.door", "from gateway.store import peers", "web may not know store"),
    ("gateway.sending", "from gateway.dav.errors import DavError", "use cases may not know dav"),
    ("gateway.sending", "from aiohttp import web", "imports aiohttp.web, which is for"),
    ("gateway.sending", "import gateway.app", "use cases may not know app"),
    ("gateway.tree", "from backends.local import LocalBackend", "use cases may not know backends"),
    ("gateway.ssh.sftp", "from backends.sftp.session import Session", "ssh may not know backends"),
    ("gateway.dav.get", "from backends.sftp_packets import Fields", "dav may not know packets"),
    ("gateway.admin.commands", "from gateway.app import running", "admin may not know app"),
    ("gateway.cli.sharing", "from gateway.sending import Sending", "cli may not know use cases"),
    ("gateway.remote", "from gateway.upstream.connection import Connections", "storage may not know upstream"),
    ("gateway.api.door", "from gateway.upstream.connection import Connections", "api may not know upstream"),
    ("gateway.upstream.door", "from gateway.outbound import Guard", "upstream may not know outbound"),
    ("gateway.upstream.door", "x = loop.create_connection(P, 'a', 1)", "uses create_connection"),
    ("gateway.peers", "import aiohttp\nx = aiohttp.ClientSession()", "uses ClientSession"),
    ("gateway.peers", "from urllib3 import PoolManager", "uses PoolManager"),
    ("gateway.remote", "import urllib.request", "which is for nobody only"),
    ("gateway.remote", "import http.client", "imports http.client, which is for"),
    ("gateway.dav.stream", "import socket\nsocket.create_connection(('a', 1))", "uses create_connection"),
    ("gateway.dav.stream", "import socket\nsocket.socket().connect(('a', 1))", "uses connect"),
    ("backends.webdav.session", "import socket", "imports socket, which is for"),
    ("gateway.store.peers", "from sqlalchemy import create_engine", "makes a database engine"),
    ("gateway.store.peers", "import sqlite3", "which is for nobody only"),
    ("gateway.sending", "import importlib\nimportlib.import_module('x')", "imports by a name made at run time"),
]


@pytest.mark.parametrize(("name", "text", "wrong"), PLANTED)
def test_a_planted_mistake_is_found(name: str, text: str, wrong: str) -> None:
    found = broken_rules(planted(name, text))
    assert any(wrong in sentence for sentence in found), found


def test_an_innocent_module_is_left_alone() -> None:
    text = "from __future__ import annotations\n\nimport re\nfrom urllib.parse import quote\n"
    assert [broken_rules(planted(name, text)) for name, _, _ in PLANTED] == [[] for _ in PLANTED]


def test_the_table_in_the_documentation_is_this_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("<!-- arrows -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    written = {part: (modules.replace("`", "").split(", "), known.split(", ")) for part, modules, known, _ in rows}
    expected = {part: (list(PARTS[part]), list(ARROWS[part]) or ["nothing"]) for part in PARTS}
    expected["app"] = (list(PARTS["app"]), ["everything but cli"])
    assert {part: (sorted(modules), sorted(known)) for part, (modules, known) in written.items()} == {
        part: (sorted(modules), sorted(known)) for part, (modules, known) in expected.items()
    }
