"""What a registry answered, or why it did not, turned into the shared error tree.

One place translates: the registry's own codes (distribution-spec 1.1, "Error Codes") first,
the HTTP status where there is none. What the registry said is kept as data beside the error
(``refusal_of``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from yarl import URL

from transship.errors import (
    AnswerMalformed,
    BlobMissing,
    Denied,
    ImageNotFound,
    ImmutableTag,
    PushError,
    PushRejected,
    RateLimited,
    RegistryUnavailable,
    RegistryUnreachable,
    RegistryUntrusted,
    RepositoryMissing,
    UploadLost,
)
from transship_worker.credentials.access import Access, Credentials
from transship_worker.credentials.redaction import clean, hidden, spellings
from transship_worker.oci import refusals
from transship_worker.oci.headers import retry_after
from transship_worker.oci.refusals import Refusal

#: How much of an error's body is read. Unit: bytes.
ERROR_LIMIT: Final = 65_536
#: Statuses below 500 that say of this moment only: a timeout, a lock (WebDAV, seen before object
#: storage), Too Early (RFC 8470), and nginx's word for a client that went away.
_PASSING: Final = frozenset({408, 423, 425, 499})
#: How many of a registry's errors are kept of one answer.
_ERRORS_KEPT: Final = 10
#: OpenSSL's names of the alerts that are about a client's certificate.
_ALERT: Final = re.compile(
    r"ALERT_(CERTIFICATE_|BAD_CERTIFICATE|UNKNOWN_CA|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)"
)
#: OpenSSL's verify results that are not about the CA (``x509_vfy.h``): of another host name or
#: address, and not yet or no longer valid.
_OTHER_NAME: Final = frozenset({62, 64})
_OTHER_DATES: Final = frozenset({9, 10})
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}", re.ASCII)


class ForbiddenAddress(OSError):
    """A host is at an address that may not be connected to."""

    def __init__(self, message: str, advice: str = "") -> None:
        """``message``: the address, its class and why; ``advice``: what can be set."""
        super().__init__(message)
        self.advice: Final = advice


class ProxyRefusedLogin(OSError):
    """A SOCKS proxy refused the login in its URL, or wants one; its text names the proxy."""


class RefusedByRegistry(Exception):
    """The cause of a typed error that an answer led to; ``refusal`` is that answer."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def refusal_of(error: BaseException) -> Refusal | None:
    """The answer that led to this error; ``None``: there was none."""
    cause = error.__cause__
    return cause.refusal if isinstance(cause, RefusedByRegistry) else None


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who answers and what must not be shown of it."""

    #: ``host[:port]``, as in names.
    registry: str
    credentials: Credentials | None = None
    #: Tokens in use just now.
    secrets: tuple[str, ...] = field(default=(), repr=False)
    #: What the component sets of TLS.
    access: Access = field(default_factory=Access)

    def clean(self, text: str) -> str:
        """The text on one bounded line, escaped, and without credentials and tokens."""
        return clean(hidden(text, self._tokens()), self.credentials)

    def shown(self, url: URL) -> str:
        """A URL for a message; a redirect's may hold in its path what was sent."""
        return self.clean(shown(url))

    def _tokens(self) -> set[str]:
        return set().union(*(spellings(token) for token in self.secrets))


def shown(url: URL) -> str:
    """A URL for a message: without user, query and fragment, bounded."""
    text = str(url.with_user(None).with_query(None).with_fragment(None))
    return text if len(text) <= 300 else f"{text[:299]}…"


def refusal(
    method: str, url: URL, status: int, headers: Mapping[str, str], body: bytes, speaker: Speaker
) -> Refusal:
    """Read an answer that is no success: JSON, HTML, cut off or empty."""
    entries = _entries(body)
    codes, words = _read_entries(entries) if entries is not None else ([], [_text_of(body)])
    return Refusal(
        method,
        speaker.shown(url),
        status,
        # A code is upper case, and so could a password be.
        tuple(code for code in codes if speaker.clean(code) == code),
        speaker.clean("; ".join(words)),
        retry_after(headers),
        # distribution names what is missing in the detail, which is an object.
        refusals.digests_in(body.decode("utf-8", errors="replace")),
    )


def _entries(body: bytes) -> list[dict[str, Any]] | None:
    """The errors of a registry's JSON; ``None``: the body is something else."""
    try:
        found = json.loads(body)
        errors = found["errors"]
        return [entry for entry in errors if isinstance(entry, dict)][:_ERRORS_KEPT]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _read_entries(entries: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Codes and messages."""
    codes = [str(entry.get("code", "")).upper() for entry in entries]
    words = [str(entry.get("message") or "") for entry in entries]
    # ECR and Harbor tell the reason in the message; others only in the detail.
    details = [str(e["detail"]) for e in entries if isinstance(e.get("detail"), str)]
    return [c for c in codes if _CODE.fullmatch(c)], [*filter(None, words), *filter(None, details)]


def _text_of(body: bytes) -> str:
    """The first words of what is not a registry's JSON; a page's markup says nothing."""
    text = body[:4_096].decode("utf-8", errors="replace").strip()
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
        return title[1].strip() if title else "a web page"
    return text


def error_of(refused: Refusal, speaker: Speaker, about: str) -> PushError:
    """The typed error for an answer; ``about`` is what was asked for, for a person."""
    kind, what = _judge(refused, speaker, about)
    error = kind(f"{what} ({refused})", retry_after_s=refused.retry_after_s)
    error.__cause__ = RefusedByRegistry(refused)
    return error


def _judge(refused: Refusal, speaker: Speaker, about: str) -> tuple[type[PushError], str]:
    registry, status, codes = speaker.registry, refused.status, set(refused.codes)
    if status == 429 or "TOOMANYREQUESTS" in codes:
        return RateLimited, f"{registry} asks for fewer requests"
    # ECR: "tag invalid: The image tag … cannot be overwritten because the repository is
    # immutable" (aws/containers-roadmap#862); Harbor: 412 "… configured as immutable".
    if re.search(r"immutab|ImageTagAlreadyExists|cannot be overwritten", refused.message):
        return ImmutableTag, f"{registry} does not let the tag of {about} move"
    permanent = refusals.permanent(refused, registry, about)
    if permanent is not None:
        return permanent
    if codes & {"NAME_UNKNOWN", "NAME_INVALID"}:
        return RepositoryMissing, f"{registry} has no repository for {about}"
    if codes & {"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}:
        return BlobMissing, f"{registry} misses a blob of {about}"
    # distribution 2.8 answers 404 BLOB_UPLOAD_INVALID once it forgot a session.
    if codes & {"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID"} or status == 416:
        return UploadLost, f"{registry} has lost the upload of {about}"
    if "MANIFEST_UNKNOWN" in codes:
        # go-containerregistry's registry says this of a manifest that a written index lists.
        if refused.is_write:
            return BlobMissing, f"{registry} misses a manifest of {about}"
        return ImageNotFound, f"there is no {about}"
    if status in {401, 403} or codes & {"UNAUTHORIZED", "DENIED"}:
        if speaker.credentials is None:
            return Denied, f"{registry} wants a login for {about} and the component has none"
        return Denied, f"{registry} refused the component's login, or its rights on {about}"
    # What arrived is not what was sent: the next attempt sends it again.
    if status >= 500 or status in _PASSING or "SIZE_INVALID" in codes:
        return RegistryUnavailable, f"{registry} failed over {about}"
    if status == 404:
        return ImageNotFound, f"there is no {about}"
    return PushRejected, f"{registry} refused {about}"


def unanswered(error: BaseException, url: URL, speaker: Speaker, about: str) -> PushError:
    """The typed error for an exchange that the HTTP library gave up."""
    where = f"{speaker.registry} ({speaker.shown(url)})"
    forbidden = _forbidden(error)
    if forbidden is not None:
        advice = f"; {forbidden.advice}" if forbidden.advice else ""
        return RegistryUntrusted(
            f"{speaker.registry} leads to {speaker.shown(url)}: {forbidden}; nothing is sent "
            f"there{advice}"
        )
    proxy = refused_login(error)
    if proxy is not None:
        return Denied(f"no connection to {where}: {speaker.clean(str(proxy.strerror))}")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _untrusted(error.certificate_error, where, speaker)
    if _wants_certificate(error):
        given = speaker.access.client_cert
        advice = "; set client_cert and client_key" if given is None else f" other than {given}"
        return Denied(f"{where} requires a client certificate that it accepts{advice}")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return RegistryUnreachable(f"{where} does not speak TLS: {_reason(error, speaker)}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return RegistryUnreachable(f"no connection to {where}: {_reason(error, speaker)}")
    if isinstance(error, aiohttp.ClientHttpProxyError) and error.status == 407:
        return Denied(f"the proxy before {where} requires a login that it accepts (407)")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return RegistryUnreachable(f"the proxy refused {where}: it answered {error.status}")
    if isinstance(error, TimeoutError):
        return RegistryUnavailable(f"{where} was silent for too long over {about}")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return AnswerMalformed(
            f"{where} answered what is not HTTP, or not its limits: {_reason(error, speaker)}"
        )
    return RegistryUnavailable(f"{where} broke off over {about}: {_reason(error, speaker)}")


def _untrusted(error: Exception, where: str, speaker: Speaker) -> RegistryUntrusted:
    """The error for a certificate that does not verify; it never advises what is set already."""
    reason = speaker.clean(getattr(error, "verify_message", "") or "it does not verify")
    code, access = getattr(error, "verify_code", None), speaker.access
    if code in _OTHER_NAME:
        advice = "write the host in uri: or endpoint: as its certificate does"
    elif code in _OTHER_DATES:
        advice = "renew it or its CA's, or set this host's clock"
    elif access.ca is not None:
        advice = f"ca: {access.ca} does not hold the CA that signed it"
    else:
        # A client's certificate and insecure exclude each other.
        otherwise = ", or insecure: true" if access.client_cert is None else ""
        advice = f"set ca: to the PEM file of its CA{otherwise}"
    return RegistryUntrusted(f"the certificate of {where} is not trusted: {reason}; {advice}")


def too_large(url: URL, limit: int, what: str) -> AnswerMalformed:
    """An answer that has more bytes than are read of its kind."""
    return AnswerMalformed(f"{shown(url)}: {what} has more than {limit} bytes, which are not read")


def _reason(error: BaseException, speaker: Speaker) -> str:
    """The library's words; the name of the error where it has none."""
    inner = getattr(error, "os_error", None)
    words = getattr(inner, "strerror", None) or getattr(error, "message", None) or str(error)
    return speaker.clean(str(words)) or type(error).__name__


def _wants_certificate(error: BaseException) -> bool:
    """Whether a server ended TLS over the client's certificate (RFC 8446, 6.2: alerts)."""
    # The HTTP library keeps the text of what OpenSSL said, and not always the error.
    return any(_ALERT.search(str(cause)) for cause in _causes(error))


def _forbidden(error: BaseException | None) -> ForbiddenAddress | None:
    """The refused address somewhere among an error's causes."""
    return next((one for one in _causes(error) if isinstance(one, ForbiddenAddress)), None)


def refused_login(error: BaseException | None) -> ProxyRefusedLogin | None:
    """A SOCKS proxy's refusal of the login somewhere among an error's causes."""
    return next((one for one in _causes(error) if isinstance(one, ProxyRefusedLogin)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it; not very many."""
    pending: list[BaseException | None] = [error]
    for _ in range(20):
        if not pending:
            break
        current = pending.pop()
        if current is not None:
            yield current
            pending += [current.__cause__, current.__context__]
            pending += _members(current)


def _members(error: BaseException) -> Iterable[BaseException | None]:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions
    inner = getattr(error, "os_error", None)
    return [inner] if isinstance(inner, BaseException) else []
