"""Who this side is to a configured server: nobody, a user with a password, the bearer of a token, an OAuth 2 client."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

from backends.errors import PermissionDenied, StorageError, Unavailable
from backends.secret_file import SecretFile
from backends.shared_call import SharedCall
from backends.webdav.transport import Credential, Requests

ANSWER_MAX = 64 * 1024  # bytes
LIFE_DEFAULT = 300  # seconds, where the endpoint does not say (RFC 6749 section 5.1)
RENEW_BEFORE = 30  # seconds of a token's life in which it is no longer used
TRY_AGAIN = 5.0  # seconds in which a failure is not repeated
REPLACE_AGAIN = 10.0  # seconds in which a token that has replaced a refused one is not replaced itself

_ERROR_CODE = re.compile(r"[a-z_]{1,40}")  # those of RFC 6749 section 5.2
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1


def nobody(_refused: Mapping[str, str] | None) -> Mapping[str, str]:
    """Prove nothing: the server is open, or knows this side by its client certificate."""
    return {}


def basic(user: str, password: SecretFile) -> Credential:
    """Return what proves by a password (RFC 7617)."""

    def credential(_refused: Mapping[str, str] | None) -> Mapping[str, str]:
        return {"Authorization": f"Basic {_pair(user, password.read())}"}

    return credential


def bearer(token: SecretFile) -> Credential:
    """Return what proves by a token that something else renews in its file (RFC 6750)."""

    def credential(_refused: Mapping[str, str] | None) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {token.read().strip()}"}

    return credential


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth 2 client; `setting` is the section of the configuration that describes it."""

    token_endpoint: str
    client_id: str
    secret: SecretFile
    scope: str | None
    setting: str


@dataclass(frozen=True, slots=True)
class _Token:
    """A token by its header: until when it is used, and until when it is not replaced even if it is refused."""

    headers: Mapping[str, str]
    use_until: float
    keep_until: float


class ClientCredentials:
    """The client credentials grant (RFC 6749 section 4.4): one token for all threads, one renewal at a time."""

    def __init__(self, client: Client, requests: Requests, clock: Callable[[], float] = time.monotonic) -> None:
        """`requests` bounds the time of each answer in all; `clock` is in seconds."""
        self._client = client
        self._requests = requests
        self._clock = clock
        self._renewal: SharedCall[Mapping[str, str]] = SharedCall()
        self._token = _Token({}, 0.0, 0.0)
        self._failure: StorageError | None = None
        self._failed_until = 0.0

    def __call__(self, refused: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return a live token's header, another than `refused`; raises Unavailable, PermissionDenied."""
        return self._renewal.result(lambda: self._known(refused), lambda: self._renewed(refused))

    def _known(self, refused: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """Return the header that will do, None where a token has to be asked for; raises why none may be now."""
        token, now = self._token, self._clock()
        if token.headers and token.headers != refused and now < token.use_until:
            return token.headers
        if self._failure is not None and now < self._failed_until:
            raise self._failure
        if token.headers == refused and (left := token.keep_until - now) > 0:
            reason = "the server refuses this token as it has refused the one before"
            raise Unavailable(f"{self._where}: {reason}; the next is asked for in {left:.0f} s", math.ceil(left))
        return None

    def _renewed(self, refused: Mapping[str, str] | None) -> Mapping[str, str]:
        try:
            token, life = self._obtain()
        except StorageError as error:
            self._failure, self._failed_until = error, self._clock() + TRY_AGAIN
            raise
        now = self._clock()
        use_until = now + life - min(RENEW_BEFORE, life / 2)
        keep_until = now if refused is None else now + REPLACE_AGAIN
        self._failure = None
        self._token = _Token({"Authorization": f"Bearer {token}"}, use_until, keep_until)
        return self._token.headers

    def _obtain(self) -> tuple[str, float]:
        """Return a new token and its life in seconds."""
        client = self._client
        grant = {"grant_type": "client_credentials"} | ({} if client.scope is None else {"scope": client.scope})
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            # RFC 6749 section 2.3.1: both are form-encoded first.
            "Authorization": f"Basic {_pair(quote_plus(client.client_id), quote_plus(client.secret.read()))}",
        }
        try:
            answer = self._requests.request("POST", client.token_endpoint, headers, urlencode(grant).encode())
            try:
                body = answer.read(ANSWER_MAX)
            finally:
                answer.close()
        except self._requests.failures as error:
            raise Unavailable(f"{self._where}: {error}") from error
        content = _object(body)
        if answer.status in (400, 401):
            code = content.get("error")
            code = code if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else "no reason given"
            keys = f"{client.setting}.client_id, {client.secret.setting} and {client.setting}.scope"
            raise PermissionDenied(f"{self._where}: no token: {code} ({answer.status}); it judges {keys}")
        token, kind = content.get("access_token"), str(content.get("token_type")).lower()
        if answer.status != 200 or not isinstance(token, str) or not _TOKEN.fullmatch(token) or kind != "bearer":
            raise Unavailable(f"{self._where}: the answer is not a Bearer token ({answer.status})")
        return token, _life(content.get("expires_in"))

    @property
    def _where(self) -> str:
        return f"{self._client.setting}.token_endpoint"


def _pair(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _life(seconds: object) -> float:
    """Read `expires_in`, also where it is written as a text."""
    try:
        life = float(seconds) if isinstance(seconds, int | float | str) else LIFE_DEFAULT
    except (ValueError, OverflowError):
        return LIFE_DEFAULT
    return life if 0 < life < 1e9 else LIFE_DEFAULT
