"""Schemathesis makes up requests from OpenAPI documents, and finds no answer that they do not describe.

Each operation is asked in two ways: with bodies as they come, and, so that they get as far as a use case, with those in
which the servers are the real ones, signed by the peer. OCM_OPENAPI=FILE takes another document than ours, as the
published one of API 1.4.0, and adds to it the statuses of ours that it lacks.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.config import SchemathesisConfig

from gateway.api.door import ENDPOINTS
from gateway.ocm.signatures import Message, sign

from .served import BASE, ORIGIN, SECRET, SERVER, Served

HERE = Path(__file__).parent
MADE_UP = 200  # requests of each operation in each way, beside the examples and the corner cases of the document
LEAST = 2_000  # requests in all

checks.load_all_checks()
# A 5xx is an answer like any other: one that the document does not describe fails, and it describes no 500.
JUDGES = checks.CHECKS.get_by_names(
    [f"{part}_conformance" for part in ("status_code", "content_type", "response_headers", "response_schema")]
)
# Other methods have tests of their own (test_endpoints.py).
CONFIG = SchemathesisConfig.from_dict({"phases": {"coverage": {"unexpected-methods": []}}})
PROFILE = settings(
    max_examples=MADE_UP, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

# What tells who speaks to whom about what, as a body has it that gets anywhere.
WEBDAV = {"uri": "remote-1", "sharedSecret": SECRET, "permissions": ["read"]}
KNOWN: Mapping[str, Callable[[str], object]] = {
    "shareWith": lambda peer: f"alice@{SERVER}",
    "sender": lambda peer: f"carol@{peer}",
    "owner": lambda peer: f"carol@{peer}",
    "senderDomain": lambda peer: peer,
    "recipientProvider": lambda peer: peer,
    "protocol": lambda peer: {"name": "multi", "webdav": WEBDAV},
    "client_id": lambda peer: peer,
    "code": lambda peer: f"{SECRET}-schema",
}
ASKED_FOR: Mapping[str, Callable[[str], object]] = {  # the other way about: a peer's user asks one of ours
    "owner": lambda peer: f"alice@{SERVER}",
    "shareWith": lambda peer: f"carol@{peer}",
}
GETS_THROUGH = {"/shares": 201, "/request-share": 201, "/token": 200}
WRONG_TYPES = (True, 1.5, ["x"], {"x": "y"})

nonces = itertools.count()
# Answers by path, signed or not, and status, in this process of tests.
answered: defaultdict[tuple[str, bool], Counter[int]] = defaultdict(Counter)


def described(name: str) -> dict[str, Any]:
    """Return one of our documents, without the endpoints that this gateway does not have."""
    own = yaml.safe_load((HERE / f"{name}.openapi.yaml").read_text())
    document = own
    if name == "ocm" and (other := os.environ.get("OCM_OPENAPI")):
        document = yaml.safe_load(Path(other).read_text())
        document["components"]["responses"] = own["components"]["responses"]
        for path, item in document["paths"].items():
            for method in item.keys() & {"get", "post"}:
                item[method]["responses"] = own["paths"][path][method]["responses"] | item[method]["responses"]
    paths = {path: item for path, item in document["paths"].items() if path.startswith("/.") or path[1:] in ENDPOINTS}
    return {**document, "paths": paths}


DOCUMENTS = {name: described(name) for name in ("ocm", "token")}
OCM, TOKEN = (schemathesis.openapi.from_dict(document, config=CONFIG) for document in DOCUMENTS.values())
POSTS = {path: item["post"] for each in DOCUMENTS.values() for path, item in each["paths"].items() if "post" in item}


@pytest.fixture(scope="module", autouse=True)
def counted() -> Iterator[None]:
    """No operation that was asked at all was asked only a little, and what a peer signs gets through."""
    yield
    for (path, signed), statuses in answered.items():
        assert path not in POSTS or statuses.total() >= MADE_UP, (path, statuses)
        if signed and path in GETS_THROUGH:
            assert statuses[GETS_THROUGH[path]], (path, statuses)


@pytest.fixture
def granted(served: Served) -> Served:
    """A gateway with a Share whose secret can be exchanged."""
    if not any(share.id == "schema" for share in served.sent()):
        served.put_sent("schema")
    return served


def send(served: Served, case: Any, *, signed: bool) -> None:
    """Send what schemathesis made up and let it judge the answer."""
    prefix = "" if case.path.startswith("/.") else f"{BASE}/ocm"
    if signed and isinstance(case.body, dict):
        values = ASKED_FOR if case.path == "/request-share" else KNOWN
        known = {name: value(served.peer.server) for name, value in values.items() if name in case.body}
        case.body = {**case.body, **known}
    kwargs = case.as_transport_kwargs(base_url=f"http://127.0.0.1:{served.port}{prefix}")
    request = requests.Request(**kwargs).prepare()
    if signed and request.body:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        message = Message("POST", f"{ORIGIN}{prefix}{case.path}", (), body)
        key = served.peer.keys.signing_key()
        request.headers.update(sign(message, key, int(served.clock()), nonce=str(next(nonces))))
    with requests.Session() as session:
        answer = session.send(request, timeout=20, allow_redirects=False)
    answered[case.path, signed][answer.status_code] += 1
    case.validate_response(answer, checks=JUDGES)


@OCM.parametrize()
@PROFILE
def test_whatever_comes_is_answered_as_described(case: Any, served: Served) -> None:
    send(served, case, signed=False)


@OCM.include(method="POST").parametrize()
@PROFILE
def test_whatever_a_peer_signs_is_answered_as_described(case: Any, served: Served) -> None:
    send(served, case, signed=True)


@TOKEN.parametrize()
@PROFILE
def test_whatever_asks_for_a_token_is_answered_as_described(case: Any, served: Served) -> None:
    send(served, case, signed=False)


@TOKEN.parametrize()
@PROFILE
def test_whatever_a_peer_signs_to_get_a_token_is_answered_as_described(case: Any, granted: Served) -> None:
    send(granted, case, signed=True)


def test_every_endpoint_is_described_and_asked_often_enough() -> None:
    paths = {path[1:] for document in DOCUMENTS.values() for path in document["paths"]}
    assert set(ENDPOINTS) <= paths | ({"jwks"} if "OCM_OPENAPI" in os.environ else set())
    assert ".well-known/ocm" in paths
    assert MADE_UP * len(POSTS) * 2 >= LEAST


@pytest.mark.parametrize("path", POSTS)
def test_a_string_of_another_type_is_400_wherever_it_stands(served: Served, path: str) -> None:
    (name,) = [name for name, document in DOCUMENTS.items() if path in document["paths"]]
    reference = POSTS[path]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = DOCUMENTS[name]["components"]["schemas"][reference.rpartition("/")[2]]
    strings = [name for name, details in schema["properties"].items() if details.get("type") == "string"]
    assert len(strings) >= 3
    body = {name: schema["properties"][name].get("example", "file") for name in strings}
    body |= {"protocol": {"name": "multi", "webdav": WEBDAV}} if path == "/shares" else {}
    for field in strings:
        for value in WRONG_TYPES:
            reply = served.post(path[1:], body | {field: value}, signed=False)
            assert reply.status == 400, (field, value, reply)
