"""What must not stay in Redis, and what workers must not go on holding."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Collection
from typing import Final

import redis

from tests.chaos.crew import NO_PEER, Crew, Held
from transship import Client
from transship.ledger.keys import Keys
from transship_worker.broker.slots import Slots
from transship_worker.fleet.redis import CONNECTIONS
from transship_worker.process.presence import EVERY_S

#: Whatever expires does so within this: the longest is a lock whose holder died. Unit: s.
PATIENCE_S: Final = 75.0
#: Sockets of a kind that a worker may have: to each registry, where idle ones are kept for a
#: minute; and those of calls to an engine that was away, which go with the next collection of
#: garbage. One that stayed with each fault of a kind would show within half an hour.
MOST_SOCKETS: Final = 60
#: Connections to Redis: one for each thread of a slot that was ever busy at the same time (66 were
#: seen on a machine under load), those of the background loop, and a few of the worker itself.
MOST_TO_REDIS: Final = Slots(interactive=4, bulk=4, copies=32).threads + CONNECTIONS + 16
#: Other files that a worker may have open beyond what it had after its first jobs.
MORE_FILES: Final = 16

#: Of these nothing may be left once all jobs are final; after the namespace. Leads count as long
#: as their copies are there.
_GONE: Final = (
    "leases", "expiry", "due:*", "copy:*", "lock:*", "permits:*", "pause:*",
    "of:*:state:queued", "of:*:state:running", "of:*:state:retrying", "from:*:queued",
    "from:*:withdrawn", "from:*:expiry", "from:*:due:*", "from:*:target:*", "from:*:same:*",
    "from:*:route:*",
    "from:*:cancel:*", "from:*:retry:*", "from:*:rows:*", "from:*:plan:*", "migration:*:pending",
    "celery:push.*", "celery:bulk.*", "celery:copy.*", "celery:plan.*",
)  # fmt: skip
#: These stay without an end, or as long as their jobs are kept.
_STAYS: Final = (
    "job:*", "events:*", "retention", "migration:*", "of:*:migrations", "of:*:state:*",
    "of:*:refused", "workers",
    "listening", "refused", "functions", "accounts", "accounts:known", "from:*:request:*",
    "celery:_kombu.binding.*", "celery:_kombu.binding_deadlines", "celery:unacked",
    "celery:unacked_index",
)  # fmt: skip


def in_redis(keys: Keys, url: str, *, within: float = PATIENCE_S) -> list[str]:
    """What is left behind when all that expires has had its time (s)."""
    deadline = time.monotonic() + within
    with redis.Redis.from_url(url, decode_responses=True) as client:
        while (found := _left(client, keys)) and time.monotonic() < deadline:
            time.sleep(0.2)
    return found


def _left(client: redis.Redis, keys: Keys) -> list[str]:
    found = []
    for key in client.scan_iter(f"{keys.prefix}*", count=1000):
        name = str(key).removeprefix(keys.prefix)
        lasting = client.ttl(key) == -1
        stays = any(fnmatch.fnmatchcase(name, pattern) for pattern in _STAYS)
        gone = any(fnmatch.fnmatchcase(name, pattern) for pattern in _GONE)
        if gone or (name.startswith("rate:") and _drawn_ahead(client, str(key))):
            found.append(f"{name} is left behind: {_shown(client, str(key))}")
        elif lasting and not stays:
            found.append(f"{name} has no end: {_shown(client, str(key))}")
    return sorted(found)


def _drawn_ahead(client: redis.Redis, key: str) -> bool:
    """Whether tokens of a budget are drawn that nobody uses."""
    seconds, micros = client.time()
    now = int(seconds) * 1_000_000 + int(micros)
    drawn = client.hmget(key, "requests", "bytes")
    return any(int(one or 0) > now for one in drawn)


def _shown(client: redis.Redis, key: str) -> str:
    kind = str(client.type(key))
    if kind == "zset":
        return str(client.zrange(key, 0, 5, withscores=True))
    if kind == "hash":
        return str(client.hgetall(key))[:500]
    if kind == "list":
        return f"{client.llen(key)} entries"
    return str(client.get(key))[:500] if kind == "string" else kind


def busy(client: Client) -> list[str]:
    """Workers that say that they run jobs; they say it every few seconds."""
    deadline = time.monotonic() + 3 * EVERY_S
    while found := [worker.name for worker in client.fleet().workers if worker.running]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return [f"worker {name} still runs jobs" for name in found]


def dead_leads(keys: Keys, url: str) -> int:
    """Leads and places in line of copies that died: they count for nothing, and end in a day."""
    with redis.Redis.from_url(url) as client:
        return sum(
            1 for kind in ("lead", "line") for _ in client.scan_iter(f"{keys.prefix}{kind}:*")
        )


def unacknowledged(keys: Keys, url: str) -> int:
    """Bells that died with whoever took them; they are rung again in a day, and say nothing."""
    with redis.Redis.from_url(url) as client:
        return int(client.hlen(f"{keys.celery_prefix}unacked"))


def has_too_many_sockets(held: Held, to_redis: Collection[str]) -> bool:
    """Whether a worker has more than it can need; ``to_redis``: how Redis's ports are called."""
    counts = Counter(name for name in held.files if name in held.sockets)
    # A connection that was reset has no peer any more. Those to a Redis that died lie in the pool
    # until they are needed, as many as there were connections.
    redis_or_reset = sum(n for name, n in counts.items() if name in to_redis or name == NO_PEER)
    others = [n for name, n in counts.items() if name not in to_redis and name != NO_PEER]
    return redis_or_reset > MOST_TO_REDIS or max(others, default=0) > MOST_SOCKETS


def in_workers(crew: Crew, warm: Held, redis_ports: Collection[int]) -> list[str]:
    """Files that workers hold too many of; the first of them lived all the time.

    ``warm``: what the first held after its first jobs.
    """
    to_redis = {f"port {port}" for port in redis_ports}
    broken = []
    for number, hand in enumerate(crew.hands):
        held = Held.of(hand.pid)
        counts = Counter(held.files)
        too_many = has_too_many_sockets(held, to_redis)
        others, were = (sum(n not in one.sockets for n in one.files) for one in (held, warm))
        if too_many or others > were + MORE_FILES:
            more = "\n    ".join(f"{name}: {count}" for name, count in counts.items())
            broken.append(f"worker {number} has too many files open:\n    {more}")
    return broken
