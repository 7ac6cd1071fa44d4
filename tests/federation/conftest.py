"""Two sites of their own processes, of which alice's has files and bob's has none; two accounts of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from machine_accounts import Accounts, two_accounts
from pairs import ALICE, BOB, Pair, sealed_values
from sites import Site


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two running sites for the tests of one module."""
    directory = tmp_path_factory.mktemp("pair")
    with Site(directory / "alice") as alice, Site(directory / "bob") as bob:
        pair = Pair(alice, bob)
        pair.add_users()
        yield pair
        secrets = {ALICE, BOB, *sealed_values(alice).values(), *sealed_values(bob).values()}
        for site in (alice, bob):
            log = site.log.read_text()
            assert "Traceback" not in log, log
            assert not [secret for secret in secrets if secret in log], "a secret stands in a log"


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    with two_accounts() as made:
        yield made


@pytest.fixture
def as_bob(pair: Pair) -> Callable[..., Any]:
    """Make a request to bob's site as bob."""

    def request(method: str, target: str, body: bytes | None = None, **headers: str) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return pair.bob.http(method, target, body, sent, user="bob", password=BOB)

    return request
