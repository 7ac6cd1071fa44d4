"""A gateway with little patience: what clients, the log and the metrics see of its limits."""

from __future__ import annotations

import http.client
from pathlib import Path

from sites import Site, eventually, log_lines

LIMITS = {"pages": {"burst": 3, "rate": 0.01}, "logins": {"burst": 2, "rate": 0.01}}


def test_limits_of_the_configuration_hold_behind_a_trusted_proxy(tmp_path: Path) -> None:
    with Site(tmp_path, limits=LIMITS, proxy={"trusted": ["127.0.0.0/8"]}) as site:
        site.add_user("alice", "correct horse")

        def page(client: str) -> int:
            return site.http("GET", "/", headers={"X-Forwarded-For": client}).status

        def files(password: str, client: str) -> int:
            headers = {"X-Forwarded-For": client, "Depth": "0"}
            return site.http("PROPFIND", "/dav/files/alice/", None, headers, user="alice", password=password).status

        def refused() -> set[str]:
            connection = http.client.HTTPConnection("127.0.0.1", site.metrics_port, timeout=10)
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
            connection.close()
            return {line for line in lines if line.startswith("ocm_gateway_limited_total")}

        assert [page("203.0.113.1") for _ in range(5)] == [200] * 3 + [429] * 2
        assert page("203.0.113.2") == 200
        assert [files(f"guess-{number}", "203.0.113.1") for number in range(3)] == [401, 401, 429]
        assert files("correct horse", "203.0.113.2") == 207
        counted = {'endpoint="pages"': 2, 'endpoint="logins"': 1}
        wanted = {f"ocm_gateway_limited_total{{{label}}} {count:.1f}" for label, count in counted.items()}
        eventually(refused, wanted)
        lines = [line for line in log_lines(site.log) if "limited" in line]
        assert len(lines) == 2, lines
        assert all("203.0.113.1" in line and "limits." in line for line in lines), lines


def test_limits_can_be_switched_off(tmp_path: Path) -> None:
    with Site(tmp_path, limits={"enabled": False, "pages": {"burst": 1, "rate": 0.01}}) as site:
        assert {site.http("GET", "/").status for _ in range(20)} == {200}
