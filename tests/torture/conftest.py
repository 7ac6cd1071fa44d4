"""The long forms of tests that `make test` runs in short; no time limit but that of each round."""

from __future__ import annotations

import pytest

from ..faults.conftest import seed

__all__ = ["seed"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(3600))
