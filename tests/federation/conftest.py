"""Two sites of their own processes, of which alice's has files and bob's has none; two accounts of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from machine_accounts import Accounts, two_accounts
from pairs import BOB, Pair, two_sites


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two running sites for the tests of one module."""
    with two_sites(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


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
