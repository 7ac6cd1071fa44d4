"""Failed log-ins at the WebDAV door: counted by client, never against whoever knows the password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.limits import Limits
from gateway.logins import Logins

from .served import Served, basic, bearer

OFFICE, HOME = {"X-Client": "192.0.2.1"}, {"X-Client": "198.51.100.7"}
BOUNDS = {"logins": (5, 0.1), "secrets": (8, 0.1), "repeats": (2, 0.01)}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Served]:
    """A door whose clients say who they are, and whose clock stands still."""
    limits = Limits(BOUNDS, clock=lambda: 0.0)
    with Served(tmp_path, logins=Logins(limits), client=lambda request: request.headers["X-Client"]) as door:
        yield door


def ask(door: Served, credential: dict[str, str], client: dict[str, str], path: str = "/dav/files/alice/") -> Any:
    return door.request("PROPFIND", path, headers={"Depth": "0"} | credential | client)


def test_who_guesses_is_refused_and_the_user_works_on_elsewhere(door: Served, log: list[Any]) -> None:
    answers = [ask(door, basic("alice", f"guess-{number}"), OFFICE) for number in range(8)]
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 3
    assert (answers[-1].code, answers[-1].headers["retry-after"]) == ("TOO_MANY_REQUESTS", "10")
    assert "www-authenticate" not in answers[-1].headers
    assert ask(door, basic("alice"), OFFICE).status == 429
    assert ask(door, basic("alice"), HOME).status == 207
    assert len([line for line in log if line["event"] == "limited"]) == 1
    assert "guess-" not in repr(log)


def test_unknown_users_are_refused_as_known_ones_are(door: Served) -> None:
    seen = []
    for user, client in (("alice", OFFICE), ("nobody", HOME)):
        answers = [ask(door, basic(user, f"guess-{number}"), client, "/dav/files/x/") for number in range(8)]
        seen.append([(answer.status, answer.body, answer.headers.get("retry-after")) for answer in answers])
    assert seen[0] == seen[1]


def test_asking_without_a_credential_is_no_failure(door: Served) -> None:
    assert {ask(door, {}, OFFICE).status for _ in range(20)} == {401}
    assert ask(door, basic("alice"), OFFICE).status == 207


def test_secrets_of_shares_count_apart_from_passwords(door: Served) -> None:
    (door.data / "folder").mkdir()
    share = door.share("folder")
    answers = [ask(door, bearer(f"guess-{number}"), OFFICE, "/dav/ocm/").status for number in range(10)]
    assert answers == [401] * 8 + [429] * 2
    assert ask(door, bearer(share.secret), HOME, "/dav/ocm/").status == 207
    assert ask(door, basic("alice"), OFFICE).status == 207


def test_a_peer_that_asks_on_with_one_ended_secret_does_no_harm_to_its_other_shares(door: Served) -> None:
    (door.data / "folder").mkdir()
    share = door.share("folder")
    answers = [ask(door, bearer("ended"), OFFICE, "/dav/ocm/").status for _ in range(20)]
    assert answers == [401] * 2 + [429] * 18
    assert ask(door, bearer(share.secret), OFFICE, "/dav/ocm/").status == 207
