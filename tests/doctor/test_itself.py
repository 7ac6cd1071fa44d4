"""`doctor` looks at the gateway through its public address, and names what a proxy does wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from bad_proxy import Proxy
from sites import Site, free_port

# What the proxy does: the step that says so, its verdict, and a word that its advice has to hold.
FAULTS = {
    "redirects discovery": ("discovery", "failed", "without a redirect"),
    "hides discovery": ("discovery", "failed", "root"),
    "is another server": ("discovery", "failed", "proxy"),
    "does not reach us": ("discovery", "failed", "proxy"),
    "wrong clock": ("clock", "failed", "NTP"),
    "serves old keys": ("jwks", "failed", "verify our signatures"),
    "decodes paths": ("path", "failed", "nocanon"),
    "drops the digest": ("signature", "failed", "Content-Digest"),
    "drops the credential": ("arrival", "failed", "Authorization"),
    "bounds bodies": ("body", "failed", "client_max_body_size"),
    "answers WebDAV": ("webdav", "failed", "every method"),
    "is not believed": ("proxy", "note", "proxy.trusted"),
    "has a neighbour": ("neighbours", "note", "drop"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Proxy]]:
    """A site whose public address is that of a proxy."""
    proxy = Proxy("")
    site = Site(tmp_path_factory.mktemp("doctor"), public_url=f"http://localhost:{proxy.port}")
    proxy.target = f"http://127.0.0.1:{site.port}"
    with site, proxy:
        yield site, proxy


def examine(site: Site, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = site.cli("doctor", *arguments, "--json")
    return done.returncode, json.loads(done.stdout)


def verdicts(report: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["verdict"] for step in report["steps"]}


def test_all_is_well_behind_a_proxy_that_passes_on_what_it_gets(place: tuple[Site, Proxy]) -> None:
    site, proxy = place
    proxy.fault = None
    status, report = examine(site)
    assert (status, report["ok"]) == (0, True), report
    assert set(verdicts(report).values()) == {"ok"}, report
    assert list(verdicts(report)) == [
        *("dns", "tcp", "discovery", "clock", "jwks", "path", "signature", "proxy", "body", "webdav", "neighbours")
    ]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_proxy_does_wrong_is_named_with_what_to_do(place: tuple[Site, Proxy], fault: str) -> None:
    site, proxy = place
    proxy.fault = fault
    name, verdict, advice = FAULTS[fault]
    status, report = examine(site)
    assert status == (1 if verdict == "failed" else 0), report
    (step,) = [step for step in report["steps"] if step["name"] == name]
    assert step["verdict"] == verdict, report
    assert advice in step["cause"], step
    failed = [each["name"] for each in report["steps"] if each["verdict"] == "failed"]
    assert failed == ([name] if verdict == "failed" else []), report


def test_people_read_the_step_what_was_asked_and_the_likely_cause(place: tuple[Site, Proxy]) -> None:
    site, proxy = place
    proxy.fault = "bounds bodies"
    done = site.cli("doctor")
    assert done.returncode == 1
    assert "FAILED body: 413" in done.stdout
    assert "likely: the proxy bounds bodies" in done.stdout
    assert "Failed at: body." in done.stdout


def test_what_an_option_of_the_trial_share_is_for_is_said(place: tuple[Site, Proxy]) -> None:
    done = place[0].cli("doctor", "--as", "alice", "--path", "/home/a.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "say with whom" in done.stderr


def test_steps_that_were_not_reached_are_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Site(tmp_path_factory.mktemp("silent"), public_url=f"http://localhost:{free_port()}") as site:
        lines = site.cli("doctor").stdout.splitlines()
        assert [line for line in lines if line.startswith("  - ")] == [
            "  -      discovery, clock, jwks, path, signature, proxy, body, webdav, neighbours: an earlier step failed"
        ]


def test_a_public_address_that_nobody_listens_at_fails_at_tcp(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Site(tmp_path_factory.mktemp("closed"), public_url=f"http://localhost:{free_port()}") as site:
        status, report = examine(site)
        assert status == 1
        assert verdicts(report)["tcp"] == "failed"
        assert verdicts(report)["discovery"] == "skipped"


def test_nobody_else_is_told_how_a_request_arrives(place: tuple[Site, Proxy]) -> None:
    site, _ = place
    for headers in ({}, {"Authorization": "Doctor "}, {"Authorization": "Doctor 99999999999.00"}):
        reply = site.http("POST", "/ocm/echo/x", b"{}", headers)
        assert (reply.status, json.loads(reply.body)) == (404, {"message": "NOT_FOUND"})


def test_a_gateway_that_does_not_run_is_named_first(tmp_path_factory: pytest.TempPathFactory) -> None:
    site = Site(tmp_path_factory.mktemp("stopped"))
    done = site.cli("doctor")
    assert done.returncode == 1
    assert "the gateway is not running" in done.stderr
