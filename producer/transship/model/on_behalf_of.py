"""For whom a request is made, where one account submits on behalf of another.

A gateway that may act for accounts (``acts_for`` in the workers' catalog) names the account, the
person or pipeline that asked, and a scope that narrows the account's rights. Workers decide whether
it may.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from transship.model.rights import Grants, Verb
from transship_config.names import ACCOUNT_PATTERN
from transship_config.text import did_you_mean

#: Characters of a subject.
LONGEST_SUBJECT: Final = 128
#: Patterns of one verb in a scope, and characters of all: each copy of a migration carries it.
MOST_PATTERNS: Final = 64
LONGEST_SCOPE: Final = 4_096
_FIELDS: Final = ("account", "subject", "scope")
_ACCOUNT: Final = re.compile(ACCOUNT_PATTERN)


@dataclass(frozen=True, slots=True)
class OnBehalfOf:
    """For whom a request is made."""

    account: str
    #: Who asked the submitting account, as that account says; empty: it does not say.
    subject: str = ""
    #: What the request may use of the account's rights; ``None``: all.
    scope: Grants | None = None

    @classmethod
    def parse(cls, value: object) -> OnBehalfOf:
        """Read ``ACCOUNT[/SUBJECT]``, or a mapping with account, subject and scope.

        Raises:
            ValueError: naming what is wrong and what would be right.
        """
        if isinstance(value, OnBehalfOf):
            return value
        if isinstance(value, str):
            account, slash, subject = value.partition("/")
            if slash and not subject:
                raise ValueError("write ACCOUNT, or ACCOUNT/SUBJECT")
            return cls(_account(account), _subject(subject))
        if not isinstance(value, Mapping):
            raise ValueError("write ACCOUNT[/SUBJECT], or a mapping with account")  # noqa: TRY004
        for key in value:
            if key not in _FIELDS:
                raise ValueError(
                    f"unknown key {_shown(key)};{did_you_mean(str(key)[:80], _FIELDS)}"
                )
        return cls(
            _account(value.get("account")),
            _subject(value.get("subject")),
            _scope(value.get("scope")),
        )

    def as_json(self) -> dict[str, Any]:
        """As a request holds it."""
        found: dict[str, Any] = {"account": self.account}
        if self.subject:
            found["subject"] = self.subject
        if self.scope is not None:
            found["scope"] = {verb: texts for verb, texts in self.scope.as_json().items() if texts}
        return found

    def __str__(self) -> str:
        return f"{self.account}/{self.subject}" if self.subject else self.account


def _account(value: object) -> str:
    if not isinstance(value, str) or not _ACCOUNT.fullmatch(value):
        raise ValueError(
            "account must be the name of an account: up to 32 letters, digits, '_' and '-'"
        )
    return value


def _subject(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_SUBJECT or not value.isprintable():
        raise ValueError(f"subject must be printable text of at most {LONGEST_SUBJECT} characters")
    return value


def _scope(value: object) -> Grants | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError("scope must be a mapping, such as {push: [prod/ml/train]}")  # noqa: TRY004
    for verb, patterns in value.items():
        if verb not in set(Verb):
            raise ValueError(
                f"scope: unknown key {_shown(verb)};{did_you_mean(str(verb)[:80], tuple(Verb))}"
            )
        if not isinstance(patterns, list | tuple) or len(patterns) > MOST_PATTERNS:
            raise ValueError(f"scope: {verb} must be a list of at most {MOST_PATTERNS} patterns")
    found = Grants.of(value)
    if sum(len(str(one)) for verb in Verb for one in found.patterns(verb)) > LONGEST_SCOPE:
        raise ValueError(f"scope: its patterns have more than {LONGEST_SCOPE} characters")
    return found


def _shown(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"
