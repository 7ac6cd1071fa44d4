"""Assertions outside of test modules explain themselves; every run says the seed that repeats it."""

from __future__ import annotations

import os
import random

import pytest

pytest.register_assert_rewrite(
    "tests.faults.rounds", "tests.faults.trees", "tests.faults.power", "tests.faults.clients"
)


@pytest.fixture
def seed() -> int:
    """A new seed for each run, which a failure shows; FAULTS_SEED repeats one."""
    chosen = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"FAULTS_SEED={chosen}")
    return chosen
