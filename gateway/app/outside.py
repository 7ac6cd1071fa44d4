"""The ways to other servers."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from gateway import __version__
from gateway.admitting import CRITERIA
from gateway.app.ground import Ground
from gateway.breaker import Breakers
from gateway.config import Config, FederationConfig
from gateway.directories import Directories, sources
from gateway.first_contacts import FirstContacts
from gateway.outbound import AsyncOutbound, Guard, SyncOutbound
from gateway.peers import Peers
from gateway.proving import Proving
from gateway.signing import Signing
from gateway.traces import Traces
from gateway.trust import Trust
from gateway.verifying import Verifying
from gateway.wayf import Wayf

USER_AGENT = f"ocm-gateway/{__version__}"


@dataclass(frozen=True, slots=True)
class Outside:
    """The ways to other servers."""

    trust: Trust
    directories: Directories
    peers: Peers
    proving: Proving
    streaming: SyncOutbound
    asking: AsyncOutbound
    traces: Traces
    wayf: Wayf


def go_outside(stack: AsyncExitStack, config: Config, ground: Ground) -> Outside:
    lists = config.federation
    guard = Guard(lists.allow_networks, lists.http_allowed, lists.denies)
    authorities = lists.authorities
    asking = AsyncOutbound(guard, user_agent=USER_AGENT, authorities=authorities)
    stack.push_async_callback(asking.close)
    streaming = SyncOutbound(guard, user_agent=USER_AGENT, authorities=authorities)
    stack.callback(streaming.close)
    directories = Directories(ground.store, asking, sources(lists.directories), ground.clock)
    trust = Trust(ground.store, ground.clock, lists=lists, is_member=directories.is_member)
    traces = Traces(config.state_dir / "traces", ground.clock)
    breakers = Breakers(ground.clock)
    peers = Peers(
        ground.store,
        asking,
        trust,
        Signing(ground.keys, ground.legacy, ground.clock),
        server=config.server,
        http_allowed=lists.http_allowed,
        first_contacts=FirstContacts(lists.first_contacts.per_source, lists.first_contacts.per_target),
        traces=traces,
        clock=ground.clock,
        breakers=breakers,
    )
    wayf = Wayf(peers, directories, server=config.server, check_url=guard.check_url)
    proving = _proving(config, ground, peers, trust)
    return Outside(trust, directories, peers, proving, streaming, asking, traces, wayf)


def _proving(config: Config, ground: Ground, peers: Peers, trust: Trust) -> Proving:
    verifying = Verifying(ground.store, peers, ground.clock)
    must_sign = "must-use-http-sig" in criteria_of(config.federation)
    return Proving(
        ground.store, peers, verifying, trust, ground.legacy, must_use_http_sig=must_sign, clock=ground.clock
    )


def criteria_of(lists: FederationConfig) -> tuple[str, ...]:
    """Return what keeps others out, only where the operator has said so: most of today's products stumble over any."""
    words = dict.fromkeys(CRITERIA[word] for word in lists.accept)
    words |= dict.fromkeys((*(("allowlist",) if lists.is_closed else ()), *(("denylist",) if lists.denylist else ())))
    return tuple(words)
