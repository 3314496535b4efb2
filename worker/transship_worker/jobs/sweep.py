"""A sweep of the reaper, in many short scripts: none may keep Redis from others.

Accounts are those of which workers heard, queues those that workers listen to. What a producer
wrote into its sets is read some entries at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from transship.model.jobs import JobId
from transship_config.lanes import BULK_COPY_QUEUE, COPY_QUEUE, PLAN_QUEUE, queue_name

#: Seconds between two bells for one job that nobody takes: at least, at most. Unit: s.
RING_LEAST_S, RING_MOST_S = 10, 600
#: Jobs of each kind that one sweep looks at, per account and queue.
SWEEP_MOST = 500
#: Jobs that one script makes final or puts back: some 40 commands of Redis each.
HEAVY: Final = 50
#: Jobs that one script rings for, and entries of a set that it looks at.
LIGHT: Final = 100
#: Scripts of one kind that a sweep runs for one account or queue while they find something.
ROUNDS: Final = 20
#: Migrations that one script looks at, and one sweep of an account, the newest ones.
MIGRATIONS, MIGRATIONS_MOST = 200, 5_000
#: Queues that any worker may listen to.
FIXED_QUEUES: Final = (
    queue_name(bulk=False, engine=None),
    queue_name(bulk=True, engine=None),
    COPY_QUEUE,
    BULK_COPY_QUEUE,
    PLAN_QUEUE,
)
#: An account's sets that are searched for entries that are no jobs; in turns with ``due:QUEUE``.
SETS: Final = ("queued", "withdrawn", "expiry")

SWEEP_SCRIPTS: Final = (
    *("sweep", "sweep_migrations", "sweep_accounts", "sweep_account", "sweep_queue"),
)


@dataclass(frozen=True, slots=True)
class Due:
    """A bell the reaper is to ring."""

    job: JobId
    #: Empty: not looked up yet.
    queue: str
    attempt: int
    #: What Flower shows; empty: not known without the request.
    display: str = ""


@dataclass(slots=True)
class Swept:
    """What one sweep found."""

    ring: list[Due] = field(default_factory=list)
    lost: int = 0
    expired: int = 0
    forgotten: int = 0


class Sweep:
    """Runs the scripts of a sweep, and remembers where the search of each set goes on."""

    def __init__(
        self,
        run: Callable[..., Any],
        accounts: Callable[[], list[str]],
        listening: Callable[[], list[str]],
    ) -> None:
        self._run = run
        self._accounts = accounts
        self._listening = listening
        self._ranks: dict[tuple[str, str], int] = {}
        self._turn = 0

    def sweep(self) -> Swept:
        """One sweep."""
        swept = Swept()
        self._leases(swept)
        for _ in range(ROUNDS):
            if self._run("sweep_accounts", LIGHT) < LIGHT // 2:
                break
        accounts = self._accounts()
        # What one account wrote must not always come before what another did.
        random.shuffle(accounts)
        queues = [*FIXED_QUEUES, *self._listening()]
        self._turn += 1
        searched = (*SETS, f"due:{queues[self._turn % len(queues)]}")
        for account in accounts:
            self._migrations(account, swept)
            self._account(account, searched, swept)
        for queue in queues:
            self._queue(queue, accounts, swept)
        return swept

    def _leases(self, swept: Swept) -> None:
        for _ in range(SWEEP_MOST // HEAVY):
            ring, (lost, expired, forgotten), more = self._run("sweep", HEAVY)
            swept.ring += dues(ring)
            swept.lost += lost
            swept.expired += expired
            swept.forgotten += forgotten
            if not more:
                return

    def _migrations(self, account: str, swept: Swept) -> None:
        rounds = ROUNDS
        for first in range(0, MIGRATIONS_MOST, MIGRATIONS):
            while True:
                ring, again, last = self._run("sweep_migrations", account, first, MIGRATIONS)
                swept.ring += dues(ring)
                rounds -= 1
                if not again or rounds <= 0:
                    break
            if last or rounds <= 0:
                return

    def _account(self, account: str, searched: tuple[str, ...], swept: Swept) -> None:
        limit = swept.expired + SWEEP_MOST
        for _ in range(ROUNDS):
            pairs = [
                word for name in searched for word in (name, self._ranks.get((account, name), 0))
            ]
            ring, expired, more, *ranks, thrown = self._run(
                "sweep_account", account, HEAVY, LIGHT, *pairs
            )
            swept.ring += dues(ring)
            swept.expired += expired
            for name, rank in zip(searched, ranks, strict=True):
                self._ranks[account, name] = rank
            if swept.expired >= limit or (not more and thrown < LIGHT // 2):
                return

    def _queue(self, queue: str, accounts: list[str], swept: Swept) -> None:
        left = SWEEP_MOST
        for _ in range(ROUNDS):
            ring, thrown = self._run(
                "sweep_queue", queue, min(LIGHT, left), RING_LEAST_S, RING_MOST_S, *accounts
            )
            swept.ring += dues(ring)
            left -= len(ring)
            if left <= 0 or (len(ring) < LIGHT and not thrown):
                return


def dues(reply: Any) -> list[Due]:
    """Bells as a script returns them."""
    return [
        Due(JobId(job), str(queue), int(attempt), *map(str, rest))
        for job, queue, attempt, *rest in reply
    ]
