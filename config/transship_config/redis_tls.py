"""The options of a Redis URL: TLS and its files, the login of sentinels; failed handshakes.

The options' names are redis-py's. They are read here once and given to every library by value,
because the libraries differ in what they make of a URL: kombu 5.7 checks no certificate when the
query names none of these, and Flower 2.2 does not read the query at all.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

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

#: Of a ``sentinel://`` URL: whether Redis, and whether the sentinels, are reached by TLS.
SSL: Final = "ssl"
SENTINEL_SSL: Final = "sentinel_ssl"
#: Its login at the sentinels, if they want one.
SENTINEL_USERNAME: Final = "sentinel_username"
SENTINEL_PASSWORD: Final = "sentinel_password"  # noqa: S105 - an option's name

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
_OF_SENTINELS: Final[dict[str, tuple[str, ...]]] = {
    SSL: ("true", "false"),
    SENTINEL_SSL: ("true", "false"),
    SENTINEL_USERNAME: (),
    SENTINEL_PASSWORD: (),
}
#: What an option without a list of values is.
_KINDS: Final = {SENTINEL_USERNAME: "a name", SENTINEL_PASSWORD: "a password"}

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
    """The TLS options to Redis of a URL, by redis-py's names; empty where it asks for no TLS.

    They include ``more_tls_options``.

    Unless the URL says otherwise the certificate is checked, also for the URL's host.

    Raises:
        InvalidSettings: saying what is wrong, never repeating a value.
    """
    scheme, query = url.partition("://")[0], url.partition("?")[2]
    if scheme == "sentinel":
        given = _given(query, _OPTIONS | _OF_SENTINELS)
        return _tls(given) if given.get(SSL) == "true" else {}
    given = _given(query, _OPTIONS if scheme == "rediss" else {})
    return _tls(given) if scheme == "rediss" else {}


def sentinel_options(query: str) -> dict[str, Any]:
    """What the query of a ``sentinel://`` URL says of the sentinels: their login and TLS.

    Raises:
        InvalidSettings: an option that cannot be used.
    """
    given = _given(query, _OPTIONS | _OF_SENTINELS)
    secure = given.get(SSL) == "true"
    sentinel_secure = given.get(SENTINEL_SSL, given.get(SSL)) == "true"
    if not (secure or sentinel_secure) and given.keys() & _OPTIONS.keys():
        raise InvalidSettings(
            f"TRANSSHIP_URL has options of TLS without {SSL}=true or {SENTINEL_SSL}=true"
        )
    if SENTINEL_USERNAME in given and SENTINEL_PASSWORD not in given:
        raise InvalidSettings(f"TRANSSHIP_URL has {SENTINEL_USERNAME} without {SENTINEL_PASSWORD}")
    return {
        SENTINEL_USERNAME: given.get(SENTINEL_USERNAME, ""),
        SENTINEL_PASSWORD: given.get(SENTINEL_PASSWORD, ""),
        "sentinel_tls": _tls(given) if sentinel_secure else {},
    }


def _tls(given: Mapping[str, str]) -> dict[str, Any]:
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


def check_files(url: str) -> None:
    """Read the files that a URL with TLS names, so that a mistake is told at once.

    Raises:
        InvalidSettings: naming the option and its file.
    """
    options = _any_tls(url)
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
    options = _any_tls(url)
    if not options:
        return None
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


def _any_tls(url: str) -> dict[str, Any]:
    """The TLS options to Redis, else those to the sentinels, which name the same files."""
    options = tls_options(url)
    if not options and url.startswith("sentinel://"):
        options = dict(sentinel_options(url.partition("?")[2])["sentinel_tls"])
    return options


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


def _given(query: str, options: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The options of a query, each known, with a value that it may have."""
    found: dict[str, str] = {}
    for written in query.split("&") if query else ():
        # Not ``parse_qsl``: it would make a space of a "+" in a password.
        name, _, value = (unquote(part) for part in written.partition("="))
        if name not in options:
            # Not repeated: it may be the end of a password that was not quoted.
            known = f"{', '.join(options or _OPTIONS)}"
            told = f"there are {known}" if options else f"there are {known}, for rediss:// only"
            raise InvalidSettings(f"TRANSSHIP_URL has an unknown option; {told}")
        allowed = options[name]
        if name in found:
            raise InvalidSettings(f"TRANSSHIP_URL has {name} twice")
        if not value or (allowed and value not in allowed):
            right = " or ".join(allowed) or _KINDS.get(name, "the path of a PEM file")
            raise InvalidSettings(f"TRANSSHIP_URL: {name} must be {right}")
        found[name] = value
    return found


def _unusable(option: str, path: str, error: OSError, otherwise: str) -> InvalidSettings:
    # An SSLError's own words are OpenSSL's.
    reason = otherwise if isinstance(error, ssl.SSLError) else error.strerror
    return InvalidSettings(f"TRANSSHIP_URL: {option}={path} cannot be used: {reason}")
