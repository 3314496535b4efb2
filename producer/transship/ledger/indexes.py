"""Indexes of jobs, one per account, and which accounts' a client may read.

Accounts are those that workers know, and some of the names that producers added: anybody may add
any. What a producer wrote into an index of its own may be no job.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import redis

from transship.ledger.stored_requests import value
from transship.model.jobs import State, names_job
from transship_config.names import ACCOUNT_PATTERN

if TYPE_CHECKING:
    from transship.ledger.keys import Keys

#: Names of those that producers add, of which one list looks at so many.
NAMES_MOST: Final = 200
#: Entries of one account that are no jobs, of which one list looks at so many.
FOUL_MOST: Final = 2_000
#: Members read in one round trip: of one index, and of the beginnings of all.
PAGE: Final = 200
FIRST_PAGES: Final = 10_000

#: An index, and the account that writes it itself; empty: workers do.
Index = tuple[str, str]


class Indexes:
    """The indexes that one Redis account may read."""

    def __init__(self, client: redis.Redis, keys: Keys, account: str) -> None:
        """``account``: the Redis account of the client."""
        self._redis = client
        self._keys = keys
        self._account = account
        self._reads_all: bool | None = None

    @property
    def reads_all(self) -> bool:
        """Whether this account may read the jobs of all others. Asked once.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        if self._reads_all is None:
            try:
                self._redis.exists(self._keys.of_all)
                self._reads_all = True
            except redis.exceptions.NoPermissionError:
                self._reads_all = False
        return self._reads_all

    def accounts(self) -> list[str]:
        """Accounts that have jobs which may be read; a narrow account sees none but its own.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        if not self.reads_all:
            return [self._account]
        pipe = self._redis.pipeline(transaction=False)
        pipe.smembers(self._keys.known_accounts)
        pipe.srandmember(self._keys.accounts, NAMES_MOST)
        known, added = pipe.execute()
        names = {str(name) for name in (*known, *added)}
        return sorted(name for name in names if re.fullmatch(ACCOUNT_PATTERN, name))

    def of_state(self, state: State | None) -> list[Index]:
        """The indexes of jobs in one state, or in all."""
        accounts = self.accounts()
        found = [
            (self._keys.state(account, one), "")
            for account in accounts
            for one in State
            if state in {None, one}
        ]
        if state in {None, State.QUEUED}:
            found += [(self._keys.queued(account), account) for account in accounts]
        if state in {None, State.CANCELLED}:
            found += [(self._keys.withdrawn(account), account) for account in accounts]
        return found

    def newest(self, indexes: Sequence[Index], foul: Counter[str]) -> Iterator[str]:
        """Members of several indexes, highest score first; one may come more than once.

        ``foul`` counts an account's entries that are no jobs; it is read no further than to
        ``FOUL_MOST`` of them.
        """
        length = min(PAGE, max(1, FIRST_PAGES // max(1, len(indexes))))
        pipe = self._redis.pipeline(transaction=False)
        for key, _ in indexes:
            pipe.zrange(key, 0, length - 1, desc=True, withscores=True)
        firsts = pipe.execute(raise_on_error=False)
        streams = [
            self._descending(index, _members(first), length, foul)
            for index, first in zip(indexes, firsts, strict=True)
        ]
        for _, job in heapq.merge(*streams, reverse=True):
            yield job

    def _descending(
        self, index: Index, page: list[Any], length: int, foul: Counter[str]
    ) -> Iterator[tuple[float, str]]:
        key, account = index
        start = 0
        while not account or foul[account] < FOUL_MOST:
            for job, score in page:
                if account and not names_job(job, account):
                    foul[account] += 1
                else:
                    yield score, job
            if len(page) < length:
                return
            start, length = start + length, PAGE
            pipe = self._redis.pipeline(transaction=False)
            pipe.zrange(key, start, start + length - 1, desc=True, withscores=True)
            page = _members(pipe.execute(raise_on_error=False)[0])

    def waiting(self, queue: str, most: int) -> list[str]:
        """Jobs of all accounts in one queue that no worker claimed, at most so many of each."""
        pipe = self._redis.pipeline(transaction=False)
        accounts = self.accounts()
        most = max(1, min(most, FIRST_PAGES // max(1, len(accounts))))
        for account in accounts:
            pipe.zrange(self._keys.due(account, queue), 0, most - 1, desc=True)
        replies = zip(accounts, pipe.execute(raise_on_error=False), strict=True)
        return [
            str(job)
            for account, reply in replies
            for job in _members(reply)
            if names_job(str(job), account)
        ]


def pages(items: Iterable[str], length: int) -> Iterator[list[str]]:
    """Items in lists of this length; the last may be shorter."""
    page: list[str] = []
    for item in items:
        page.append(item)
        if len(page) >= length:
            yield page
            page = []
    if page:
        yield page


def _members(reply: Any) -> list[Any]:
    """What an index holds; what an account wrote as another type is as good as empty."""
    return list(value(reply) or [])
