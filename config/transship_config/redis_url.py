"""Which Redis URLs can be used."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from transship_config.errors import InvalidSettings
from transship_config.names import ACCOUNT_PATTERN
from transship_config.redis_tls import tls_options


def check_url(url: str) -> None:
    """Refuse a Redis URL that cannot work, without ever repeating it.

    Raises:
        InvalidSettings: saying what is wrong and what would be right.
    """
    if any(c.isspace() or not c.isprintable() for c in url) or "#" in url:
        # urlsplit would drop some of them, and the libraries read another URL then.
        raise InvalidSettings(
            "TRANSSHIP_URL has a space, a control character or a '#'; write them in a password as "
            "%20 or %23"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidSettings(
            "TRANSSHIP_URL has a bad host or port; write redis://host:6379/0"
        ) from None
    if not url.startswith(("redis://", "rediss://")) or not parts.hostname:
        # Without "//" the part before the colon may be an account.
        written = url.partition("://")[0] if "://" in url and parts.scheme else "redis"
        refused = "" if written in {"redis", "rediss"} else f"; {written}:// is not supported"
        raise InvalidSettings(
            f"TRANSSHIP_URL must be redis://host:port/db, or rediss:// for TLS{refused}"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]+|[0-9A-Fa-f:.]+(%\w+)?", parts.hostname):
        raise InvalidSettings(
            "TRANSSHIP_URL has a host with characters that no host name has; write "
            "redis://host:6379/0"
        )
    if port == 0 or not re.fullmatch(r"/?\d{0,4}", parts.path):
        raise InvalidSettings(
            "TRANSSHIP_URL must end with a database number, for example "
            f"{parts.scheme}://host:6379/0"
        )
    user = unquote(parts.username or "")
    if user and not re.fullmatch(ACCOUNT_PATTERN, user):
        # Alone before the @ it may be a password whose colon was forgotten.
        named = f"account {user[:40]!r}" if parts.password else "account in TRANSSHIP_URL"
        raise InvalidSettings(
            f"the Redis {named} cannot be used: its name becomes part of keys and "
            "job ids; use up to 32 letters, digits and '_' (a password alone is written "
            "redis://:PASSWORD@host)"
        )
    tls_options(url)
