"""Headers that registries answer with, parsed: what cannot be understood counts as absent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from transship.errors import AnswerMalformed

#: The longest wait that a registry may ask for: a number with too many digits must not keep a
#: job waiting for years; the next attempt asks again. Unit: s.
LONGEST_WAIT_S: Final = 86_400.0

_TARGET = re.compile(r"<([^<>]*)>")
#: Between two links; a semicolon at the end of one is seen, too.
_BETWEEN = re.compile(r"[ \t,;]*")
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


#: What registered relations are called as URIs (iana.org, "Link Relations").
_REGISTERED: Final = "http://www.iana.org/assignments/relation/"
#: Registered relations that a list may have to itself and that are not its next page.
_NOT_NEXT: Final = frozenset(
    {
        *(
            "first",
            "last",
            "prev",
            "previous",
            "start",
            "current",
            "self",
            "up",
            "index",
            "contents",
        ),
        *("canonical", "alternate", "collection", "item", "latest-version", "original", "related"),
        *("about", "describedby", "help", "license", "profile", "search", "type"),
    }
)


def next_link(values: Iterable[str]) -> str | None:
    """The target of the first ``rel="next"`` among ``Link`` headers; ``None``: there is none.

    Other relations are passed over; see ``unknown_links``. What cannot be read is an error here,
    unlike in the other headers: it may be where the rest of a list is.

    Raises:
        AnswerMalformed: a header that does not follow RFC 8288 (3), or a link without ``rel``.
    """
    return next((target for target, relations in _links(values) if "next" in relations), None)


def unknown_links(values: Iterable[str]) -> list[str]:
    """The targets of links whose relations are all unknown, each once.

    Some registries write another word than ``next``, and some clients follow any link, as oras and
    go-containerregistry do: nothing says that these do not lead to the rest of a list.

    Raises:
        AnswerMalformed: see ``next_link``.
    """
    links = _links(values)
    unknown = (target for target, relations in links if _NOT_NEXT.isdisjoint(relations))
    return list(dict.fromkeys(unknown))


def _links(values: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Targets and relations, as far as they are asked for."""
    for value in values:
        position = _after_separators(value, 0)
        while position < len(value):
            target = _TARGET.match(value, position)
            if target is None:
                raise _unreadable(value)
            relations, position = _relations(value, target.end())
            if relations is None:
                raise _unreadable(value)
            yield target[1].strip(), relations
            after = _after_separators(value, position)
            if after < len(value) and "," not in value[position:after]:
                raise _unreadable(value)
            position = after


def _relations(value: str, position: int) -> tuple[list[str] | None, int]:
    """The first ``rel`` of a link whose parameters begin here, and where they end."""
    relations = None
    while parameter := _PARAMETER.match(value, position):
        position = parameter.end()
        if parameter[1].lower() == "rel" and relations is None:
            text = parameter[2] if parameter[2] is not None else parameter[3] or ""
            relations = [
                # Some quote it as one would in HTML, and some write the relation's URI.
                word.strip("'`").removeprefix(_REGISTERED)
                for word in re.split(r"[\s,]+", text.lower().replace("\\", ""))
            ]
    # An empty relation says nothing of where the rest of the list is.
    return relations if relations is None or any(relations) else None, position


def _after_separators(value: str, position: int) -> int:
    separators = _BETWEEN.match(value, position)
    return separators.end() if separators else position


def _unreadable(value: str) -> AnswerMalformed:
    return AnswerMalformed(f"a Link header that cannot be read: {value[:200]!a}")


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
