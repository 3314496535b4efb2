"""A short run of ``./dev chaos``; longer ones, with other seeds, are made by hand."""

from __future__ import annotations

import sys

import pytest

from tests.chaos.plan import OF_ONE_REDIS, Kind
from tests.chaos.run import Options, run

pytestmark = [pytest.mark.redis, pytest.mark.registry, pytest.mark.engine]

#: A seed whose first minute has a fault of each kind (``tests/unit/support/test_chaos.py``).
SEED, SECONDS = 36, 60.0
#: One whose first minute kills a primary and pauses one, each past a failover.
SENTINEL_SEED = 6


@pytest.mark.timeout(300)
def test_a_fleet_under_faults_loses_nothing_repeats_nothing_and_leaves_nothing_behind() -> None:
    report = run(
        Options(SEED, SECONDS, drain_s=90),
        lambda text: print(text, file=sys.stderr),  # noqa: T201
    )

    assert not report.broken, report.to_text()
    assert set(report.faults) == set(OF_ONE_REDIS)
    assert report.jobs["succeeded"] > 50


@pytest.mark.timeout(400)
def test_a_fleet_under_sentinels_loses_nothing_that_a_replica_acknowledged() -> None:
    report = run(
        Options(SENTINEL_SEED, SECONDS, drain_s=120, sentinel=True),
        lambda text: print(text, file=sys.stderr),  # noqa: T201
    )

    assert not report.broken, report.to_text()
    assert {Kind.REDIS, Kind.PAUSE} <= set(report.faults)
    assert report.jobs["succeeded"] > 30
