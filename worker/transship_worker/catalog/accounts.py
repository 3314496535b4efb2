"""The catalogue's sections ``accounts`` and ``groups``: every mistake with its line.

::

    accounts:
      team-a:
        push: ["prod/ml/**"]
        limits: {queued: 5000, running: 16}
      ci-gateway: {acts_for: [team-a]}
    groups:
      readers: {members: [team-a], copy_from: [hub]}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from transship.errors import InvalidPattern
from transship.model.request_fields import MOST_LABELS, LabelKey, LabelValue
from transship.model.rights import MOST_WEIGHT, Grants, Limits, Pattern, Rights, Verb
from transship_config.names import ACCOUNT_PATTERN
from transship_config.text import clean, did_you_mean
from transship_worker.catalog.file import Document, Key, Mistake

#: Accounts and groups of one catalogue, and patterns of one list.
MOST_ACCOUNTS: Final = 1_000
MOST_PATTERNS: Final = 256
#: The highest limit of jobs.
MOST_JOBS: Final = 10_000_000

_VERBS: Final = tuple(verb.value for verb in Verb)
_ACCOUNT_KEYS: Final = (*_VERBS, "limits", "weight", "labels", "acts_for")
_GROUP_KEYS: Final = ("members", *_VERBS)
_LIMITS: Final = ("queued", "running")
_ACCOUNT: Final = re.compile(ACCOUNT_PATTERN)


def accounts_of(
    document: Document, data: Mapping[Any, Any], entries: Collection[str], hosts: Collection[str]
) -> Mapping[str, Rights] | None:
    """What each account may do; ``None``: there is no section. Mistakes go to the document.

    ``entries``: names of registry entries, also of those with mistakes. ``hosts``: anonymous
    sources.
    """
    if "accounts" not in data:
        if "groups" in data:
            _Reader(document, (), frozenset()).mistake(("groups",), "groups needs accounts:")
        return None
    return _Reader(document, entries, hosts).read(data["accounts"], data.get("groups"))


def version_of(accounts: Mapping[str, Rights] | None) -> str:
    """Equal for sections that give the same rights; empty: there is no section."""
    if accounts is None:
        return ""
    texts = "\n".join(accounts[name].to_json() for name in sorted(accounts))
    return hashlib.sha256(texts.encode()).hexdigest()[:16]


@cache
def _labels_adapter() -> TypeAdapter[dict[str, str]]:
    return TypeAdapter(dict[LabelKey, LabelValue])


@dataclass(slots=True)
class _Reader:
    """Reads both sections of one document."""

    document: Document
    entries: Collection[str]
    hosts: Collection[str]
    names: frozenset[str] = field(default_factory=frozenset)

    def mistake(self, keys: tuple[Key, ...], text: str) -> None:
        """Note what is wrong with a place."""
        self.document.mistakes.append(Mistake(self.document.line(*keys), text))

    def read(self, accounts: object, groups: object) -> dict[str, Rights]:
        """The rights of all accounts, with those of their groups."""
        accounts = self._mapping(("accounts",), accounts, "accounts")
        self.names = frozenset(name for name in accounts if isinstance(name, str))
        found = {}
        for name, options in accounts.items():
            rights = self._account(name, options)
            if rights is not None:
                found[rights.account] = rights
        if groups is not None:
            for name, options in self._mapping(("groups",), groups, "groups").items():
                self._add_group(name, options, found)
        return found

    def _mapping(
        self, keys: tuple[Key, ...], section: object, what: str
    ) -> Mapping[object, object]:
        """A section; what is none is a mistake, and holds nothing."""
        if not isinstance(section, dict):
            hint = f"; to allow everything, remove {what}:" if what == "accounts" else ""
            self.mistake(keys, f"{what} must be a mapping of names to rights{hint}")
            return {}
        if len(section) > MOST_ACCOUNTS:
            self.mistake(keys, f"{what} has {len(section)} names; at most {MOST_ACCOUNTS}")
            return {}
        return section

    def _account(self, name: object, options: object) -> Rights | None:
        keys: tuple[Key, ...] = ("accounts", str(name))
        if not isinstance(name, str) or not _ACCOUNT.fullmatch(name):
            quotes = "" if isinstance(name, str) else " (put it in quotes)"
            self.mistake(
                keys,
                "an account is named by up to 32 letters, digits, '_' and '-', like its Redis "
                f"account; {_shown(name)} is not{quotes}",
            )
            return None
        fields = self._fields(keys, options, _ACCOUNT_KEYS)
        if fields is None:
            return None
        return Rights(
            name,
            self._grants(keys, fields),
            limits=self._limits((*keys, "limits"), fields.get("limits")),
            weight=self._number((*keys, "weight"), fields.get("weight"), MOST_WEIGHT) or 1,
            labels=self._labels((*keys, "labels"), fields.get("labels")),
            acts_for=frozenset(
                other
                for place, other in self._members((*keys, "acts_for"), fields.get("acts_for"))
                if not self._is_self(place, name, other)
            ),
        )

    def _is_self(self, keys: tuple[Key, ...], name: str, other: str) -> bool:
        if other == name:
            self.mistake(keys, f"{name} does not act for itself; remove it from acts_for")
        return other == name

    def _add_group(self, name: object, options: object, found: dict[str, Rights]) -> None:
        keys: tuple[Key, ...] = ("groups", str(name))
        fields = self._fields(keys, options, _GROUP_KEYS)
        if fields is None:
            return
        if "members" not in fields:
            self.mistake(keys, f"{_key_text(keys)}: members is missing; write members: [ACCOUNT]")
        grants = self._grants(keys, fields)
        for _, member in self._members((*keys, "members"), fields.get("members")):
            rights = found.get(member)
            if rights is not None and rights.grants is not None:
                found[member] = replace(rights, grants=rights.grants + grants)

    def _fields(
        self, keys: tuple[Key, ...], options: object, known: tuple[str, ...]
    ) -> Mapping[str, object] | None:
        """The options of one account or group; ``None``: they are none."""
        if options is None:
            return {}
        if not isinstance(options, dict):
            self.mistake(keys, f"{_key_text(keys)} must be a mapping; write for example {{}}")
            return None
        for key in options:
            if key not in known:
                text = f"unknown key {_shown(key)};{did_you_mean(str(key), known)}"
                self.mistake((*keys, key), f"{_key_text(keys)}: {text}")
        return options

    def _grants(self, keys: tuple[Key, ...], fields: Mapping[str, object]) -> Grants:
        return Grants(*(tuple(self._patterns((*keys, verb), fields.get(verb))) for verb in Verb))

    def _patterns(self, keys: tuple[Key, ...], section: object) -> Iterator[Pattern]:
        for place, text in self._items(keys, section, "patterns", "[prod/ml/**]"):
            try:
                pattern = Pattern.parse(text)
            except InvalidPattern as error:
                self.mistake(place, f"{_key_text(keys)}: {error.message}")
                continue
            # An anonymous source can only be read from.
            hosts = self.hosts if keys[-1] == Verb.COPY_FROM else ()
            if pattern.entry in self.entries or pattern.entry in hosts:
                yield pattern
                continue
            what = "registry entry or anonymous source" if hosts else "registry entry"
            near = did_you_mean(pattern.entry, sorted({*self.entries, *hosts}))
            self.mistake(place, f"{_key_text(keys)}: no {what} {pattern.entry!r};{near}")

    def _members(
        self, keys: tuple[Key, ...], section: object
    ) -> Iterator[tuple[tuple[Key, ...], str]]:
        """Accounts of a list, which must be in the section; each with its place."""
        for place, name in self._items(keys, section, "accounts", "[team-a]"):
            if isinstance(name, str) and name in self.names:
                yield place, name
            else:
                near = did_you_mean(str(name), sorted(self.names))
                self.mistake(place, f"{_key_text(keys)}: no account {_shown(name)};{near}")

    def _items(
        self, keys: tuple[Key, ...], section: object, what: str, example: str
    ) -> Iterator[tuple[tuple[Key, ...], object]]:
        if section is None:
            return
        if not isinstance(section, list) or len(section) > MOST_PATTERNS:
            self.mistake(
                keys,
                f"{_key_text(keys)} must be a list of at most {MOST_PATTERNS} {what}; write for "
                f"example {keys[-1]}: {example}",
            )
            return
        for index, one in enumerate(section):
            yield (*keys, index), one

    def _limits(self, keys: tuple[Key, ...], section: object) -> Limits:
        fields = self._fields(keys, section, _LIMITS)
        return Limits(
            *(self._number((*keys, name), (fields or {}).get(name), MOST_JOBS) for name in _LIMITS)
        )

    def _number(self, keys: tuple[Key, ...], value: object, most: int) -> int | None:
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        self.mistake(keys, f"{_key_text(keys)} must be a whole number from 1 to {most}")
        return None

    def _labels(self, keys: tuple[Key, ...], section: object) -> dict[str, str]:
        if section is None:
            return {}
        if not isinstance(section, dict) or len(section) > MOST_LABELS:
            text = f"must be a mapping of at most {MOST_LABELS} names to texts"
            self.mistake(keys, f"{_key_text(keys)} {text}; write for example {{team: a}}")
            return {}
        try:
            return _labels_adapter().validate_python(section, strict=True)
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                name = detail["loc"][0]
                text = str(detail["msg"]).removeprefix("Value error, ")
                self.mistake((*keys, name), f"{_key_text(keys)}: {_shown(name)}: {text}")
            return {}


def _key_text(keys: tuple[Key, ...]) -> str:
    """``team-a: push`` for a place of the sections."""
    return clean(".".join(str(key) for key in keys))


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
