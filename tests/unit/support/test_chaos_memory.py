"""When the memory of a worker counts as growing."""

from __future__ import annotations

import os
import random
import threading

import pytest

from tests.chaos.memory import TOO_SHORT, Growth, Sample, Sampler, growth_of, resident
from tests.support.processes import eventually


def grown(
    *, per_10_min: float = 0.0, seconds: float = 7200, warm_up_s: float = 900, wobble: float = 0.3
) -> Growth:
    """A process that loses a connection each second, with noise as allocators make it."""
    dice = random.Random(1)
    level, samples = 0.0, []
    for at in range(0, int(seconds), 2):
        # Steps that stay for a while: an arena that is got, and given back.
        level = 0.95 * level + dice.gauss(0, wobble)
        warming = min(at, warm_up_s) / warm_up_s * 25
        samples.append(Sample(at, 80 + warming + level + per_10_min * at / 600, at))
    found = growth_of("worker 0", samples, warm_up_s)
    assert found is not None
    return found


def test_a_worker_that_only_warms_up_is_steady() -> None:
    found = grown()
    assert (found.by_time.verdict, found.by_connections.verdict) == ("steady", "steady")
    assert not found.grows
    assert abs(found.by_time.value) < 0.3
    assert found.by_time.error < 0.3


@pytest.mark.parametrize("per_10_min", [1.3, 4.0])
def test_a_worker_that_grows_by_more_than_the_limit_is_told_of(per_10_min: float) -> None:
    found = grown(per_10_min=per_10_min)
    assert found.grows
    assert found.by_time.verdict == "grows"
    assert found.by_time.value == pytest.approx(per_10_min, abs=0.3)
    # 600 connections in 10 minutes.
    assert found.by_connections.value == pytest.approx(per_10_min / 0.6, abs=0.5)


def test_growth_below_the_old_bound_of_64_mib_is_told_of() -> None:
    # 22 MiB in two hours.
    assert grown(per_10_min=2.0).grows


def test_a_short_run_says_that_it_is_too_short() -> None:
    found = grown(per_10_min=4.0, seconds=300, warm_up_s=150)
    assert found.by_time.verdict == found.by_connections.verdict == TOO_SHORT
    assert not found.grows
    assert TOO_SHORT in str(found)


def test_a_short_run_tells_of_what_is_no_noise() -> None:
    assert grown(per_10_min=300.0, seconds=300, warm_up_s=150).grows


def test_a_long_run_with_much_noise_says_that_it_is_too_short() -> None:
    found = grown(wobble=8.0, seconds=2400)
    assert found.by_time.error > 0.5
    assert found.by_time.verdict == TOO_SHORT


def test_a_process_that_ends_in_its_warm_up_says_nothing() -> None:
    assert growth_of("worker 1", [Sample(at, 80.0, 0) for at in range(100)], 900) is None


def test_processes_are_sampled_with_the_connections_that_they_lost() -> None:
    now = [0.0]
    sampler = Sampler(lambda: [("one", os.getpid()), ("gone", 2**22 + 1)], lambda: now[0])
    for second in range(40):
        now[0] = float(second)
        sampler._look("one", os.getpid())
        sampler.lose(lambda pid: 2)
    (found,) = sampler.growth(40)
    assert (found.process, found.seconds, found.lost) == ("one", 19.0, 38)
    assert found.memory == pytest.approx(resident(os.getpid()), rel=0.2)


def test_a_sampler_ends_when_it_is_told_to() -> None:
    looked = threading.Event()

    def running() -> list[tuple[str, int]]:
        looked.set()
        return []

    sampler = Sampler(running, lambda: 0.0)
    sampler.start()
    eventually(looked.is_set, what="a look")
    sampler.stop()
    assert not sampler._thread.is_alive()
