"""The limit of open files: raised as far as the slots need it, or fewer slots.

A worker that runs out of file descriptors fails jobs for no reason of theirs, and cannot connect to
Redis to say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from transship_config.errors import InvalidSettings
from transship_worker.broker.slots import Lane, Slots

logger = logging.getLogger("transship.worker")

#: What a worker has open without a job: logs, the event loops, Celery's channels, connections to
#: Redis, idle connections to registries, the engine. Unit: files.
BASE: Final = 120
#: What one slot of each class has open at most: a connection to Redis, those to registries that are
#: in use at once, and a push's to its engine. Unit: files.
PER_SLOT: Final[Mapping[Lane, int]] = {Lane.PUSH: 21, Lane.BULK: 21, Lane.COPY: 25, Lane.PLAN: 65}
#: A copy that waits for others has its thread's connection to Redis. Unit: files.
PER_PARKED: Final = 1

#: The soft and the hard limit of this process; negative: there is none.
Limits = tuple[int, int]


def need(slots: Slots) -> int:
    """Files that a worker with these slots may have open. Unit: files."""
    lanes = sum(PER_SLOT[lane] * limit for lane, limit in slots.limits.items())
    return BASE + lanes + PER_PARKED * slots.most_parked


def fit(
    slots: Slots,
    read: Callable[[], Limits] | None = None,
    write: Callable[[int], None] | None = None,
) -> tuple[Slots, str]:
    """Raise the soft limit for these slots, or lower the slots; also why they are fewer, or "".

    ``read`` and ``write`` are those of this process where they are left out.

    Raises:
        InvalidSettings: not even one slot of each class fits.
    """
    if read is None or write is None:
        found = _of_process()
        if found is None:
            return slots, ""
        read, write = found
    wanted = need(slots)
    soft, hard = (limit if limit >= 0 else wanted for limit in read())
    if soft >= wanted:
        return slots, ""
    allowed = _raised(soft, min(wanted, hard), write)
    if allowed >= wanted:
        logger.debug("the limit of open files is %d now, it was %d", allowed, soft)
        return slots, ""
    mend = f"raise the hard limit to {wanted} (ulimit -Hn, systemd: LimitNOFILE=)"
    for percent in range(99, -1, -1):
        fewer = slots.scaled(percent)
        if need(fewer) <= allowed:
            reason = f"{slots} need {wanted} open files, {allowed} are allowed"
            return fewer, f"{fewer}, as {reason}; {mend}"
    least = need(slots.scaled(0))
    raise InvalidSettings(
        f"{allowed} open files are allowed, and a worker with one slot of each class needs "
        f"{least}: {mend}"
    )


def _raised(soft: int, wanted: int, write: Callable[[int], None]) -> int:
    """Raise the soft limit; what it is then."""
    try:
        write(wanted)
    except (OSError, ValueError) as error:
        # A sandbox may forbid it.
        logger.debug("the limit of open files cannot be raised: %s", error)
        return soft
    return wanted


def _of_process() -> tuple[Callable[[], Limits], Callable[[int], None]] | None:
    """How the limit is read and written; ``None``: this system has none."""
    try:
        import resource
    except ImportError:
        return None

    def read() -> Limits:
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    def write(soft: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return read, write
