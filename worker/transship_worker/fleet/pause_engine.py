"""Pauses and transfer permits for pushes through a Docker Engine, which run in threads.

The engine's own requests cannot be counted; how many of its pushes run at once can, and
whether one may begin. A registry that refused one for its rate is asked less by the whole fleet.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Final

import redis

from transship.errors import RegistryPaused
from transship.ledger.connection import plain
from transship.ledger.keys import Keys
from transship.ledger.scripts import read_script
from transship_worker.fleet.budget_pots import PERMIT_S, Line, Pots
from transship_worker.fleet.limiter import FIRST_RATE, News, refusal
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.pause import Pause, alone, set_arguments
from transship_worker.oci.login import Login

logger = logging.getLogger("transship.worker")

#: How often a push that waits for a permit looks whether its job must stop. Unit: s.
TICK_S: Final = 0.2
#: Between two tries while Redis is away. Unit: s.
AWAY_S: Final = 0.5

_Line = Line[Future[None]]


class EngineGate:
    """Stands before the pushes of one worker process. Safe to be used from many threads."""

    def __init__(
        self, client: redis.Redis, keys: Keys, process: str, *, permit_s: float = PERMIT_S
    ) -> None:
        """``client`` gives text; ``process``: the worker's name."""
        self._keys = keys
        self._look, self._set, self._ask = (
            client.register_script(read_script("transship_worker.fleet", name))
            for name in ("pause_look", "pause_set", "budget_permits")
        )
        self._refused = client.register_script(
            read_script("transship_worker.fleet", "limiter_common")
            + read_script("transship_worker.fleet", "limiter_refused")
        )
        self._token = secrets.token_hex(4)
        self._pots = Pots(keys, f"{process}:engine", permit_s=permit_s)
        self._alone: dict[Login, Pause] = {}
        self._lines: dict[Login, _Line] = {}
        #: Guards the pots and the lines.
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self, registry: str, username: str | None) -> None:
        """Return if the registry may be asked; a Redis that is away keeps nobody from it.

        ``username``: of the login; ``None``: without one.

        Raises:
            RegistryPaused: it may not.
        """
        login = Login.of(self._keys, registry, username)
        pause = self._alone.get(login)
        try:
            now_ms, text = self._look(keys=[self._keys.pause(login.registry, login.name)])
        except redis.RedisError as error:
            logger.debug("a pause cannot be looked at: %s", plain(error))
        else:
            pause = Pause.parsed(login, now_ms, text, time.monotonic()) or pause
        if pause is not None and not pause.over:
            raise pause.error

    def report(
        self, registry: str, username: str | None, *, retry_after_s: float | None, reason: str
    ) -> RegistryPaused:
        """Make the whole fleet pause, since the registry said so to the engine.

        ``reason``: one line without secrets. Returns the error to end the job with.
        """
        login = Login.of(self._keys, registry, username)
        keys, args = set_arguments(self._keys, login, retry_after_s, reason)
        try:
            now_ms, text = self._set(keys=keys, args=args)
        except redis.RedisError as error:
            logger.debug("a pause cannot be set: %s", plain(error))
            self._alone[login] = pause = alone(login, retry_after_s, reason)
            return pause.error
        found = Pause.parsed(login, now_ms, text, time.monotonic())
        return (found or alone(login, retry_after_s, reason)).error

    def refused(self, registry: str, username: str | None, named_s: float | None) -> None:
        """The registry refused a push for its rate, and named a wait or none. Unit: s.

        The fleet's other requests with this login keep to the rate limiter from now on. A Redis
        that is away does not hear of it.
        """
        login = Login.of(self._keys, registry, username)
        # How many requests of the engine the registry answered, nobody knows.
        args = refusal(News(self._token), named_s, FIRST_RATE)
        try:
            self._refused(keys=[self._keys.limiter(login.registry, login.name)], args=args)
        except redis.RedisError as error:
            logger.debug("the rate limiter cannot be told: %s", plain(error))

    @contextmanager
    def transfer(
        self,
        registry: str,
        username: str | None,
        limits: Limits,
        *,
        waiting: Callable[[], None] = lambda: None,
    ) -> Iterator[None]:
        """One of the transfers that may run at once, from when there is room.

        ``waiting`` is called some times a second meanwhile, and ends the wait by raising.
        While Redis is away one begins only where another ended.
        """
        if limits.transfers is None:
            yield
            return
        login = Login.of(self._keys, registry, username)
        turn: Future[None] = Future()
        with self._lock:
            line = self._lines.setdefault(login, _Line(self._pots.of(login, limits.transfers)))
            line.join(turn)
            self._move(line)
            if not turn.done():
                self._wake()
        try:
            self._wait(turn, waiting)
            yield
        finally:
            with self._lock:
                if turn.done():
                    self._end(line)
                else:
                    line.leave(turn)

    def close(self) -> None:
        """Stop renewing and give all back; to be called when no push runs any more."""
        self._closed.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._pots.abandon()
            busy = self._pots.busy
        if busy:
            self._call()

    def _wait(self, turn: Future[None], waiting: Callable[[], None]) -> None:
        while not turn.done():
            with suppress(TimeoutError):
                turn.result(TICK_S)
                return
            waiting()
            with self._lock:
                self._ensure()

    def _move(self, line: _Line) -> None:
        # A call on its way would not count what begins now; its reply lets them begin.
        if not self._pots.asking:
            line.move()

    def _end(self, line: _Line) -> None:
        line.pot.ended()
        self._move(line)
        if line.pot.gives_back:
            self._changed.set()

    def _wake(self) -> None:
        self._changed.set()
        self._ensure()

    def _ensure(self) -> None:
        """Have a thread that calls, also when the last one met a defect."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._serve, name="permits", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        """Call as long as anything is held or wanted."""
        away = False
        while not self._closed.is_set():
            self._changed.clear()
            if self._call():
                away = False
                with self._lock:
                    pause_s = self._pots.pause_s
                    if not self._pots.busy:
                        # Under the lock: whoever waits next starts another thread.
                        self._thread = None
                        return
                self._changed.wait(pause_s)
            else:
                if not away:
                    logger.warning("permits for transfers cannot be renewed: no Redis")
                away = True
                self._closed.wait(AWAY_S)

    def _call(self) -> bool:
        """Tell Redis and hear from it; whether it answered."""
        with self._lock:
            keys, args = self._pots.question()
        reply = None
        try:
            reply = self._ask(keys=keys, args=args)
        except redis.RedisError as error:
            logger.debug("permits for transfers: %s", plain(error))
        finally:
            with self._lock:
                if reply is None:
                    self._pots.unanswered()
                else:
                    self._pots.answer(reply)
                for line in self._lines.values():
                    line.move()
        return reply is not None
