"""The one table of errors is complete, and tells the caller no more than it should."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from backends import errors as storage_errors
from backends.errors import StorageError
from gateway import errors as refusals
from gateway.dav.errors import ANSWERS, DavError, response, translate
from gateway.dav.xml import can_hold, error_body
from gateway.errors import Refusal

from .served import Served


def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
    """Return every class below `kind` that can be raised."""
    for below in kind.__subclasses__():
        if below.__module__ not in ("backends.errors", "gateway.errors"):
            continue  # a backend's own kind is answered as what it is one of
        yield below
        yield from leaves(below)


def made(kind: type[Exception]) -> Exception:
    return kind("CODE", "a sentence") if issubclass(kind, Refusal) else kind("/srv/secret/path is in the way")


@pytest.mark.parametrize("kind", [*leaves(StorageError), *leaves(Refusal)], ids=lambda kind: kind.__name__)
def test_every_error_has_an_answer_with_a_status_and_a_code(kind):
    refusal = translate(made(kind))
    assert 400 <= refusal.status < 600
    assert refusal.status != 500
    assert refusal.code.isupper()
    assert str(refusal)
    assert "/srv/secret/path" not in str(refusal)


def test_the_table_has_no_rows_for_nothing():
    assert set(ANSWERS) <= {*leaves(StorageError), *leaves(Refusal)}
    assert {kind for kind in vars(storage_errors).values() if isinstance(kind, type)} - {StorageError} <= set(ANSWERS)
    assert {kind for kind in vars(refusals).values() if isinstance(kind, type)} - {Refusal} <= set(ANSWERS)


def test_what_may_be_asked_again_says_when():
    assert translate(storage_errors.Unavailable("hung", retry_after=11)).headers == {"Retry-After": "11"}
    assert translate(refusals.Busy("BUSY", "too much", retry_after=12)).headers == {"Retry-After": "12"}


def test_a_body_is_xml_whatever_the_sentence_holds():
    body = error_body("CODE", "a <b> & \0\x1f\ufffe\ud800 c", "finite-depth").decode()
    assert can_hold(body)
    assert "a &lt;b&gt; &amp; \ufffd\ufffd\ufffd\ufffd c" in body
    assert "<d:finite-depth/>" in body
    answer = response(DavError(418, "TEAPOT", "short and stout", headers={"X": "y"}))
    assert (answer.status, answer.headers["X"], answer.content_type) == (418, "y", "application/xml")


class Buggy:
    """A backend with a mistake in it."""

    def __init__(self, inner) -> None:
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def stat(self, path):
        raise ZeroDivisionError("a mistake of ours")


def test_a_mistake_of_ours_is_500_and_in_the_log_and_the_door_stays_open(tmp_path):
    with Served(tmp_path, wrap=Buggy) as served, structlog.testing.capture_logs() as lines:
        reply = served.alice("PROPFIND", "/home/x")
        assert (reply.status, reply.code) == (500, "INTERNAL_ERROR")
        assert reply.headers["connection"] == "close"
        assert served.alice("PROPFIND", "/other/").status == 207
    (line,) = [line for line in lines if line["event"] == "dav.failed"]
    assert line["exc_info"]
    assert (line["method"], line["principal"], line["path"]) == ("PROPFIND", "user:alice", "home/x")
