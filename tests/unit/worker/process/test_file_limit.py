"""What a worker makes of its limit of open files."""

from __future__ import annotations

import pytest

from transship_config.errors import InvalidSettings
from transship_worker.broker.slots import MOST_PARKED, Lane, Slots
from transship_worker.migrate import plan
from transship_worker.process.file_limit import BASE, PER_SLOT, fit, need
from transship_worker.transports.copy import transfer
from transship_worker.transports.stream import upload


def slots(copies: int = 32) -> Slots:
    return Slots(interactive=4, bulk=4, copies=copies)


class Limit:
    """The limit of a process."""

    def __init__(self, soft: int, hard: int, *, fixed: bool = False) -> None:
        self.soft, self.hard, self._fixed = soft, hard, fixed

    def read(self) -> tuple[int, int]:
        return self.soft, self.hard

    def write(self, soft: int) -> None:
        if self._fixed:
            raise PermissionError
        assert soft <= self.hard or self.hard < 0
        self.soft = soft

    def fit(self, wanted: Slots) -> tuple[Slots, str]:
        return fit(wanted, self.read, self.write)


def test_a_slot_counts_what_its_work_may_open_at_once() -> None:
    # One is the thread's connection to Redis; a push has two to its engine.
    push = 1 + 2 + max(upload.IN_FLIGHT, upload.LOOKS_AT_ONCE)
    assert PER_SLOT[Lane.PUSH] == PER_SLOT[Lane.BULK] >= push
    # Each upload reads from the source as well.
    copy = 1 + 2 * transfer.UPLOADS_AT_ONCE + transfer.REQUESTS_AT_ONCE
    assert PER_SLOT[Lane.COPY] >= copy
    assert PER_SLOT[Lane.PLAN] >= 1 + plan.IN_FLIGHT


def test_enough_is_left_alone() -> None:
    limit = Limit(need(slots()), 10**6)
    assert limit.fit(slots())[1] == ""
    assert limit.soft == need(slots())


@pytest.mark.parametrize("hard", [10**6, -1])
def test_the_soft_limit_is_raised_to_what_is_needed(hard: int) -> None:
    limit = Limit(256, hard)
    fitting, reason = limit.fit(slots())
    assert (fitting.limits, reason) == (slots().limits, "")
    assert limit.soft == need(slots())


def test_slots_are_lowered_to_what_the_hard_limit_allows() -> None:
    limit = Limit(256, 700)
    fitting, reason = limit.fit(slots())
    assert need(fitting) <= 700 == limit.soft
    assert need(slots().scaled(60)) > 700
    assert all(fitting.limits.values())
    assert fitting.threads < slots().threads
    assert reason.startswith(f"{fitting}, as 4 push, 4 bulk, 32 copy, 4 plan need {need(slots())}")
    assert "700 are allowed; raise the hard limit to" in reason
    assert "LimitNOFILE=" in reason


def test_a_limit_that_may_not_be_raised_lowers_the_slots() -> None:
    fitting, reason = Limit(512, 10**6, fixed=True).fit(slots())
    assert need(fitting) <= 512
    assert "512 are allowed" in reason


def test_a_worker_with_room_for_no_slot_is_refused() -> None:
    least = need(slots().scaled(0))
    assert Limit(64, least).fit(slots())[0].limits == dict.fromkeys(Lane, 1)
    with pytest.raises(InvalidSettings, match=rf"^{least - 1} open files .* needs {least}: raise"):
        Limit(64, least - 1).fit(slots())


def test_a_class_without_slots_stays_without() -> None:
    none = Slots(interactive=4, bulk=0, copies=0)
    assert none.scaled(50).limits == {Lane.PUSH: 2, Lane.BULK: 0, Lane.COPY: 0, Lane.PLAN: 0}
    assert (none.most_parked, slots().most_parked) == (0, MOST_PARKED)
    assert need(none) == BASE + 4 * PER_SLOT[Lane.PUSH]
