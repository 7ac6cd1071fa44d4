"""The contract's assertions explain themselves when they fail, though they are not in test modules."""

import pytest

pytest.register_assert_rewrite("tests.backends.conformance", "tests.backends.local_contract")
