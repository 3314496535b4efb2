"""TLS to Redis: the options of a ``rediss://`` URL, the files they name, failed handshakes.

The options' names are redis-py's. They are read here once and given to every library by value,
because the libraries differ in what they make of a URL: kombu 5.7 checks no certificate when the
query names none of these, and Flower 2.2 does not read the query at all.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from transship_config.errors import InvalidSettings

#: Whether the server's certificate is checked.
CERT_REQS: Final = "ssl_cert_reqs"
#: PEM file of the authority that signed it, besides the system's.
CA: Final = "ssl_ca_certs"
#: PEM files of the client's own certificate and its key.
CERTIFICATE: Final = "ssl_certfile"
KEY: Final = "ssl_keyfile"
#: Whether the certificate must be for the URL's host.
CHECK_HOSTNAME: Final = "ssl_check_hostname"

#: redis-py's argument for the flags of OpenSSL that are not to be set; no option of the URL.
_EXCLUDED_FLAGS: Final = "ssl_exclude_verify_flags"

#: Each option with the values it may have; none: a path.
_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    CERT_REQS: ("required", "none"),
    CA: (),
    CERTIFICATE: (),
    KEY: (),
    CHECK_HOSTNAME: ("true", "false"),
}

#: OpenSSL's verify results that are about the name and not the authority
#: (``x509_vfy.h``: ``X509_V_ERR_HOSTNAME_MISMATCH``, ``X509_V_ERR_IP_ADDRESS_MISMATCH``).
_OTHER_NAME: Final = frozenset({62, 64})
#: Those about the dates (``X509_V_ERR_CERT_NOT_YET_VALID``, ``X509_V_ERR_CERT_HAS_EXPIRED``).
_OTHER_DATES: Final = frozenset({9, 10})
#: Parts of OpenSSL's names of the alerts that are about a client's certificate.
_CLIENT_ALERTS: Final = ("CERTIFICATE", "UNKNOWN_CA", "DECRYPT_ERROR")
#: What a failed handshake raises: TLS itself, or a write to a server that has refused already.
_OF_TLS: Final = (ssl.SSLError, ConnectionResetError, BrokenPipeError)
#: How far an error's causes are followed.
_DEPTH: Final = 10


def tls_options(url: str) -> dict[str, Any]:
    """The TLS options of a Redis URL, by redis-py's names; empty where it is not ``rediss://``.

    They include ``more_tls_options``.

    Unless the URL says otherwise the certificate is checked, also for the URL's host.

    Raises:
        InvalidSettings: saying what is wrong, never repeating a value.
    """
    parts = urlsplit(url)
    given = _given(parts.query, secure=parts.scheme == "rediss")
    if parts.scheme != "rediss":
        return {}
    if (CERTIFICATE in given) != (KEY in given):
        raise InvalidSettings(
            f"TRANSSHIP_URL: {CERTIFICATE} and {KEY} go together; give both or none"
        )
    checked = given.get(CERT_REQS, "required") == "required"
    named = given.get(CHECK_HOSTNAME, "true") == "true"
    found: dict[str, Any] = {
        CERT_REQS: "required" if checked else "none",
        CHECK_HOSTNAME: checked and named,
    }
    found |= {name: given[name] for name in (CA, CERTIFICATE, KEY) if name in given}
    if CA in found:
        # Python 3.13 refuses certificates without the extensions that RFC 5280 requires, which
        # many private CAs do not write. redis-cli accepts them.
        found[_EXCLUDED_FLAGS] = [int(ssl.VERIFY_X509_STRICT)]
    return found


def more_tls_options(url: str) -> dict[str, Any]:
    """The TLS options that ``from_url`` of redis-py does not read from the URL itself."""
    return {name: value for name, value in tls_options(url).items() if name == _EXCLUDED_FLAGS}


def without_query(url: str) -> str:
    """The URL without its query, for libraries that get the options by value."""
    return urlsplit(url)._replace(query="").geturl()


def check_files(url: str) -> None:
    """Read the files that a ``rediss://`` URL names, so that a mistake is told at once.

    Raises:
        InvalidSettings: naming the option and its file.
    """
    options = tls_options(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if CA in options:
        try:
            context.load_verify_locations(cafile=str(options[CA]))
        except OSError as error:
            raise _unusable(CA, str(options[CA]), error, "it holds no PEM certificate") from None
    if CERTIFICATE in options:
        certificate, key = str(options[CERTIFICATE]), str(options[KEY])
        for name, path in ((CERTIFICATE, certificate), (KEY, key)):
            try:
                with Path(path).open("rb"):
                    pass
            except OSError as error:
                raise _unusable(name, path, error, "") from None
        try:
            # Without a password of ours OpenSSL would ask the terminal for one.
            context.load_cert_chain(certificate, key, password="")
        except OSError as error:
            otherwise = f"it holds no PEM certificate that {KEY} is the key of, without a password"
            raise _unusable(CERTIFICATE, certificate, error, otherwise) from None


def handshake_problem(error: BaseException, url: str) -> str | None:
    """Why TLS to Redis failed and what would be right; ``None``: the error is not about TLS."""
    if urlsplit(url).scheme != "rediss":
        return None
    options = tls_options(url)
    current: BaseException | None = error
    for _ in range(_DEPTH):
        if current is None or isinstance(current, _OF_TLS):
            break
        current = current.__cause__ or current.__context__
    if isinstance(current, ssl.SSLCertVerificationError):
        return _server_problem(current, options)
    if isinstance(current, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        # In TLS 1.3 the server judges the client's certificate after the client is done, so what
        # it says of that mostly comes too late to be read.
        if CERTIFICATE in options:
            given = options[CERTIFICATE]
            return f"it closed the connection; it may not accept the client certificate {given}"
        return (
            f"it closed the connection; if it requires a client certificate, let {CERTIFICATE} "
            f"and {KEY} in TRANSSHIP_URL name one that it accepts"
        )
    if not isinstance(current, ssl.SSLError):
        return None
    reason = current.reason or ""
    told = reason.lower() or "no reason given"
    if "ALERT" in reason and any(alert in reason for alert in _CLIENT_ALERTS):
        if CERTIFICATE in options:
            return f"it does not accept the client certificate {options[CERTIFICATE]} ({told})"
        return (
            f"it requires a client certificate ({told}); let {CERTIFICATE} and {KEY} in "
            "TRANSSHIP_URL name one that it accepts"
        )
    return f"TLS failed ({told}); where it speaks no TLS, write redis:// instead of rediss://"


def _server_problem(error: ssl.SSLCertVerificationError, options: Mapping[str, Any]) -> str:
    """Why the server's certificate is refused; never advises an option that is set already."""
    reason = error.verify_message.rstrip(".")
    if error.verify_code in _OTHER_NAME:
        return (
            f"its certificate is for another name ({reason}); write the host in TRANSSHIP_URL as "
            "its certificate does"
        )
    if error.verify_code in _OTHER_DATES:
        return (
            f"its certificate or its CA's is out of date ({reason}); renew it, or set this host's "
            "clock"
        )
    if CA in options:
        return (
            f"its certificate is not trusted ({reason}); {options[CA]}, which {CA} in "
            "TRANSSHIP_URL names, does not hold the CA that signed it"
        )
    return (
        f"its certificate is not trusted ({reason}); let {CA} in TRANSSHIP_URL name the PEM file "
        "of its CA"
    )


def _given(query: str, *, secure: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS or not secure:
            # Not repeated: it may be the end of a password that was not quoted.
            told = f"there are {', '.join(_OPTIONS)}, for rediss:// only"
            raise InvalidSettings(f"TRANSSHIP_URL has an unknown option; {told}")
        allowed = _OPTIONS[name]
        if name in found:
            raise InvalidSettings(f"TRANSSHIP_URL has {name} twice")
        if not value or (allowed and value not in allowed):
            right = " or ".join(allowed) or "the path of a PEM file"
            raise InvalidSettings(f"TRANSSHIP_URL: {name} must be {right}")
        found[name] = value
    return found


def _unusable(option: str, path: str, error: OSError, otherwise: str) -> InvalidSettings:
    # An SSLError's own words are OpenSSL's.
    reason = otherwise if isinstance(error, ssl.SSLError) else error.strerror
    return InvalidSettings(f"TRANSSHIP_URL: {option}={path} cannot be used: {reason}")
