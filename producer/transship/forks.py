"""Forks: a child gets locks and connections of its own.

A child of ``os.fork`` has only the thread that forked. A lock that another thread held at that
moment stays locked for ever in the child, and replies on a shared connection go to either process.
So a child gets new ones before it runs on. Locks of libraries cannot be replaced: those of Python's
import system, which stay locked while a module is loaded, and kombu's. A fork waits until nobody
holds one.
"""

from __future__ import annotations

# The standard library loads it with the first connection, in any thread, while another may fork.
import encodings.idna  # noqa: F401
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

#: How long a fork waits for threads that notify. Unit: s. A broker that does not answer ends it.
PATIENCE_S: Final = 10.0


class Forkable(Protocol):
    """Something that has to be made anew in a forked child."""

    @property
    def fork_lock(self) -> threading.Lock:
        """Held while a fork would leave a library's lock locked in the child."""

    def after_fork(self) -> None:
        """Use no lock and no connection of the parent any more; called in the child."""


_known: Final[weakref.WeakSet[Forkable]] = weakref.WeakSet()
#: Guards ``_known`` and ``_held``, over the fork. The thread that forks may hold it already, where
#: a signal's handler forks.
_lock = threading.RLock()
_held: Final[list[threading.Lock]] = []
#: Held while a thread loads modules. That always ends, so a fork waits for it without limit.
_loading = threading.RLock()


@contextmanager
def loading() -> Iterator[None]:
    """Import inside a function within this, where threads may run it: no fork comes between."""
    with _loading:
        yield


def follow_forks(one: Forkable) -> None:
    """Renew something in every child that this process forks from now on, as long as it lives."""
    with _lock:
        _known.add(one)


def _before() -> None:
    _loading.acquire()
    _lock.acquire()
    end = time.monotonic() + PATIENCE_S
    for one in list(_known):
        lock = one.fork_lock
        if lock.acquire(timeout=max(0.0, end - time.monotonic())):
            _held.append(lock)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()
    _lock.release()
    _loading.release()


def _after_in_child() -> None:
    global _lock, _loading
    _lock, _loading = threading.RLock(), threading.RLock()
    _held.clear()
    for one in list(_known):
        one.after_fork()


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
