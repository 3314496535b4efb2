"""A silent push counts as alive as long as its engine answers."""

from __future__ import annotations

import threading

from transship.errors import EngineUnavailable
from transship_worker.transports.engine.liveness import kept_alive


class Answering:
    """An engine that answers, and later does not."""

    def __init__(self) -> None:
        self.away = False
        self.asked = threading.Semaphore(0)

    def ping(self) -> None:
        self.asked.release()
        if self.away:
            raise EngineUnavailable("away")


def test_each_answer_of_the_engine_says_that_the_push_is_alive() -> None:
    engine, alive = Answering(), threading.Semaphore(0)
    with kept_alive(engine, alive.release, every_s=0.001):
        assert alive.acquire(timeout=10)
        assert alive.acquire(timeout=10)


def test_an_engine_that_does_not_answer_leaves_the_push_to_the_stall_limit() -> None:
    engine = Answering()
    engine.away = True
    said: list[str] = []
    with kept_alive(engine, lambda: said.append("alive"), every_s=0.001):
        for _ in range(3):
            assert engine.asked.acquire(timeout=10)
    assert said == []


def test_nothing_is_asked_after_the_push() -> None:
    engine = Answering()
    with kept_alive(engine, lambda: None, every_s=60):
        pass
    assert not engine.asked.acquire(blocking=False)
