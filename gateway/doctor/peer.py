"""Another server, step by step: from its name to a small Share that it takes, reads and loses again."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from backends.paths import StoragePath
from gateway.access import Access
from gateway.doctor.contact import MAX_ANSWER, PATIENCE, Contact
from gateway.doctor.report import Ended, Report, Verdict
from gateway.errors import PeerFailed
from gateway.ocm.discovery import Discovery, parse_discovery
from gateway.ocm.errors import ProtocolError
from gateway.ocm.fields import decode_object
from gateway.ocm.notifications import Notification, NotificationType, serialise_notification
from gateway.ocm.secret import Secret
from gateway.ocm.tokens import GRANT_TYPE, TokenRequest, serialise_token_request
from gateway.ocm.urls import server_of
from gateway.outbound import AsyncOutbound, OutboundError, Response
from gateway.peers import DISCOVERY_PATHS, Answer, Peers
from gateway.profiles import profile_of
from gateway.sending import Sending, SentShareView, ShareRequest
from gateway.store.peers import PeerRecord

LOOK_AGAIN = 0.5  # seconds between looks at the trial Share
TOLD_TIME = 15.0  # seconds that the peer has to be told of the revocation

_STEPS = (
    *("dns", "tcp", "discovery", "clock", "keys", "signature to them", "signature from them", "token"),
    *("share", "read", "revoke"),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """A small Share with somebody at the peer: who shares which path with whom, and how many seconds to wait."""

    owner: str
    path: StoragePath
    share_with: str
    wait: float


class PeerDoctor:
    """Examines other servers with this gateway's own means."""

    def __init__(
        self,
        peers: Peers,
        outbound: AsyncOutbound,
        sending: Sending,
        access: Access,
        *,
        server: str,
        http_allowed: Callable[[str], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._peers = peers
        self._outbound = outbound
        self._sending = sending
        self._access = access
        self._server = server
        self._http_allowed = http_allowed
        self._clock = clock

    async def examine(self, server: str, trial: Trial | None, actor: str) -> Report:
        """Return what was found about `server`; the trial Share is revoked in any case. Raises NotAllowed."""
        report = Report(server)
        try:
            discovery = await self._reach(report, server)
            await self._keys(report, server, discovery)
            await self._signature_to(report, server)
            self._signature_from(report, await self._peers.record(server), discovery)
            await self._token(report, server, discovery)
            if trial is None:
                how = "say with whom: `--with OCM_ADDRESS --as USER --path PATH`"
                report.skipped(how, "share", "read", "revoke")
            else:
                await self._trial(report, trial, actor)
        except Ended:
            there = {step.name for step in report.steps}
            report.skipped("an earlier step failed", *(name for name in _STEPS if name not in there))
        return report

    # --- who is there -------------------------------------------------------------------------------------------

    async def _reach(self, report: Report, server: str) -> Discovery:
        contact = Contact(report, self._outbound, self._clock)
        try:
            await contact.reach(f"https://{server}")
        except Ended:
            if not await self._speaks_plain_http(server):
                raise
            report.steps.clear()
            await contact.reach(f"http://{server}")
            return await self._discovery(report, contact, server, "http")
        return await self._discovery(report, contact, server, "https")

    async def _speaks_plain_http(self, server: str) -> bool:
        """Tell whether the peer is one of those that may do without TLS, and does."""
        if not self._http_allowed(urlsplit(f"//{server}").hostname or ""):
            return False
        try:
            url = f"http://{server}{DISCOVERY_PATHS[0]}"
            response = await self._outbound.request("GET", url, timeout=PATIENCE, max_body=MAX_ANSWER)
        except OutboundError:
            return False
        return response.status == 200

    async def _discovery(self, report: Report, contact: Contact, server: str, scheme: str) -> Discovery:
        found: list[str] = []
        for path in DISCOVERY_PATHS:
            url = f"{scheme}://{server}{path}"
            response = await contact.get("discovery", url)
            try:
                discovery = parse_discovery(response.body, url)
            except ProtocolError as error:
                found.append(f"{path}: {_shown(response)}; {error}")
                continue
            self._describe(report, server, discovery, url)
            contact.compare_clocks(server, response)
            self._peers.breakers.forget(server)  # it has just answered, however long it was silent
            with report.step("discovery", sent=url, cause="the peer is blocked here, or was asked a moment ago"):
                return await self._peers.discover(server, fresh=True)
        cause = "there is no OCM server at this name, or its proxy does not pass discovery on"
        report.failed("discovery", "; ".join(found), cause, sent=f"GET {scheme}://{server}{DISCOVERY_PATHS[0]}")
        raise Ended

    @staticmethod
    def _describe(report: Report, server: str, discovery: Discovery, url: str) -> None:
        said = f"{discovery.provider or 'no provider named'}, API {discovery.api_version}, " + (
            ", ".join(sorted(discovery.capabilities)) or "no capabilities"
        )
        said += f"; spoken to as {profile_of(discovery).title}"
        if not discovery.enabled:
            report.failed("discovery", said, "its OCM service is switched off there", sent=f"GET {url}")
            raise Ended
        elsewhere = [
            f"{name} at {server_of(address)}"
            for name, address in (
                *(("endPoint", discovery.end_point), ("tokenEndPoint", discovery.token_end_point)),
                ("jwksUri", discovery.jwks_uri),
            )
            if address and server_of(address) != server
        ]
        if elsewhere:
            cause = (
                f"it calls itself by another name than {server}: some products refuse that, and so do secrets of ours"
            )
            report.note("discovery", f"{said}; {', '.join(elsewhere)}", cause, sent=f"GET {url}")
        else:
            report.ok("discovery", said, sent=f"GET {url}")

    # --- signatures and tokens ----------------------------------------------------------------------------------

    async def _keys(self, report: Report, server: str, discovery: Discovery) -> None:
        if "http-sig" not in discovery.capabilities:
            kind = "a publicKey of the older kind" if isinstance(discovery.public_key, Mapping) else "no keys"
            report.ok("keys", f"{kind}; it does not sign by RFC 9421")
            return
        cause = "it says that it signs, and nobody can verify that: its jwksUri has to answer with its keys"
        with report.step("keys", sent=f"GET {discovery.jwks_uri}", cause=cause):
            keys = await self._peers.jwks(server, fresh=True)
            said = ", ".join(f"{key.kid} ({key.alg})" for key in keys)
            unusable = "; ".join(f"{kid}: {why}" for kid, why in keys.unusable.items())
            if not said:
                raise PeerFailed("NO_KEYS", f"no usable key; {unusable or 'the list is empty'}")
            report.ok(
                "keys", f"{said}{'; unusable: ' + unusable if unusable else ''}", sent=f"GET {discovery.jwks_uri}"
            )

    async def _signature_to(self, report: Report, server: str) -> None:
        """Decline a Share that never was: nothing changes there, and the answer tells whether we are believed."""
        sent = "POST /notifications: SHARE_DECLINED of a Share that does not exist"
        notification = Notification(
            type=NotificationType.SHARE_DECLINED,
            sender_domain=self._server,
            resource_type="file",
            provider_id=secrets.token_hex(16),
            shared_secret=Secret(secrets.token_urlsafe(32)),
        )
        with report.step("signature to them", sent=sent, cause="it answers discovery, but not its OCM API"):
            answer = await self._peers.post(server, "/notifications", serialise_notification(notification))
        said = f"{answer.status} {answer.reason(Secret(''))}"
        if _is_about_signatures(answer):
            cause = (
                "it does not believe our signature: it must reach our jwksUri (`ocm-gateway doctor` looks at that), "
                "its clock must be right, and it may still know keys of an earlier gateway of this name"
            )
            report.failed("signature to them", said, cause, sent=sent)
        elif answer.status >= 500 and answer.status != 501:
            report.failed("signature to them", said, "an error of its own; its log says more", sent=sent)
        else:
            report.ok("signature to them", f"{said}: the request was let in", sent=sent)

    @staticmethod
    def _signature_from(report: Report, record: PeerRecord | None, discovery: Discovery) -> None:
        name = "signature from them"
        if record is not None and record.signs:
            report.ok(name, "it has signed a request that verified here")
        elif "http-sig" in discovery.capabilities:
            report.skipped("nothing signed has come from there yet; let somebody there share something with you", name)
        else:
            report.ok(name, "it signs nothing, and unsigned requests are taken from it")

    async def _token(self, report: Report, server: str, discovery: Discovery) -> None:
        """Ask for a token with a code that opens nothing: the right answer is invalid_grant (RFC 6749 §5.2)."""
        if discovery.token_end_point is None:
            report.ok("token", "it does not exchange tokens; secrets are used")
            return
        sent = f"POST {discovery.token_end_point} with a code that opens nothing"
        request = TokenRequest(GRANT_TYPE, self._server, Secret(secrets.token_urlsafe(32)))
        with report.step("token", sent=sent, cause="its token endpoint does not answer"):
            answer = await self._peers.send(
                server,
                discovery,
                discovery.token_end_point,
                serialise_token_request(request),
                "application/x-www-form-urlencoded",
            )
        said = f"{answer.status} {answer.reason(Secret(''))}"
        if answer.status in (400, 401, 403) and answer.body.get("error") != "invalid_client":
            report.ok("token", f"{said}: refused as it should be", sent=sent)
        elif answer.body.get("error") == "invalid_client":
            report.failed("token", said, "it does not take us for who we are: see the signature above", sent=sent)
        else:
            report.failed("token", said, "a token endpoint answers such a code with 400 invalid_grant", sent=sent)

    # --- a small Share ------------------------------------------------------------------------------------------

    async def _trial(self, report: Report, trial: Trial, actor: str) -> None:
        sent = f"a Share of /{trial.path} with {trial.share_with}"
        with report.step("share", sent=sent, cause="nothing was shared: see what came back"):
            owner = await self._access.of_user(trial.owner)
            request = ShareRequest(path=trial.path, share_with=trial.share_with, name="Trial of ocm-gateway doctor")
            view, problem = await self._sending.create(owner, request, actor)
        try:
            if view.state not in ("sent", "accepted"):
                cause = "the peer has to take it: `share create --explain` shows exactly what it is sent"
                report.failed("share", f"{view.state}: {problem or 'no answer yet'}", cause, sent=sent)
                report.skipped("an earlier step failed", "read")
            else:
                report.ok("share", f"taken as {view.state}", sent=sent)
                await self._read(report, trial, view)
        finally:
            await self._revoke(report, trial, view, actor)

    async def _read(self, report: Report, trial: Trial, view: SentShareView) -> None:
        """Wait until somebody there has accepted and read it."""
        asked = f"{trial.share_with} is asked to accept and open it within {trial.wait:.0f} s"
        end = asyncio.get_running_loop().time() + trial.wait
        seen = view
        while asyncio.get_running_loop().time() < end:
            seen = await self._sending.show(trial.owner, view.share.id)
            if seen.share.used is not None:
                report.ok("read", "it was opened from there", sent=asked)
                return
            await asyncio.sleep(LOOK_AGAIN)
        cause = (
            "it was accepted, and its content was not asked for: their server cannot reach ours (`ocm-gateway doctor`)"
            if seen.state == "accepted"
            else "nobody has accepted it in time; try again with `--wait`, and tell them before"
        )
        report.add("read", Verdict.NOTE, sent=asked, received=f"the Share is {seen.state}, never opened", cause=cause)

    async def _revoke(self, report: Report, trial: Trial, view: SentShareView, actor: str) -> None:
        sent = "SHARE_UNSHARED"
        ended = await self._sending.revoke(trial.owner, view.share.id, actor)
        told = await _until(self._told, TOLD_TIME, trial.owner, view.share.id)
        if told:
            report.ok("revoke", f"the Share is {ended.state}, and they know", sent=sent)
        else:
            cause = "it opens nothing any more; that they can be told is tried again by the outbox"
            report.note("revoke", f"the Share is {ended.state}, they could not be told yet", cause, sent=sent)

    async def _told(self, owner: str, share_id: str) -> bool:
        return (await self._sending.show(owner, share_id)).waiting is None


async def _until(look: Callable[..., Awaitable[bool]], seconds: float, *arguments: str) -> bool:
    for _ in range(int(seconds / LOOK_AGAIN)):
        if await look(*arguments):
            return True
        await asyncio.sleep(LOOK_AGAIN)
    return False


def _is_about_signatures(answer: Answer) -> bool:
    told = str(answer.body.get("message") or answer.body.get("error") or "").lower()
    return answer.status in (400, 401, 403) and any(word in told for word in ("signature", "sign", "keyid", "digest"))


def _shown(response: Response) -> str:
    try:
        decode_object(response.body)
    except ProtocolError:
        return f"{response.status}, no JSON"
    return f"{response.status}, JSON"
