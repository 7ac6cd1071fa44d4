"""The token exchange, both ways (peers.md §8): a form, signed where the product signs."""

from __future__ import annotations

import base64
import json
import secrets
from urllib.parse import parse_qs, urlencode

from .fake import Fake
from .journal import Failed, NotGranted, Refused
from .messages import Asked, Document
from .shares import Sent

FORM = "application/x-www-form-urlencoded"
LIFE = 3600  # seconds


class Exchanging(Fake):
    """A product that exchanges secrets for access tokens."""

    grant_types: tuple[str, ...] = ("authorization_code",)
    bad_code_status = 400
    keeps_one_token = False  # a new one ends the one before

    def client_id(self) -> str:
        return self.server

    async def exchange(self, document: Document, secret: str) -> str:
        """Return an access token of the other side for a secret; raises Failed."""
        url = document["tokenEndPoint"]
        form = {"grant_type": "authorization_code", "client_id": self.client_id(), "code": secret}
        body = urlencode(form).encode()
        headers = {"Content-Type": FORM, **await self.sign("POST", url, body, document)}
        answer = await self.call("POST", url, headers, body)
        granted = answer.json()
        if answer.status == 400 and isinstance(granted, dict) and granted.get("error") == "invalid_grant":
            raise NotGranted("there is no token for this Share", answer.status)
        if answer.status != 200 or not isinstance(granted, dict):
            self.journal.complain(f"POST {url} is answered {answer.status} {answer.refusal}")
            raise Failed("no token", answer.status)
        if not answer.headers.get("Content-Type", "").startswith("application/json"):
            self.journal.complain("the token is not sent as application/json")
        if granted.get("token_type") != "Bearer":
            self.journal.complain(f"token_type is {granted.get('token_type')!r}")
        if not isinstance(granted.get("expires_in"), int) or granted["expires_in"] <= 0:
            self.journal.complain(f"expires_in is {granted.get('expires_in')!r}")
        if "no-store" not in answer.headers.get("Cache-Control", ""):
            self.journal.complain("the answer with the token may be cached")
        return str(granted["access_token"])

    async def grant(self, asked: Asked) -> tuple[int, Document]:
        """Answer a request for a token; raises Refused."""
        kind = asked.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind != FORM:
            raise Refused(400, f"the request for a token is {kind!r}, no form", {"error": "invalid_request"})
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        if form.get("grant_type") not in self.grant_types:
            why = f"grant_type is {form.get('grant_type')!r}"
            raise Refused(400, why, {"error": "unsupported_grant_type"})
        sent = self.by_secret(form.get("code", ""))
        if sent is None:  # the Share may have ended: that is no mistake
            raise Refused(self.bad_code_status, body={"error": "invalid_grant"})
        await self.check_client(asked, form, sent)
        token = _token_like_a_jwt(sent)
        if self.keeps_one_token:
            sent.tokens.clear()
        sent.tokens.append(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": LIFE}

    async def check_client(self, asked: Asked, form: dict[str, str], sent: Sent) -> None:
        """Raise Refused unless the request comes from the receiver of the Share."""


def _token_like_a_jwt(sent: Sent) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": sent.share_with, "jti": secrets.token_hex(8)})
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*texts, secrets.token_urlsafe(32)])
