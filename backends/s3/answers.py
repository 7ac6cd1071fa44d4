"""What a refusal of the server, or no answer at all, means for storage: two tables, by code and by exception.

Sources: Amazon S3 API Reference, "Error responses"; Ceph's rgw_common.cc and MinIO's api-errors.go for what they add.
The server's own text is not repeated: it may hold what was signed.
"""

from __future__ import annotations

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from backends.errors import (
    InvalidPath,
    NotFound,
    OutOfSpace,
    PermissionDenied,
    PreconditionFailed,
    StorageError,
    Unavailable,
    Unsupported,
)

# What a body that is being read can raise besides; urllib3's own are translated by botocore.
FAILURES = (BotoCoreError, ClientError, ResponseParserError, OSError)

MEANING: dict[str, tuple[type[StorageError], str]] = {
    "NoSuchKey": (NotFound, "nothing there"),
    "404": (NotFound, "nothing there"),
    "NoSuchBucket": (Unavailable, "there is no such bucket (`bucket`)"),
    "PermanentRedirect": (Unavailable, "the bucket is in another region, or at another endpoint (`region`)"),
    "AuthorizationHeaderMalformed": (Unavailable, "the bucket is in another region (`region`)"),
    "301": (Unavailable, "the bucket is in another region, or at another endpoint (`region`)"),
    "InvalidAccessKeyId": (Unavailable, "the access key is not known there (`access_key_file`)"),
    "SignatureDoesNotMatch": (Unavailable, "the secret key is not that of the access key (`secret_key_file`)"),
    "ExpiredToken": (Unavailable, "the credentials have expired"),
    "TokenRefreshRequired": (Unavailable, "the credentials have expired"),
    "InvalidToken": (Unavailable, "the credentials are no longer valid"),
    "RequestTimeTooSkewed": (Unavailable, "the clocks of this machine and the server differ too much"),
    "AccessDenied": (PermissionDenied, "it is not allowed"),
    "403": (PermissionDenied, "it is not allowed"),
    "AllAccessDisabled": (PermissionDenied, "it is not allowed"),
    "InvalidObjectState": (Unavailable, "the object is archived, and has to be restored first"),
    "PreconditionFailed": (PreconditionFailed, "it is not as expected"),
    "412": (PreconditionFailed, "it is not as expected"),
    "ConditionalRequestConflict": (PreconditionFailed, "somebody else is writing the same object"),
    "InvalidRange": (PreconditionFailed, "it is shorter than expected"),
    "416": (PreconditionFailed, "it is shorter than expected"),
    "QuotaExceeded": (OutOfSpace, "the quota is used up"),
    "XMinioStorageFull": (OutOfSpace, "no space left"),
    "InsufficientStorage": (OutOfSpace, "no space left"),
    "507": (OutOfSpace, "no space left"),
    "EntityTooLarge": (OutOfSpace, "too large for the server"),
    "KeyTooLongError": (InvalidPath, "the path is too long for the server"),
    "XMinioInvalidObjectName": (InvalidPath, "the server does not take this name"),
    "XMinioParentIsObject": (InvalidPath, "a file stands where a directory is needed"),
    "InvalidArgument": (InvalidPath, "the server does not take this name"),
    "NotImplemented": (Unsupported, "the server cannot do this"),
    "MethodNotAllowed": (PermissionDenied, "the server does not do this there"),
    "NoSuchUpload": (Unavailable, "the server has dropped the upload"),
    "SlowDown": (Unavailable, "the server asks to slow down"),
    "ServiceUnavailable": (Unavailable, "the server is not available"),
    "RequestLimitExceeded": (Unavailable, "too many requests"),
    "TooManyRequests": (Unavailable, "too many requests"),
    "429": (Unavailable, "too many requests"),
    "503": (Unavailable, "the server is not available"),
    "RequestTimeout": (Unavailable, "the server waited too long for the request"),
    "InternalError": (Unavailable, "the server failed"),
    "500": (Unavailable, "the server failed"),
    "502": (Unavailable, "the server behind it does not answer"),
    "504": (Unavailable, "the server behind it does not answer in time"),
}

# Refused before anything was done, so that even what must happen once may be sent again.
UNTOUCHED = frozenset({"SlowDown", "ServiceUnavailable", "RequestLimitExceeded", "TooManyRequests", "429", "503"})
# Perhaps done: sent again only if twice is as good as once.
PASSING = UNTOUCHED | {"RequestTimeout", "InternalError", "500", "502", "504"}

SILENCE: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ConnectTimeoutError, "the server does not answer (`endpoint`)"),
    (exceptions.ReadTimeoutError, "the server has stopped answering"),
    (exceptions.EndpointConnectionError, "the server cannot be reached (`endpoint`)"),
    (exceptions.SSLError, "the server's certificate is not believed, or it speaks no TLS (`ca_file`)"),
    (exceptions.ProxyConnectionError, "the proxy cannot be reached"),
    (exceptions.ConnectionClosedError, "the connection was lost"),
    (exceptions.IncompleteReadError, "the answer was cut off"),
    (exceptions.ResponseStreamingError, "the answer was cut off"),
    (exceptions.HTTPClientError, "the connection was lost"),
    (exceptions.NoCredentialsError, "there are no credentials: no key files, none in the environment, no profile"),
    (exceptions.CredentialRetrievalError, "the credentials cannot be read (`access_key_file`, `secret_key_file`)"),
    (exceptions.ProfileNotFound, "the profile that AWS_PROFILE names does not exist"),
    (exceptions.ParamValidationError, "the request cannot be made (`bucket`)"),
    (ResponseParserError, "the answer is none of an S3 server (`endpoint`)"),
    (OSError, "the connection was lost"),
)
# After which the same request may succeed.
LOST = (
    exceptions.HTTPClientError,
    exceptions.ConnectionError,
    exceptions.IncompleteReadError,
    OSError,
)


def code_of(error: Exception) -> str:
    """Return the server's code; where an answer has no body, its status; empty where there is no answer."""
    if not isinstance(error, ClientError):
        return ""
    code = str(error.response.get("Error", {}).get("Code") or "")
    status = str(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or "")
    return code if code in MEANING else status


def refusal(error: Exception, what: str) -> StorageError:
    """Return what `error` means; `what` names server, bucket, request and path."""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code") or "")
        kind, reason = MEANING.get(code_of(error), (Unavailable, "not an answer to this"))
        return kind(f"{what}: {reason} ({code or code_of(error)})")
    reason = next((reason for kind, reason in SILENCE if isinstance(error, kind)), "")
    return Unavailable(f"{what}: {reason or type(error).__name__}")


def may_pass(error: Exception, *, once: bool) -> bool:
    """Tell whether the same request could succeed in a moment; with `once`, if it has surely not been done yet."""
    if isinstance(error, ClientError):
        return code_of(error) in (UNTOUCHED if once else PASSING)
    if isinstance(error, exceptions.SSLError):
        return False
    if once:
        return isinstance(error, exceptions.EndpointConnectionError | exceptions.ConnectTimeoutError)
    return isinstance(error, LOST)
