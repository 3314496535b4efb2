"""Pauses and transfer permits for pushes through a Docker Engine, which run in threads.

The engine's own requests cannot be counted; how many of its pushes run at once can, and
whether one may begin.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import redis

from longshore.connection import plain
from longshore.ledger import read_script
from longshore_config.errors import RegistryPaused
from longshore_config.keys import Keys
from longshore_worker.fleet.budget_login import Login
from longshore_worker.fleet.budget_pots import PERMIT_S, Pot, Pots
from longshore_worker.fleet.limits import Limits
from longshore_worker.fleet.pause import Pause, alone, set_arguments

logger = logging.getLogger("longshore.worker")

#: How often a push that waits for a permit looks whether its job must stop. Unit: s.
TICK_S: Final = 0.2
#: Between two tries while Redis is away. Unit: s.
AWAY_S: Final = 0.5


class EngineGate:
    """Stands before the pushes of one worker process. Safe to be used from many threads."""

    def __init__(
        self, client: redis.Redis, keys: Keys, process: str, *, permit_s: float = PERMIT_S
    ) -> None:
        """``client`` gives text; ``process``: the worker's name."""
        self._keys = keys
        self._look, self._set, self._ask = (
            client.register_script(read_script("longshore_worker.fleet", name))
            for name in ("pause_look", "pause_set", "budget_permits")
        )
        self._pots = Pots(keys, f"{process}:engine", permit_s=permit_s)
        self._alone: dict[Login, Pause] = {}
        #: Guards the pots.
        self._turn = threading.Condition()
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
        with self._turn:
            pot = self._pots.of(Login.of(self._keys, registry, username), limits.transfers)
            self._start(pot, waiting)
        try:
            yield
        finally:
            with self._turn:
                pot.ended()
                if pot.gives_back:
                    self._changed.set()
                self._turn.notify_all()

    def close(self) -> None:
        """Stop renewing and give all back; to be called when no push runs any more."""
        self._closed.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        with self._turn:
            self._pots.abandon()
            busy = self._pots.busy
        if busy:
            self._call()

    def _start(self, pot: Pot, waiting: Callable[[], None]) -> None:
        """Wait for a permit, with the turn; what begins during a call would not be counted."""
        pot.waiting += 1
        try:
            while self._pots.asking or not pot.may_start:
                self._wake()
                self._turn.wait(TICK_S)
                waiting()
            pot.running += 1
        finally:
            pot.waiting -= 1

    def _wake(self) -> None:
        self._changed.set()
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
                with self._turn:
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
        with self._turn:
            keys, args = self._pots.question()
        reply = None
        try:
            reply = self._ask(keys=keys, args=args)
        except redis.RedisError as error:
            logger.debug("permits for transfers: %s", plain(error))
        finally:
            with self._turn:
                if reply is None:
                    self._pots.unanswered()
                else:
                    self._pots.answer(reply)
                self._turn.notify_all()
        return reply is not None
