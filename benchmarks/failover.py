"""How many submits a failover forgets, with and without ``TRANSSHIP_WAIT_REPLICAS``.

``python -m benchmarks.failover --failovers 50``. Threads submit to a primary whose replica reads
over a line with a delay. The primary is killed, what is on the line is dropped, and the replica
takes over; then each submit that returned is looked for.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from typing import Final

from tests.support.ledger.bench import Bench, push_request
from tests.support.processes import eventually
from tests.support.proxies.delay import DelayProxy
from tests.support.servers.sentinel import ReplicatedRedis
from transship.errors import NotReplicated, RedisUnreachable
from transship.model.jobs import JobId
from transship_config.settings import Settings

#: Threads that submit.
_THREADS: Final = 4
#: They submit for so long before the primary dies. Unit: s.
_BEFORE_S: Final = 0.5


@dataclass
class Losses:
    """What became of submits over all failovers."""

    wait_replicas: int
    #: What the replica is behind. Unit: s.
    lag_s: float
    failovers: int = 0
    #: Submits that returned without an error.
    acknowledged: int = 0
    #: Those of them that returned within the lag before the primary died.
    in_the_lag: int = 0
    #: Acknowledged, and unknown to the new primary.
    lost: int = 0
    #: Submits that ended in ``NotReplicated``, and how many of these the new primary lacks.
    not_replicated: int = 0
    not_replicated_lost: int = 0


@dataclass
class _Submitter:
    """A thread that submits until Redis is gone."""

    bench: Bench
    number: int
    acknowledged: list[tuple[JobId, float]] = field(default_factory=list)
    refused: list[JobId] = field(default_factory=list)

    def run(self) -> None:
        ledger = self.bench.ledger
        count = 0
        while True:
            count += 1
            request = push_request(f"{self.number}-{count}")
            try:
                submitted = ledger.submit([request])
                ledger.check_replicated(submitted, [request])
            except NotReplicated as error:
                self.refused += [JobId(job) for job in error.jobs]
            except RedisUnreachable:
                return
            else:
                self.acknowledged.append((submitted[0].job, time.monotonic()))


def fail_over(losses: Losses) -> None:
    """One failover; its counts are added."""
    with ExitStack() as stack:
        primary = stack.enter_context(ReplicatedRedis())
        replica = stack.enter_context(ReplicatedRedis())
        line = stack.enter_context(DelayProxy(primary.port, round_trip_s=2 * losses.lag_s))
        replica.follow(line)
        environment = {"TRANSSHIP_WAIT_REPLICAS": str(losses.wait_replicas)}
        bench = Bench(primary.url, Settings.from_environment(environment))
        stack.enter_context(closing(bench.redis))
        bench.submit(push_request())
        submitters = [_Submitter(bench, number) for number in range(_THREADS)]
        threads = [threading.Thread(target=one.run) for one in submitters]
        for thread in threads:
            thread.start()
        time.sleep(_BEFORE_S)
        killed = time.monotonic()
        primary.kill9()
        line.kill9()
        for thread in threads:
            thread.join()
        replica.follow(None)
        eventually(lambda: replica.role == "master", what="a new primary")
        _count(losses, submitters, replica, bench, killed)


def _count(
    losses: Losses,
    submitters: Sequence[_Submitter],
    replica: ReplicatedRedis,
    bench: Bench,
    killed: float,
) -> None:
    with closing(replica.client()) as client:

        def known(job: JobId) -> bool:
            return bool(client.exists(bench.keys.request(job)))

        losses.failovers += 1
        for one in submitters:
            losses.acknowledged += len(one.acknowledged)
            losses.in_the_lag += sum(at > killed - losses.lag_s for _, at in one.acknowledged)
            losses.lost += sum(not known(job) for job, _ in one.acknowledged)
            losses.not_replicated += len(one.refused)
            losses.not_replicated_lost += sum(not known(job) for job in one.refused)


def main(words: Sequence[str] | None = None) -> int:
    """Measure both, and print a line of JSON for each; 1 if an acknowledged submit was lost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--failovers", type=int, default=50, metavar="N", help="of each kind (50)")
    parser.add_argument(
        "--lag", type=float, default=0.05, metavar="S", help="what the replica is behind (0.05)"
    )
    given = parser.parse_args(words)
    worst = 0
    for replicas in (0, 1):
        losses = Losses(replicas, given.lag)
        for _ in range(given.failovers):
            fail_over(losses)
        sys.stdout.write(json.dumps(asdict(losses)) + "\n")
        sys.stdout.flush()
        worst = losses.lost
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
