"""What a fleet may leave in Redis once all jobs are final, and what it may not."""

from __future__ import annotations

import re
from typing import Any

import redis

from transship.ledger.keys import Keys

#: Records and their history until retention ends, hints and memories that expire, what live
#: workers publish, and Celery's own keys.
_STAYS = re.compile(
    r"(job|events|blob|rate|mounts|subset|migration|worker|celery):.*"
    r"|of:[^:]+:(state:.*|migrations|refused)"
    r"|from:[^:]+:(request:.*|plan:.*|rows:.*)"
    r"|accounts|accounts:known|listening|retention|workers|worker|reaper|refused|functions"
)


def left_behind(client: redis.Redis, keys: Keys) -> list[str]:
    """Keys that should be gone: leases, leads, locks, permits, orders, wishes, bells that are due.

    Also lists of migrations' jobs that wait, and requests that were written and never claimed.
    """
    names = (str(key).removeprefix(keys.prefix) for key in client.scan_iter(f"{keys.prefix}*"))
    return sorted(name for name in names if not _STAYS.fullmatch(name) or name.endswith(":pending"))


def let_time_pass(client: redis.Redis, keys: Keys) -> None:
    """What time does when no worker lives: leases end, bells come due, what expires is gone.

    The readings of requests end, too.
    """
    for job, _ in client.zscan_iter(keys.leases):
        client.hset(keys.job(job), "lease", "1")
        client.zadd(keys.leases, {job: 1})
    for key in client.scan_iter(f"{keys.prefix}reading:*"):
        client.pexpire(key, 600_000)
    for key in client.scan_iter(f"{keys.prefix}*due:*"):
        client.zadd(key, {job: 1 for job, _ in client.zscan_iter(key)})
    for kind in ("copy:*", "lead:*", "line:*", "lock:*", "permits:*", "reaper"):
        for key in client.scan_iter(f"{keys.prefix}{kind}"):
            client.delete(key)


def accepted_finishes(client: redis.Redis, keys: Keys, job: str) -> int:
    """How often a job became final, by its own history."""
    entries: Any = client.xrange(keys.events(job))
    return sum(
        fields["kind"] == "state" and fields["state"] in {"succeeded", "failed", "cancelled"}
        for _, fields in entries
    )
