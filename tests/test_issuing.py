"""The token endpoint's use case: whose secret is exchanged, for what, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from parts import NOW, Clock, new_store, sent

from gateway.errors import TooMany
from gateway.issuing import UNSIGNED_BURST, Issuing
from gateway.ocm.errors import TokenError
from gateway.ocm.secret import Secret
from gateway.ocm.tokens import TokenRequest, TokenResponse, verify_access_token
from gateway.proof import Evidence, Peer
from gateway.signing_keys import SigningKeys
from gateway.store import sent_shares, users
from gateway.store.sealing import secret_hash

ORIGIN = "https://gateway.example"
SECRET = "shared-secret-of-a-share"
PEER = Peer("peer.example", Evidence.RFC9421)


class Place:
    def __init__(self, directory: Path) -> None:
        self.clock = Clock()
        self.store = new_store(directory)
        self.store.run_sync(lambda tx: users.add(tx, "alice", "hash", 0))
        self.keys = SigningKeys(directory / "keys", ORIGIN, self.clock)
        self.issuing = Issuing(self.store, self.keys, origin=ORIGIN, clock=self.clock)

    def put(self, **changes: Any) -> None:
        self.store.run_sync(lambda tx: sent_shares.add(tx, sent(**changes), secret_hash(SECRET), b"sealed"))

    async def issue(self, peer: Peer = PEER, code: str = SECRET) -> TokenResponse:
        return await self.issuing.issue(peer, TokenRequest("authorization_code", "peer.example", Secret(code)))

    async def refused(self, peer: Peer = PEER, code: str = SECRET) -> str:
        with pytest.raises(TokenError) as error:
            await self.issue(peer, code)
        return error.value.code


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.store.close()


async def test_a_token_says_whose_share_it_opens_for_whom(place: Place) -> None:
    """wire.md, Code Flow: `client_id` is the Share's id, never the receiver's host."""
    place.put(requires_exchange=True)
    granted = await place.issue()
    assert granted.expires_in == 300
    claims = verify_access_token(granted.access_token, place.keys.public(), issuer=ORIGIN, now=NOW)
    assert (claims.subject, claims.audience, claims.client_id) == ("alice", "bob@peer.example", "share-1")
    assert (claims.issued_at, claims.expires_at) == (NOW, NOW + 300)


async def test_several_tokens_may_be_live_for_one_share(place: Place) -> None:
    place.put()
    tokens = {(await place.issue()).access_token.reveal() for _ in range(3)}
    assert len(tokens) == 3


@pytest.mark.parametrize(("left", "expected"), [(1, 1), (299, 299), (300, 300), (301, 300)])
async def test_a_token_does_not_outlive_its_share(place: Place, left: int, expected: int) -> None:
    place.put(expiration=NOW + left)
    granted = await place.issue()
    assert granted.expires_in == expected
    claims = verify_access_token(granted.access_token, place.keys.public(), issuer=ORIGIN, now=NOW)
    assert claims.expires_at == NOW + expected


async def test_an_exchange_in_the_last_fraction_of_a_second_gives_nothing_that_is_already_over(place: Place) -> None:
    place.put(expiration=NOW + 1)
    place.clock.advance(0.9)
    assert (await place.issue()).expires_in == 1
    place.clock.advance(0.2)
    assert await place.refused() == "invalid_grant"


@pytest.mark.parametrize("state", ["declined", "refused", "revoked"])
async def test_an_ended_share_gives_no_token(place: Place, state: str) -> None:
    place.put(state=state)
    assert await place.refused() == "invalid_grant"


async def test_another_secret_gives_no_token_and_neither_does_another_server(place: Place) -> None:
    place.put()
    for code in ("", "wrong", SECRET.upper(), "share-1"):
        assert await place.refused(code=code) == "invalid_grant"
    for server in ("evil.example", "peer.example:8443"):
        assert await place.refused(Peer(server, Evidence.RFC9421)) == "invalid_grant"


async def test_the_server_of_a_code_is_the_one_the_share_was_sent_to(place: Place) -> None:
    place.put()
    assert await place.issuing.server_of_code(Secret(SECRET)) == "peer.example"
    with pytest.raises(TokenError, match="no Share") as error:
        await place.issuing.server_of_code(Secret("wrong"))
    assert error.value.code == "invalid_grant"


async def test_what_is_logged_of_it_opens_nothing(place: Place) -> None:
    place.put()
    with structlog.testing.capture_logs() as lines:
        granted = await place.issue()
        await place.refused(code="a-wrong-secret")
    assert [line["event"] for line in lines] == ["token issued"]
    for secret in (SECRET, granted.access_token.reveal(), "a-wrong-secret"):
        assert secret not in repr(lines)
        assert secret not in repr(granted)


async def test_an_unsigned_exchange_is_possible_only_so_often_for_one_share(
    place: Place,
) -> None:
    """wire.md, Code Flow: where the code alone suffices, it is rate-limited; a signature is not held up."""
    place.put()
    unsigned = Peer("peer.example", Evidence.NONE)
    with pytest.raises(TooMany) as refused:
        await _issue_often(place, unsigned, 10 * UNSIGNED_BURST)  # a slow machine earns some anew meanwhile
    assert refused.value.code == "TOO_MANY_REQUESTS"
    assert refused.value.retry_after >= 1
    assert await place.issue(PEER)


async def _issue_often(place: Place, peer: Peer, times: int) -> None:
    for number in range(times):
        try:
            await place.issue(peer)
        except TooMany:
            assert number >= UNSIGNED_BURST
            raise
