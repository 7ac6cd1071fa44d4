"""Every error has its row in every table that translates it, no row is dead, and the drawn trees are true."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from inspect import signature
from typing import Any

import pytest
from aiohttp import web

import backends.errors
import gateway.errors
import gateway.ocm.errors
from backends import sftp_packets
from backends.errors import StorageError, Unavailable
from gateway.api import errors as api
from gateway.dav import errors as dav
from gateway.errors import Invalid, Refusal
from gateway.ocm.errors import Malformed, ProtocolError, TokenError
from gateway.ssh import errors as ssh
from gateway.upstream import errors as upstream
from gateway.web import errors as web_errors

from .source import MODULES, within

ROOTS = (StorageError, Refusal, ProtocolError)
# RFC 6749 section 5.2, as draft-07, Error Responses repeats it
TOKEN_ERRORS = {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type"}

TEXT = "a-path-of-the-operator"

for found in MODULES:
    if not within(found.name, "gateway.store.migrations") and found.name != "gateway.__main__":
        importlib.import_module(found.name)  # so that every subclass there is, exists


def below(root: type[Exception]) -> Iterator[type[Exception]]:
    for kind in root.__subclasses__():
        if kind.__module__.startswith(("gateway", "backends")):
            yield kind
            yield from below(kind)


STORAGE, REFUSALS, PROTOCOL = (sorted(set(below(root)), key=str) for root in ROOTS)


def declared(module: object) -> set[str]:
    """Return the errors that a module makes, its root included."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return {kind.__name__ for kind in kinds if kind.__module__ == getattr(module, "__name__", "")}


def example(kind: type[Exception], code: str = "SOME_CODE") -> Any:
    """Return an error as it is raised; the text is for the log and must not come out."""
    if issubclass(kind, ProtocolError):
        return kind(code)
    if issubclass(kind, Refusal):
        return kind(code, TEXT)
    parameters = list(signature(kind.__init__).parameters.values())[1:]
    needed = [each for each in parameters if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]
    return kind(TEXT, *(401 for _ in needed[1:]))


def body(answer: web.Response) -> dict[str, object]:
    assert isinstance(answer.body, bytes)
    value = json.loads(answer.body)
    assert isinstance(value, dict)
    return value


def test_the_trees_that_are_walked_are_not_empty() -> None:
    assert len(STORAGE) >= 13
    assert len(REFUSALS) >= 8
    assert len(PROTOCOL) >= 5


# --- the OCM API ----------------------------------------------------------------------------------------------------


def test_the_api_has_a_status_for_every_refusal_and_no_other_row() -> None:
    """The table is read by the exact type, so a new subclass needs a row of its own."""
    assert set(api.STATUS) == set(REFUSALS)
    assert set(api.TOKEN_ERRORS) <= set(api.STATUS)


def test_pages_have_a_status_for_every_refusal_and_no_other_row() -> None:
    assert set(web_errors.STATUS) == set(REFUSALS)


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_the_api_answers_every_refusal_with_its_code(kind: type[Refusal]) -> None:
    answer = api.response(example(kind))
    assert answer.status == api.STATUS[kind]
    assert body(answer)["message"] == "SOME_CODE"
    assert TEXT not in json.dumps(body(answer))
    assert (answer.status in (429, 503)) == ("Retry-After" in answer.headers)


def test_the_api_names_the_field_of_what_is_invalid() -> None:
    answer = api.response(Invalid("RECIPIENT_NOT_FOUND", "nobody of that name", "shareWith"))
    assert body(answer)["validationErrors"] == [{"name": "shareWith", "message": "RECIPIENT_NOT_FOUND"}]


@pytest.mark.parametrize("kind", PROTOCOL, ids=lambda kind: kind.__name__)
def test_the_api_answers_every_mistake_of_a_message(kind: type[ProtocolError]) -> None:
    answer = api.response(example(kind))
    assert answer.status == kind.status_hint
    assert 400 <= answer.status <= 501
    word = "error" if issubclass(kind, TokenError) else "message"
    assert body(answer)[word] == "SOME_CODE"
    assert ("validationErrors" in body(answer)) == issubclass(kind, Malformed)


@pytest.mark.parametrize("kind", [*REFUSALS, *PROTOCOL], ids=lambda kind: kind.__name__)
def test_the_token_endpoint_answers_as_oauth_does_or_asks_to_come_back(kind: type[Refusal | ProtocolError]) -> None:
    answer = api.token_response(example(kind, "invalid_grant"))
    if answer.status in (429, 503):
        assert "Retry-After" in answer.headers
    else:
        assert answer.status == 400
        assert body(answer)["error"] in TOKEN_ERRORS


@pytest.mark.parametrize("answer", [api.response, api.token_response])
def test_a_state_that_does_not_answer_is_503_with_a_time(answer: object) -> None:
    assert callable(answer)
    response = answer(Unavailable("the disk hangs", retry_after=7))
    assert (response.status, response.headers["Retry-After"]) == (503, "7")


# --- the WebDAV door ------------------------------------------------------------------------------------------------


def test_a_page_has_a_status_for_whatever_is_refused_and_no_other_row() -> None:
    assert set(web_errors.STATUS) == set(REFUSALS)
    for kind in (*REFUSALS, *PROTOCOL, Unavailable):
        assert 400 <= web_errors.status_of(example(kind)) < 600


def test_the_dav_table_has_no_dead_row() -> None:
    assert set(dav.ANSWERS) <= {*STORAGE, *REFUSALS}


@pytest.mark.parametrize("kind", [*STORAGE, *REFUSALS], ids=lambda kind: kind.__name__)
def test_the_dav_door_answers_every_error(kind: type[Exception]) -> None:
    """An error of the trees' own modules has its own row; what a backend derives from one has that one's."""
    if kind.__module__ in ("backends.errors", "gateway.errors"):
        assert kind in dav.ANSWERS
    refusal = dav.translate(example(kind))
    assert 400 <= refusal.status <= 507
    assert re.fullmatch(r"[A-Z][A-Z_]+", refusal.code)
    assert (refusal.status in (429, 503)) == ("Retry-After" in refusal.headers)
    assert issubclass(kind, Refusal) or TEXT not in str(refusal), "a storage's own sentence may name paths"
    assert dav.response(refusal).status == refusal.status


# --- the SSH door ---------------------------------------------------------------------------------------------------


def test_the_table_of_sftp_has_no_dead_row() -> None:
    assert set(ssh.ANSWERS) <= {*STORAGE, *REFUSALS, sftp_packets.Malformed}


@pytest.mark.parametrize("kind", [*STORAGE, *REFUSALS, sftp_packets.Malformed], ids=lambda kind: kind.__name__)
def test_the_ssh_door_answers_every_error(kind: type[Exception]) -> None:
    """An error of the trees' own modules has its own row; what a backend derives from one has that one's."""
    if kind.__module__ in ("backends.errors", "gateway.errors"):
        assert kind in ssh.ANSWERS
    refusal = ssh.translate(example(kind))
    assert refusal.status not in (sftp_packets.Status.OK, sftp_packets.Status.EOF)
    assert re.fullmatch(r"[A-Z][A-Z_]+", refusal.code)
    assert str(refusal)
    assert not issubclass(kind, StorageError) or TEXT not in str(refusal), "a storage's own sentence may name paths"


# --- the server behind ----------------------------------------------------------------------------------------------


def test_whatever_happens_on_the_way_to_the_server_behind_has_an_answer_and_no_row_is_dead() -> None:
    kinds = {*below(upstream.UpstreamError), *below(upstream.RequestError)}
    assert set(upstream.ANSWERS) == kinds
    for kind in kinds:
        answer = upstream.response(kind(TEXT))
        assert answer.status == upstream.ANSWERS[kind][0]
        assert TEXT not in json.dumps(body(answer))
    assert len({code for _, code, _ in upstream.ANSWERS.values()}) == len(kinds)


# --- the trees ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", [backends.errors, gateway.errors, gateway.ocm.errors, upstream], ids=lambda one: one.__name__
)
def test_the_tree_in_the_docstring_is_the_one_that_exists(module: object) -> None:
    drawn = re.findall(r"^ {4,}([A-Z]\w+)\b", module.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(declared(module) - {"FieldError"})


def test_every_error_is_raised_somewhere() -> None:
    own = {kind.__module__ for kind in (*STORAGE, *REFUSALS, *PROTOCOL)} & {"backends.errors", "gateway.errors"}
    tables = {*own, *(f"gateway.{edge}.errors" for edge in ("api", "dav", "ssh", "web"))}
    used = {name for module in MODULES if module.name not in tables for name in module.names}
    assert {kind.__name__ for kind in (*STORAGE, *REFUSALS, *PROTOCOL)} - used == set()
