"""What a server says that one may do, in the three ways of Nextcloud and ownCloud (peers.md, section 3b)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.webdav.rights import OC, OCM, OCS, READERS, rights_of


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, None),
        ({OCS: "1"}, "read"),
        ({OCS: "3"}, "read write"),
        ({OCS: "15"}, "read write"),
        ({OCS: "17"}, "read share"),
        ({OCS: "31"}, "read write share"),
        ({OCM: '["read"]'}, "read"),
        ({OCM: '["read", "write", "share", "fly"]'}, "read write share"),
        ({OC: ""}, "read"),
        ({OC: "RDNVW"}, "read write share"),
        ({OC: "CK"}, "read write"),
        ({OC: "SDNV"}, "read"),
        ({OCS: "1", OCM: '["read","write"]', OC: "CK"}, "read"),
        ({OCM: '["read"]', OC: "CK"}, "read"),
        ({OCS: "many", OCM: "[", OC: "CK"}, "read write"),
        ({OCM: '{"write": true}'}, None),
    ],
)
def test_the_first_property_that_says_something_counts(properties: dict[str, str], expected: str | None) -> None:
    assert rights_of(properties) == (None if expected is None else frozenset(expected.split()))


@given(st.dictionaries(st.sampled_from(list(READERS)), st.text(max_size=40)))
def test_anything_gives_rights_or_none(properties: dict[str, str]) -> None:
    rights = rights_of(properties)
    assert rights is None or {"read"} <= rights <= {"read", "write", "share"}
