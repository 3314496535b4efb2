"""A short run of ``./dev chaos``; longer ones, with other seeds, are made by hand."""

from __future__ import annotations

import sys

import pytest

from tests.chaos.plan import Kind
from tests.chaos.run import Options, run

pytestmark = [pytest.mark.redis, pytest.mark.registry, pytest.mark.engine]

#: A seed whose first minute has a fault of each kind (``tests/unit/support/test_chaos.py``).
SEED, SECONDS = 36, 60.0


@pytest.mark.timeout(300)
def test_a_fleet_under_faults_loses_nothing_repeats_nothing_and_leaves_nothing_behind() -> None:
    report = run(
        Options(SEED, SECONDS, drain_s=90),
        lambda text: print(text, file=sys.stderr),  # noqa: T201
    )

    assert not report.broken, report.to_text()
    assert set(report.faults) == set(Kind)
    assert report.jobs["succeeded"] > 50
