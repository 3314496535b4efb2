"""TLS to Redis: its files, and what a failed handshake means."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from transship_config.errors import InvalidSettings
from transship_config.redis_tls import CA, CERTIFICATE, KEY, tls_options

#: OpenSSL's verify results that are about the name and not the authority
#: (``x509_vfy.h``: ``X509_V_ERR_HOSTNAME_MISMATCH``, ``X509_V_ERR_IP_ADDRESS_MISMATCH``).
_OTHER_NAME: Final = frozenset({62, 64})
#: How far an error's causes are followed.
_DEPTH: Final = 10


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


def handshake_problem(error: BaseException) -> str | None:
    """Why TLS to Redis failed and what would be right; ``None``: the error is not about TLS."""
    current: BaseException | None = error
    for _ in range(_DEPTH):
        if current is None or isinstance(current, ssl.SSLError):
            break
        current = current.__cause__ or current.__context__
    if not isinstance(current, ssl.SSLError):
        return None
    if isinstance(current, ssl.SSLCertVerificationError):
        if current.verify_code in _OTHER_NAME:
            return (
                f"its certificate is for another name ({current.verify_message.rstrip('.')}); "
                "write the host in TRANSSHIP_URL as its certificate does"
            )
        return (
            f"its certificate is not trusted ({current.verify_message}); let {CA} in "
            "TRANSSHIP_URL name the PEM file of its authority"
        )
    reason = current.reason or ""
    if isinstance(current, ssl.SSLEOFError):
        # In TLS 1.3 the server judges the client's certificate after the client is done, so what
        # it says of that mostly comes too late to be read.
        return (
            f"it broke the connection off; if it wants a client certificate, let {CERTIFICATE} "
            f"and {KEY} in TRANSSHIP_URL name one that it knows"
        )
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return (
            f"it wants a client certificate that it knows ({reason.lower()}); let {CERTIFICATE} "
            f"and {KEY} in TRANSSHIP_URL name one and its key"
        )
    return (
        f"TLS failed ({reason.lower() or 'no reason given'}); where it speaks no TLS, write "
        "redis:// instead of rediss://"
    )


def _unusable(option: str, path: str, error: OSError, otherwise: str) -> InvalidSettings:
    # An SSLError's own words are OpenSSL's.
    reason = otherwise if isinstance(error, ssl.SSLError) else error.strerror
    return InvalidSettings(f"TRANSSHIP_URL: {option}={path} cannot be used: {reason}")
