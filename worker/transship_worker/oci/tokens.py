"""What token servers answer: a token, and how long it lives."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from transship.errors import AnswerMalformed
from transship_worker.oci.challenge import Scopes
from transship_worker.oci.headers import http_date

#: The life of a token whose server does not say. Unit: s.
DEFAULT_LIFE_S: Final = 60.0
#: No token is kept for longer. Unit: s.
LONGEST_LIFE_S: Final = 86_400.0
#: A token is not used so shortly before its end, or in the last tenth of a short life. Unit: s.
MARGIN_S: Final = 10.0

_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. ``until`` is on the monotonic clock."""

    text: str
    scopes: Scopes
    until: float
    #: When it was asked for, on the same clock.
    asked: float = 0.0

    def __repr__(self) -> str:
        return f"Token(***, {sorted(map(str, self.scopes))})"


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What a token server answered."""

    status: int
    headers: Mapping[str, str]
    #: Holds a token.
    body: bytes = field(repr=False)


def token_of(answer: TokenAnswer, scopes: Scopes, started: float, where: str) -> Token:
    """The token in an answer to a request for these scopes that was sent at ``started``.

    ``where``: the token server, for messages.

    Raises:
        AnswerMalformed: there is none.
    """
    try:
        found = json.loads(answer.body)
        text = found.get("token") or found.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        text = None
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise AnswerMalformed(f"{where} answered {answer.status} without a usable token")
    life = _life(found, answer.headers)
    return Token(text, scopes, started + life - min(MARGIN_S, life / 10), started)


def _life(found: dict[str, Any], headers: Mapping[str, str]) -> float:
    """Seconds that a token lives from now on.

    ``issued_at`` counts against the server's own clock, which its ``Date`` tells: a token out
    of a cache is older than its answer, and a clock that is wrong here changes nothing.
    """
    life = found.get("expires_in")
    if not isinstance(life, int | float) or isinstance(life, bool) or life <= 0:
        life = DEFAULT_LIFE_S
    # At once: an integer can be too large to count with.
    life = min(life, LONGEST_LIFE_S)
    issued = _rfc3339(found.get("issued_at"))
    if issued is not None:
        now = http_date(headers.get("Date", "")) or datetime.now(UTC)
        life -= max((now - issued).total_seconds(), 0.0)
    return max(float(life), 0.0)


def _rfc3339(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        # Go writes nanoseconds, which are more digits than are understood here.
        cut = re.sub(r"(\.\d{6})\d+", r"\1", text)
        try:
            found = datetime.fromisoformat(cut)
        except ValueError:
            return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
