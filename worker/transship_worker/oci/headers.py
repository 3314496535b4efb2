"""Headers that registries answer with, parsed: what cannot be understood counts as absent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: The longest wait that a registry may ask for: a number with too many digits must not keep a
#: job waiting for years; the next attempt asks again. Unit: s.
LONGEST_WAIT_S: Final = 86_400.0

_TARGET = re.compile(r"<([^<>]*)>")
_PARAMETER = re.compile(
    r"\s*;\s*([!#$%&'*+.^_`|~\w-]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\",;]*)))?"
)
_AMOUNT = re.compile(r"\s*(\d{1,18})\s*(?:;|,|$)")
_WINDOW = re.compile(r"[;,]\s*w\s*=\s*(\d{1,9})", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_UPLOAD_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What Docker Hub says of its pull limit (docs.docker.com, "Usage and limits").

    A registry that sends no such header has no limit, or does not tell.
    """

    #: Pulls allowed in the window, and left of them.
    limit: int | None
    remaining: int | None
    #: Length of the window. Unit: s.
    window_s: float | None
    #: Whom it is counted for: an address or an account's id.
    source: str | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> RateLimit | None:
        """The limit in an answer's headers; ``None``: they tell none."""
        total, left = headers.get("ratelimit-limit", ""), headers.get("ratelimit-remaining", "")
        limit, remaining = _AMOUNT.match(total), _AMOUNT.match(left)
        if not limit and not remaining:
            return None
        window = _WINDOW.search(left) or _WINDOW.search(total)
        return cls(
            int(limit[1]) if limit else None,
            int(remaining[1]) if remaining else None,
            float(window[1]) if window else None,
            headers.get("docker-ratelimit-source"),
        )


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """``Retry-After`` in seconds from now (RFC 9110, 10.2.3); ``None``: there is none."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return min(float(text), LONGEST_WAIT_S)
    then = http_date(text)
    if then is None:
        return None
    return min(max((then - (now or datetime.now(UTC))).total_seconds(), 0.0), LONGEST_WAIT_S)


def http_date(text: str) -> datetime | None:
    """A date as HTTP writes it; ``None``: it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def next_link(values: Iterable[str]) -> str | None:
    """The target of the first ``rel="next"`` among ``Link`` headers (RFC 8288); ``None``: none."""
    for value in values:
        position = 0
        while target := _TARGET.search(value, position):
            position = target.end()
            relations: list[str] = []
            while parameter := _PARAMETER.match(value, position):
                position = parameter.end()
                if parameter[1].lower() == "rel" and not relations:
                    text = parameter[2] if parameter[2] is not None else parameter[3] or ""
                    relations = text.lower().split()
            if "next" in relations:
                return target[1].strip()
    return None


def content_range(text: str) -> tuple[int, int, int | None] | None:
    """First and last byte and whole size of ``Content-Range``; ``None``: it is none."""
    found = _CONTENT_RANGE.fullmatch(text.strip())
    if not found or int(found[2]) < int(found[1]):
        return None
    return int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])


def upload_offset(text: str) -> int | None:
    """How many bytes an upload's ``Range: 0-N`` says are there; ``None``: it does not say.

    distribution 2.8 says ``0-0`` of an empty upload as of one that has one byte, so this is
    zero for both.
    """
    found = _UPLOAD_RANGE.fullmatch(text.strip())
    if not found:
        return None
    return int(found[1]) + 1 if int(found[1]) else 0
