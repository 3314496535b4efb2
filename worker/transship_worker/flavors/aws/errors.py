"""Errors of boto3 as errors of Transship, in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from transship.errors import CloudUnavailable, CredentialsMissing, Denied, PrepareFailed, PushError

_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN_KEY: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
#: Codes by which AWS asks for fewer requests; the list of botocore's standard retry mode.
_THROTTLED: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
#: Here the code means a quota of repositories, which waiting does not change.
_QUOTA: Final = frozenset(
    {
        ("LimitExceededException", "ecr:CreateRepository"),
        ("LimitExceededException", "ecr-public:CreateRepository"),
    }
)

#: botocore's errors without an answer of AWS that mean: no credentials that can be used.
_NO_CREDENTIALS: Final = frozenset(
    {
        "ConfigNotFound",
        "ConfigParseError",
        "CredentialRetrievalError",
        "InfiniteLoopConfigError",
        "InvalidConfigError",
        "LoginError",
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshWithMFAUnsupportedError",
        "SSOError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
        "UnknownCredentialError",
        "MetadataRetrievalError",
    }
)

_ACTION = re.compile(r"perform:? (?P<action>[a-z0-9-]+:[A-Za-z]+)")


@contextmanager
def translated(component: str, action: str, target: str) -> Iterator[None]:
    """Around one call of AWS: ``action`` (as IAM writes it) on ``target`` for ``component``.

    Raises:
        PushError: what went wrong, typed; errors of AWS that the caller expects must be
            caught inside.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _answered(component, action, target, error.response) from error
    except BotoCoreError as error:
        raise _unanswered(component, action, error) from error


def _answered(component: str, action: str, target: str, response: Any) -> PushError:
    detail = response.get("Error", {})
    code = str(detail.get("Code", ""))
    said = " ".join(str(detail.get("Message", "")).split())[:500]
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _DENIED:
        found = _ACTION.search(said)
        return Denied(
            f"AWS does not let component {component!r} do {found['action'] if found else action} "
            f"on {target}; allow this action to its identity"
        )
    if code in _EXPIRED:
        return CredentialsMissing(
            f"the AWS credentials of component {component!r} have expired; renew them on the "
            "worker's host"
        )
    if code in _UNKNOWN_KEY:
        return Denied(f"AWS does not accept the credentials of component {component!r} ({code})")
    if (code in _THROTTLED or status == 429) and (code, action) not in _QUOTA:
        return CloudUnavailable(f"AWS asks for fewer requests ({action}: {code})")
    if status >= 500 or code in {"ServerException", "InternalFailure"}:
        return CloudUnavailable(f"AWS has a problem ({action}: {code or status}): {said}")
    return PrepareFailed(f"AWS refused {action} for {target} ({code or status}): {said}")


def _unanswered(component: str, action: str, error: Exception) -> PushError:
    from botocore.exceptions import ConnectionError as NoConnection
    from botocore.exceptions import HTTPClientError

    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = " ".join(str(error).split())[:300]
    if kinds & _NO_CREDENTIALS:
        return CredentialsMissing(
            f"component {component!r} has no AWS credentials that can be used: {said}; set "
            "access_key_id and secret_access_key, or profile, or give the worker's host a role"
        )
    if isinstance(error, NoConnection | HTTPClientError):
        return CloudUnavailable(f"AWS does not answer ({action}): {said}")
    return PrepareFailed(f"{action} for component {component!r}: {type(error).__name__}: {said}")
