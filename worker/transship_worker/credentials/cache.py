"""Short-lived logins, kept in the memory of this process and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta

from transship_worker.credentials.access import Credentials


class TokenCache:
    """Logins by who they are for; each is fetched by one thread at a time.

    ``margin``: how long before its end a login is no longer handed out, so that it outlives
    the push that it is given to.
    """

    def __init__(self, *, margin: timedelta) -> None:
        self._margin = margin
        self._tokens: dict[Hashable, Credentials] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, key: Hashable, fetch: Callable[[], Credentials]) -> Credentials:
        """The login of this key, fetched if there is none or its end is near.

        Whatever ``fetch`` raises is raised to the thread that called it; the next one asks
        for itself. A login that is short of its margin when it comes is used once.
        """
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            token = self._tokens.get(key)
            if token is None or not self._lasts(token):
                token = fetch()
                self._tokens[key] = token
            return token

    def forget(self, key: Hashable) -> None:
        """Fetch anew next time: the registry refused this login."""
        with self._guard:
            self._tokens.pop(key, None)

    def _lasts(self, token: Credentials) -> bool:
        return token.expires_at is not None and token.expires_at - self._margin > datetime.now(UTC)
