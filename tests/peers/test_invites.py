"""Invites with each product that has them, both ways, and a Share between those who have become contacts."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from gateway.peersim import Resource
from gateway.peersim.inviting import Inviting

from .running import Meeting, meeting

PRODUCTS = ("nextcloud-33", "nextcloud-35", "ocis", "opencloud", "reva", "ocm-go")


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meeting]:
    with meeting(tmp_path_factory.mktemp("invites")) as running:
        yield running


@pytest.fixture(params=PRODUCTS)
def stranger(met: Meeting, request: pytest.FixtureRequest) -> Iterator[Inviting]:
    """A fake that knows alice's server and nobody there."""
    fake = met.start(request.param)
    assert isinstance(fake, Inviting)
    fake.trust(met.site.server, f"{met.site.url}/ocm")
    yield fake
    assert fake.journal.complaints == []


def test_it_accepts_an_invite_of_ours(met: Meeting, stranger: Inviting) -> None:
    invite = met.ask("invite.create")["invite_string"]
    token = base64.urlsafe_b64decode(invite + "=" * (-len(invite) % 4)).decode().rpartition("@")[0]
    (user,) = stranger.users
    assert met.run(stranger.accept_invite(user, token, met.site.server)) == met.alice
    share_both_ways(met, stranger, "ours")


def test_we_accept_an_invite_of_its(met: Meeting, stranger: Inviting) -> None:
    (user,) = stranger.users
    _, invite = stranger.invite(user)
    met.ask("invite.accept", invite=invite)
    assert (user, met.alice) in stranger.contacts
    share_both_ways(met, stranger, "its")


def share_both_ways(met: Meeting, fake: Inviting, whose: str) -> None:
    """Share a file with the new contact, and let the contact share one with alice."""
    (contact,) = [each["address"] for each in met.ask("contact.list") if each["address"].endswith(fake.server)]
    name = f"{whose}-{fake.product}"
    met.plant(name, b"alpha")
    met.share(name, contact, ("read",))
    (received,) = fake.received
    assert met.run(met.run(fake.accept(received)).read()) == b"alpha"
    sent = met.run(fake.send_share(met.alice, Resource.file(b"beta"), name=f"back-{name}"))
    assert met.http("GET", met.accept(sent.name)).body == b"beta"
