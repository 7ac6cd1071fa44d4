"""Who signs, signs both ways: the product verifies ours, the gateway verifies its."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.peersim import Resource

from .running import Meeting, meeting


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    with meeting(tmp_path_factory.mktemp("signed")) as running:
        yield running


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("nextcloud-31", {}, "cavage", "cavage"),
    ("nextcloud-33", {}, "cavage", "cavage"),
    ("nextcloud-35", {}, "RFC 9421", "rfc9421"),
    ("nextcloud-35", {"eddsa": False}, "RFC 9421", "rfc9421"),
    ("ocm-go", {}, "RFC 9421", "rfc9421"),
]


@pytest.mark.parametrize(
    ("product", "options", "scheme", "evidence"), CASES, ids=["-".join([case[0], *case[1]]) for case in CASES]
)
def test_shares_are_signed_and_verified_both_ways(
    met: Meeting, product: str, options: dict[str, Any], scheme: str, evidence: str
) -> None:
    fake = met.start(product, **options)
    (user,) = fake.users
    fake.befriend(user, met.alice)
    name = f"{product}-{len(options)}"
    met.plant(name, b"alpha")
    met.share(name, fake.address(user), ("read",))
    assert fake.signers == {met.site.server: scheme}
    met.run(fake.send_share(met.alice, Resource.file(b"beta"), name=f"from-{name}"))
    share = met.arrived(f"from-{name}")
    assert met.ask("received.show", id=share["id"])["evidence"] == evidence
    assert fake.journal.complaints == []
