"""What an account may push, copy from and copy to: rights, their patterns, and what they refuse.

A right names a registry entry of the workers' catalog, and may limit it to repositories::

    prod            all repositories of the entry
    prod/ml/**      `ml` and all below it; `**` is any number of path segments, also none
    prod/*/train    `*` stands for characters of one path segment

A repository is named as it follows the entry's URI. A source without an entry is named by its host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from transship.errors import InvalidPattern
from transship.model.references import NAME_LENGTH, ImageReference, RegistryUri
from transship_config.names import NAME_PATTERN
from transship_config.text import some_of

#: Characters of a pattern: a host or entry, and a repository.
LONGEST_PATTERN: Final = 2 * NAME_LENGTH
#: What an account's weight may be: its share beside others.
MOST_WEIGHT: Final = 1_000
#: Any number of path segments, and any characters of one.
_ANY_SEGMENTS: Final = "**"
_ANY_CHARACTERS: Final = "*"
_ENTRY: Final = re.compile(NAME_PATTERN)
_SEGMENT: Final = re.compile(r"[a-z0-9._*-]+", re.ASCII)

P = TypeVar("P")
T = TypeVar("T")


class Verb(StrEnum):
    """What is done with a repository."""

    PUSH = "push"
    COPY_FROM = "copy_from"
    COPY_TO = "copy_to"

    @property
    def text(self) -> str:
        """``copy from``, for messages."""
        return _TEXTS[self]


_TEXTS: Final = {Verb.PUSH: "push to", Verb.COPY_FROM: "copy from", Verb.COPY_TO: "copy to"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """Repositories of one registry entry."""

    entry: str
    #: ``None``: all of them.
    segments: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: object) -> Pattern:
        """Read ``ENTRY[/REPOSITORY PATTERN]``.

        Raises:
            InvalidPattern: naming what is wrong and what would be right.
        """
        if not isinstance(text, str) or not text or len(text) > LONGEST_PATTERN:
            raise InvalidPattern(
                f"{_shown(text)} is not a pattern of at most {LONGEST_PATTERN} characters; write "
                "for example prod/ml/**"
            )
        entry, slash, path = text.partition("/")
        if not _is_entry(entry):
            raise InvalidPattern(
                f"{_shown(text)} does not start with the name of a registry entry; write for "
                "example prod/ml/**"
            )
        if not slash:
            return cls(entry)
        segments = tuple(path.split("/"))
        for segment in segments:
            _check_segment(text, segment)
        return cls(entry, segments)

    def __str__(self) -> str:
        return self.entry if self.segments is None else "/".join((self.entry, *self.segments))

    def matches(self, entry: str, repository: str) -> bool:
        """Whether the repository is one of them; the time is bounded by both lengths multiplied.

        An empty repository is the one that the entry's URI itself names.
        """
        if entry != self.entry:
            return False
        if self.segments is None:
            return True
        path = repository.split("/") if repository else []
        return _fits(self.segments, path, _ANY_SEGMENTS, _segment_fits)


def _is_entry(text: str) -> bool:
    if _ENTRY.fullmatch(text):
        return True
    try:
        return RegistryUri.parse(text).registry == text
    except ValueError:
        return False


def _check_segment(text: str, segment: str) -> None:
    """Refuse a path segment that no repository can fit.

    Raises:
        InvalidPattern: naming what would be right.
    """
    if not segment:
        raise InvalidPattern(f"{_shown(text)} has an empty path segment; write single slashes")
    if _ANY_SEGMENTS in segment and segment != _ANY_SEGMENTS:
        raise InvalidPattern(
            f"{_shown(text)}: `**` is a path segment of its own; write `*` in {_shown(segment)}"
        )
    if not _SEGMENT.fullmatch(segment):
        raise InvalidPattern(
            f"{_shown(text)} has a bad path segment {_shown(segment)}; a segment is lower-case "
            "letters, digits, '.', '_', '-' and '*'"
        )


def _shown(text: object) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _segment_fits(pattern: str, segment: str) -> bool:
    if _ANY_CHARACTERS not in pattern:
        return pattern == segment
    return _fits(pattern, segment, _ANY_CHARACTERS, str.__eq__)


def _fits(
    pattern: Sequence[P], items: Sequence[T], star: object, one_fits: Callable[[P, T], bool]
) -> bool:
    """Whether a pattern describes all the items; ``star`` stands for any number of them.

    Only the last star is ever tried again, so no pattern takes longer than the product of the
    lengths.
    """
    at = 0
    place = 0
    again: tuple[int, int] | None = None
    while place < len(items):
        if at < len(pattern) and pattern[at] == star:
            again = (at + 1, place)
            at += 1
        elif at < len(pattern) and one_fits(pattern[at], items[place]):
            at, place = at + 1, place + 1
        elif again is not None:
            again = (again[0], again[1] + 1)
            at, place = again
        else:
            return False
    return all(part == star for part in pattern[at:])


@dataclass(frozen=True, slots=True)
class Grants:
    """Patterns for each verb; nothing else is granted."""

    push: tuple[Pattern, ...] = ()
    copy_from: tuple[Pattern, ...] = ()
    copy_to: tuple[Pattern, ...] = ()

    @classmethod
    def of(cls, patterns: Mapping[str, Iterable[object]]) -> Grants:
        """Read the patterns of each verb.

        Raises:
            InvalidPattern: the first text that is no pattern.
        """
        return cls(**{v.value: tuple(map(Pattern.parse, patterns.get(v) or ())) for v in Verb})

    def patterns(self, verb: Verb) -> tuple[Pattern, ...]:
        """What is granted for a verb."""
        found = {Verb.PUSH: self.push, Verb.COPY_FROM: self.copy_from, Verb.COPY_TO: self.copy_to}
        return found[verb]

    def may(self, verb: Verb, entry: str, repository: str) -> bool:
        """Whether the verb is granted for this repository."""
        return any(pattern.matches(entry, repository) for pattern in self.patterns(verb))

    def __add__(self, other: Grants) -> Grants:
        """What one of the two grants, each pattern once."""
        return Grants(*(tuple(dict.fromkeys(self.patterns(v) + other.patterns(v))) for v in Verb))

    def as_json(self) -> dict[str, list[str]]:
        """The texts of the patterns by verb."""
        return {verb.value: [str(one) for one in self.patterns(verb)] for verb in Verb}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of an account may wait and run at once; ``None``: no limit."""

    queued: int | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class Rights:
    """What one account may do. ``may`` decides, and ``describe`` says what is allowed."""

    account: str
    #: ``None``: everything, since the catalog has no section ``accounts``.
    grants: Grants | None = None
    #: All of these must grant it, too: the scopes of requests on behalf of the account.
    scopes: tuple[Grants, ...] = ()
    limits: Limits = Limits()
    #: Share beside other accounts.
    weight: int = 1
    #: Labels that each of its jobs gets; they win over the request's.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Accounts on whose behalf it may submit.
    acts_for: frozenset[str] = frozenset()
    #: Whether the catalog lists it, or has no section.
    listed: bool = True
    #: The account that submits on behalf of this one; empty: itself.
    by: str = ""

    @classmethod
    def none(cls, account: str) -> Rights:
        """Those of an account that the section does not list."""
        return cls(account, Grants(), listed=False)

    @property
    def everything(self) -> bool:
        """Whether nothing is refused."""
        return self.grants is None and not self.scopes

    def may(self, verb: Verb, entry: str, repository: str) -> bool:
        """Whether the account may do so with a repository, named as it follows the entry's URI."""
        return all(grants.may(verb, entry, repository) for grants in self._all())

    def may_use(self, verb: Verb, entry: str) -> bool:
        """Whether there may be a repository of the entry for which the verb is granted."""
        return all(
            any(one.entry == entry for one in grants.patterns(verb)) for grants in self._all()
        )

    def may_all(self, verb: Verb, entry: str) -> bool:
        """Whether the verb is granted for every repository of the entry, by one pattern."""
        whole = (Pattern(entry), Pattern(entry, (_ANY_SEGMENTS,)))
        return all(any(one in whole for one in grants.patterns(verb)) for grants in self._all())

    def intersect(self, scope: Grants | None) -> Rights:
        """These rights, as far as a scope has them, too; ``None``: it has everything."""
        return self if scope is None else replace(self, scopes=(*self.scopes, scope))

    def on_behalf_of(self, account: str, rights: Rights, scope: Grants | None) -> Rights | None:
        """What this account may do on behalf of another, whose rights are given.

        ``None``: it may not act for that account. Labels are those of both; the other's win.
        """
        if self.grants is not None and account not in self.acts_for:
            return None
        labels = {**self.labels, **rights.labels}
        found = replace(rights, labels=labels, acts_for=frozenset(), by=self.account)
        return found.intersect(scope)

    def refusal_to_act_for(self, account: str) -> str:
        """Why it may not submit on behalf of an account, and for whom it may."""
        known = some_of(sorted(self.acts_for)) or "nobody"
        return f"{self.name} may not submit on behalf of {account}; it may for {known}"

    @property
    def name(self) -> str:
        """``account team-a``, and who submits on its behalf."""
        return f"account {self.account}" + (f" (submitted by {self.by})" if self.by else "")

    def describe(self, verb: Verb) -> str:
        """What the account may do, for messages: ``it may push to prod/ml/**``."""
        if not self.listed:
            return "it may do nothing: the section accounts of the workers' catalog lacks it"
        parts = [_patterns_text(grants.patterns(verb)) for grants in self._all()]
        if not parts:
            return f"it may {verb.text} every repository"
        scope = "".join(f", and the request's scope has {part}" for part in parts[1:])
        if self.grants is None:
            return f"the request's scope has {parts[0]}"
        return f"it may {verb.text} {parts[0]}{scope}"

    def to_json(self) -> str:
        """As workers publish it."""
        granted = self.grants.as_json() if self.grants is not None else {}
        return json.dumps(
            {
                "account": self.account,
                **granted,
                "limits": {"queued": self.limits.queued, "running": self.limits.running},
                "weight": self.weight,
                "labels": dict(self.labels),
                "acts_for": sorted(self.acts_for),
            },
            separators=(",", ":"),
        )

    @classmethod
    def parse(cls, text: str) -> Rights:
        """Read what a worker published.

        Raises:
            ValueError: it is not of this form: another version wrote it.
        """
        try:
            data: Any = json.loads(text)
            limits = data.get("limits") or {}
            return cls(
                str(data["account"]),
                Grants.of(data),
                limits=Limits(_number(limits.get("queued")), _number(limits.get("running"))),
                weight=_number(data.get("weight")) or 1,
                labels={str(key): str(value) for key, value in data.get("labels", {}).items()},
                acts_for=frozenset(map(str, data.get("acts_for", ()))),
            )
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"no published rights: {type(error).__name__}") from None

    def _all(self) -> tuple[Grants, ...]:
        return self.scopes if self.grants is None else (self.grants, *self.scopes)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _patterns_text(patterns: Sequence[Pattern]) -> str:
    return some_of([str(one) for one in patterns]) or "no repository"


#: Those of whoever needs none.
EVERYTHING: Final = Rights("")


@dataclass(frozen=True, slots=True)
class Access:
    """What a request does with one repository; tags need no rights of their own.

    ``image`` is ``None`` where the repositories of the entry are not known yet: a migration's.
    """

    verb: Verb
    entry: str
    image: ImageReference | None = None


def refusal(
    accesses: Iterable[Access], rights: Rights, uri: Callable[[str], RegistryUri]
) -> str | None:
    """Why the account may not do all of this, in one line; ``None``: it may.

    ``uri``: where the images of an entry, or of a host without one, lie; it raises
    ``UnknownComponent`` for a name that is neither.
    """
    if rights.everything:
        return None
    for access in accesses:
        verb, entry = access.verb, access.entry
        asked, allowed = entry, rights.may_use(verb, entry)
        if access.image is not None:
            place = uri(entry)
            repository = repository_in(access.image, place)
            if repository is None:
                asked = f"{access.image.name}, which is not under {place} ({entry})"
            else:
                asked = f"{entry}/{repository}" if repository else entry
            allowed = repository is not None and rights.may(verb, entry, repository)
        if not allowed:
            return f"{rights.name} may not {verb.text} {asked}; {rights.describe(verb)}"
    if not rights.listed:
        return f"{rights.name} may not submit this; {rights.describe(Verb.PUSH)}"
    return None


def all_rights(account: str) -> Rights:
    """Those of any account while the catalog has no section ``accounts``."""
    return Rights(account)


def repository_in(image: ImageReference, uri: RegistryUri) -> str | None:
    """An image's repository as it follows a registry URI.

    Empty: the URI names it itself. ``None``: the image does not lie under the URI.
    """
    if not image.lies_under(uri):
        return None
    return (
        image.repository.removeprefix(uri.path).removeprefix("/")
        if uri.path
        else (image.repository)
    )
