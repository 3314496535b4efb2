"""TLS to Redis, as the query of a ``rediss://`` URL says it.

The names are redis-py's. They are read here once and given to every library by value, because
the libraries differ in what they make of a URL: kombu 5.7 checks no certificate when the query
names none of these, and Flower 2.2 does not read the query at all.
"""

from __future__ import annotations

from typing import Final
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

#: Each option with the values it may have; none: a path.
_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    CERT_REQS: ("required", "none"),
    CA: (),
    CERTIFICATE: (),
    KEY: (),
    CHECK_HOSTNAME: ("true", "false"),
}


def tls_options(url: str) -> dict[str, str | bool]:
    """The TLS options of a Redis URL, by redis-py's names; empty where it is not ``rediss://``.

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
    found: dict[str, str | bool] = {
        CERT_REQS: "required" if checked else "none",
        CHECK_HOSTNAME: checked and named,
    }
    return found | {name: given[name] for name in (CA, CERTIFICATE, KEY) if name in given}


def without_query(url: str) -> str:
    """The URL without its query, for libraries that get the options by value."""
    return urlsplit(url)._replace(query="").geturl()


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
