"""Submit, cancel and retry as Redis Functions: one library, whose name is its version.

Narrow accounts of producers may call functions (``FCALL``) and run no script of their own, which
could stop Redis. A function does nothing that its caller may not do by itself. Workers load the
library, and so does a client whose account may.

The name is made of the text and the namespace, so that versions of Transship, and fleets, that
share a Redis have libraries beside each other.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import redis

from transship.errors import FunctionsMissing
from transship.ledger.replication import WAIT_MS, ask_replicas
from transship.ledger.scripts import read_script
from transship_config import __version__

if TYPE_CHECKING:
    from transship.ledger.keys import Keys

logger = logging.getLogger("transship")

#: What the library consists of.
NAMES: Final = ("submit", "cancel", "retry")
#: How long a client that may not load the library waits for a worker to do it. A worker looks every
#: 3 s (``Presence``). Unit: s.
PATIENCE_S = 5.0
#: Between two tries meanwhile. Unit: s.
PAUSE_S: Final = 0.2
#: Libraries of one namespace that are kept: the newest ones.
LIBRARIES_MOST: Final = 16
#: Any other is kept so long after a worker or client announced it, up to ``LIBRARIES_LIMIT``.
#: Unit: ms.
KEEP_MS: Final = 30 * 24 * 3600 * 1000
LIBRARIES_LIMIT: Final = 64
#: What the names of all libraries begin with.
PREFIX: Final = "transship_"

_MISSING: Final = "Function not found"


@cache
def library_text() -> str:
    """The functions as Lua; ``@LIBRARY@`` and ``@NAMESPACE@`` stand for these names."""
    parts = []
    for name in NAMES:
        body = read_script("transship.ledger", name)
        parts.append(f"local function {name}(KEYS, ARGV)\n{body}end\n")
    parts += [f"redis.register_function('@LIBRARY@_{name}', {name})\n" for name in NAMES]
    return "".join(parts)


class Functions:
    """The library of this version in one Redis."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._redis = client
        self._announced = keys.functions
        text = library_text()
        digest = hashlib.sha256(f"{keys.namespace}\n{text}".encode()).hexdigest()
        self.library = f"{PREFIX}{digest[:16]}"
        text = text.replace("@LIBRARY@", self.library).replace("@NAMESPACE@", keys.namespace)
        self._text = f"#!lua name={self.library}\n{text}"
        #: Whether this process loaded it once: what somebody changed does not outlast a start.
        self._loaded = False
        self._told = False

    def name(self, function: str) -> str:
        """What Redis calls a function of this library."""
        return f"{self.library}_{function}"

    def call(self, calls: Sequence[tuple[str, Sequence[str | int]]]) -> list[Any]:
        """Call functions in one round trip; a missing library is loaded or waited for.

        A call may run twice: functions must be idempotent.

        Raises:
            FunctionsMissing: nobody loaded the library, and this account may not.
            redis.RedisError: Redis does not answer, or refuses.
        """
        return self.call_replicated(calls, 0)[0]

    def call_replicated(
        self, calls: Sequence[tuple[str, Sequence[str | int]]], replicas: int
    ) -> tuple[list[Any], int]:
        """The same, and then ask how many replicas have it; at most so many are waited for.

        Raises:
            FunctionsMissing: nobody loaded the library, and this account may not.
            redis.RedisError: Redis does not answer, or refuses.
        """
        end = time.monotonic() + PATIENCE_S
        while True:
            pipe = self._redis.pipeline(transaction=False)
            for function, args in calls:
                pipe.fcall(self.name(function), 0, *args)
            if replicas:
                ask_replicas(pipe, replicas, WAIT_MS)
            replies: list[Any] = pipe.execute(raise_on_error=False)
            errors = [reply for reply in replies if isinstance(reply, Exception)]
            if not errors:
                return (replies[:-1], int(replies[-1])) if replicas else (replies, 0)
            for error in errors:
                if not str(error).startswith(_MISSING):
                    raise error
            self._provide(end)

    def _provide(self, end: float) -> None:
        """Load the library, or wait a moment for somebody else to do it."""
        try:
            self.load()
        except redis.exceptions.NoPermissionError:
            if time.monotonic() > end:
                raise FunctionsMissing(
                    f"no worker of this version has loaded its functions into Redis "
                    f"({self.library}, Transship {__version__}): start or update a worker"
                ) from None
            time.sleep(PAUSE_S)

    def load(self) -> None:
        """Load the library, over one of the same name, and say when."""
        self._redis.function_load(self._text, replace=True)
        seconds, _ = self._redis.time()
        self._redis.zadd(self._announced, {self.library: int(seconds) * 1000})

    def ensure(self) -> None:
        """Load the library if Redis has lost it; an account that may not is told of once.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        try:
            if not self._loaded or not self._redis.function_list(library=self.library):
                self.load()
                self.forget_old()
                self._loaded = True
        except redis.exceptions.NoPermissionError as error:
            if not self._told:
                logger.warning(
                    "producers with narrow accounts cannot submit: this worker's account may not "
                    "load functions into Redis (%s); load the new config/redis/users.acl",
                    error,
                )
            self._told = True

    def forget_old(self) -> None:
        """Delete libraries of this namespace that no version needs any more.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        seconds, _ = self._redis.time()
        found: Any = self._redis.zrange(self._announced, 0, -1, desc=True, withscores=True)
        for place, (name, announced) in enumerate(found):
            ours = str(name) == self.library
            recent = announced > int(seconds) * 1000 - KEEP_MS and place < LIBRARIES_LIMIT
            if ours or recent or place < LIBRARIES_MOST:
                continue
            self._delete(str(name))

    def _delete(self, name: str) -> None:
        if name.startswith(PREFIX):
            try:
                self._redis.function_delete(name)
            except redis.exceptions.NoPermissionError:
                raise
            except redis.exceptions.ResponseError:
                # Gone already, with a ``FUNCTION FLUSH``.
                logger.debug("no library %s to delete", name)
        self._redis.zrem(self._announced, name)
