"""Taking secrets out of texts: a secret is written in many ways, and foreign text may hold any.

What can be told by its value is replaced by ``***``; what can only be told by its form, tokens
that a Docker Engine fetched by itself for example, is too.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import quote, quote_plus

from transship_config.text import clean as printable
from transship_worker.credentials.access import Credentials

#: Stands where a secret stood.
HIDDEN: Final = "***"
#: Shorter secrets are not looked for in messages: they would blot out ordinary words.
SHORTEST: Final = 4
#: What is kept of a message that somebody else wrote. Unit: characters.
MESSAGE_LENGTH: Final = 500
#: How long the secrets of the catalogue are remembered for the logs. Unit: s.
KEPT_S: Final = 1.0

#: ``Authorization`` as it is sent, and a JSON Web Token (RFC 7519) wherever it stands.
_FORMS: Final = (
    # Not of a sentence: that something "wants bearer authentication" is no secret.
    re.compile(
        r"\b((?i:Basic|Bearer))(?:\s+|%20)(?=\S*(?:\d|[a-z][A-Z]))([A-Za-z0-9._~+/%-]{8,}=*)",
        re.ASCII,
    ),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", re.ASCII),
)


def spellings(secret: str, username: str | None = None) -> set[str]:
    """The ways in which a program may write a secret, alone or as a login."""
    if not secret:
        return set()
    found = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    found |= {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    for text in (secret, f":{secret}", f"{username}:{secret}"):
        raw = text.encode("utf-8", "surrogatepass")
        for code in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
            found |= {code.decode().rstrip("=") + pad for pad in ("", "=", "==")}
            found.add(quote(code.decode(), safe=""))
    return found


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The text without these spellings, the longest first."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def formless(text: str) -> str:
    """The text without what has the form of a credential."""
    # What was sent as a header is a secret wherever it is repeated.
    sent = {match[2] for match in _FORMS[0].finditer(text)}
    return _FORMS[1].sub(HIDDEN, hidden(text, sent))


def clean(text: str, credentials: Credentials | None = None) -> str:
    """One bounded line of printable characters in which no credential stands."""
    if credentials is not None:
        secret = credentials.password.get_secret_value()
        text = hidden(text, spellings(secret, credentials.username))
    text = formless(text)
    # A query may hold a signature or a token; a user in a URL may come with a password.
    text = re.sub(r"(://[^\s\"'?]*)\?[^\s\"']*", r"\1?…", text)
    text = re.sub(r"://[^\s/@\"']*@", "://***@", text)
    lines = [line.strip() for line in text.splitlines()]
    text = "; ".join(line for line in lines if line and line != "errors:")
    text = printable(text)
    return text if len(text) <= MESSAGE_LENGTH else f"{text[: MESSAGE_LENGTH - 1]}…"


class Redactor:
    """Takes all secrets that a process knows out of what it logs. Safe in any thread."""

    def __init__(self, known: Callable[[], Iterable[str]]) -> None:
        """``known`` gives the spellings; it is asked about once a second."""
        self._known = known
        self._lock = threading.Lock()
        self._kept: frozenset[str] = frozenset()
        self._until = 0.0

    def __call__(self, text: str) -> str:
        """The text without them."""
        return formless(hidden(text, self._spellings()))

    def _spellings(self) -> frozenset[str]:
        # Who looks them up may log; that line does with those of before.
        if time.monotonic() >= self._until and self._lock.acquire(blocking=False):
            try:
                self._until = time.monotonic() + KEPT_S
                self._kept = frozenset(self._known())
            finally:
                self._lock.release()
        return self._kept
