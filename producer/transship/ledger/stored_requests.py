"""Stored requests, of which only so many bytes are fetched: an account may write any length.

Most are read by the first round trip. Accounts of producers may not ask for a length, so one byte
at a bound shows whether there is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import redis

from transship.model.requests import MIGRATION_HEAD
from transship.model.stored_text import REQUEST, SPECIFICATION

if TYPE_CHECKING:
    from redis.client import Pipeline

    from transship.ledger.keys import Keys
    from transship.model.jobs import JobId

T = TypeVar("T")

#: Bytes of each request that are read at first.
BEGINNING: Final = 2_048
#: Longer requests that one further round trip brings: 1 MiB of them.
LONG_AT_ONCE: Final = 2**20 // REQUEST.longest
#: Commands that read the beginning of one.
COMMANDS: Final = 3


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request as it stands in Redis, untrusted."""

    #: Its text, or the beginning of a longer one; ``None``: there is none.
    text: str | None = None
    whole: bool = True
    #: No worker reads it.
    too_long: bool = False
    #: The key holds a value of another type.
    foul: bool = False


def ask(pipe: Pipeline, key: str) -> None:
    """Ask for the beginning of a request, by ``COMMANDS`` commands."""
    pipe.getrange(key, 0, BEGINNING - 1)
    pipe.getrange(key, BEGINNING, BEGINNING)
    pipe.getrange(key, REQUEST.longest, REQUEST.longest)


def complete(
    client: redis.Redis, keys: Keys, jobs: Sequence[JobId], replies: Sequence[Sequence[Any]]
) -> list[StoredRequest]:
    """The requests of jobs, from the replies to ``ask`` for each and what is still to be read.

    Raises:
        redis.RedisError: Redis does not answer, or refuses.
    """
    found = [_begun(*one) for one in replies]
    further = [index for index, one in enumerate(found) if not one.whole and not one.foul]
    for some in parts_of(further, LONG_AT_ONCE):
        pipe = client.pipeline(transaction=False)
        for index in some:
            first, last = 0, REQUEST.longest - 1
            if found[index].too_long:
                # A specification may be longer than all others.
                first = last = SPECIFICATION.longest
            pipe.getrange(keys.request(jobs[index]), first, last)
        for index, reply in zip(some, pipe.execute(raise_on_error=False), strict=True):
            found[index] = _completed(found[index], reply)
    return found


def read(client: redis.Redis, keys: Keys, jobs: Sequence[JobId]) -> list[StoredRequest]:
    """The requests of jobs, in their order.

    Raises:
        redis.RedisError: Redis does not answer, or refuses.
    """
    pipe = client.pipeline(transaction=False)
    for job in jobs:
        ask(pipe, keys.request(job))
    replies = pipe.execute(raise_on_error=False)
    return complete(client, keys, jobs, parts_of(replies, COMMANDS))


def parts_of(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """A sequence in parts of one size; the last may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def of_another_type(reply: Any) -> bool:
    """Whether a command found a value of another type than it is for."""
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE")


def value(reply: Any) -> Any:
    """A reply; what an account wrote as another type than it should is as good as absent."""
    if of_another_type(reply):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


def _begun(beginning: Any, more: Any, beyond: Any) -> StoredRequest:
    if of_another_type(beginning):
        return StoredRequest(foul=True)
    # GETRANGE finds nothing where there is no key, and in an empty text.
    text = value(beginning) or None
    return StoredRequest(text, whole=not value(more), too_long=bool(value(beyond)))


def _completed(begun: StoredRequest, reply: Any) -> StoredRequest:
    found = value(reply)
    if not begun.too_long:
        return StoredRequest(found or None)
    is_specification = str(begun.text).startswith(MIGRATION_HEAD)
    return StoredRequest(begun.text, whole=False, too_long=bool(found) or not is_specification)
