"""Reading the ledger: jobs, their events, and the live workers.

Every call raises ``RedisUnreachable`` when Redis does not answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import redis
from pydantic import ValidationError

from transship.errors import NotYours, UnknownJob
from transship.ledger.connection import reaching
from transship.ledger.indexes import PAGE, Indexes, pages
from transship.ledger.keys import Keys
from transship.ledger.stored_jobs import Stored, compose
from transship.ledger.stored_requests import (
    COMMANDS,
    StoredRequest,
    ask,
    complete,
    of_another_type,
    parts_of,
    value,
)
from transship.model.components import Fleet, WorkerView
from transship.model.jobs import JobId, State
from transship.model.records import JobEvent, JobRecord
from transship.model.requests import parse_request
from transship.model.stored_text import SPECIFICATION
from transship_config.errors import UsageError

if TYPE_CHECKING:
    from transship.model.requests import Request


#: Times from here on are no times: the year 5138. Unit: ms.
LATEST_MS = 10**14
#: Commands that read one job, beside those for its request.
READS: Final = 5
#: The last byte of a wish that is read: a time is shorter.
WISH_END: Final = 31


class LedgerReader:
    """Reads jobs, as one Redis account: those of all accounts, or its own only."""

    def __init__(self, client: redis.Redis, keys: Keys, account: str, url: str) -> None:
        self._redis = client
        self._keys = keys
        self._account = account
        self._url = url
        #: The indexes of jobs; its calls raise what redis-py raises.
        self.indexes = Indexes(client, keys, account)

    @property
    def account(self) -> str:
        """The Redis account that it reads as."""
        return self._account

    @property
    def reads_all(self) -> bool:
        """Whether this account may read the jobs of all others."""
        with reaching(self._url):
            return self.indexes.reads_all

    def read(self, jobs: Sequence[JobId]) -> list[JobRecord | None]:
        """The records of jobs, in their order; ``None`` for one that does not exist.

        Raises:
            NotYours: this account may not read one of another account.
        """
        if not jobs:
            return []
        with reaching(self._url):
            pipe = self._redis.pipeline(transaction=False)
            for job in jobs:
                ask(pipe, self._keys.request(job))
                pipe.hgetall(self._keys.job(job))
                # Anybody may have written them, of any length.
                pipe.getrange(self._keys.cancel(job), 0, WISH_END)
                pipe.getrange(self._keys.retry(job), 0, WISH_END)
                pipe.zscore(self._keys.queued(job.account), job)
                pipe.zscore(self._keys.withdrawn(job.account), job)
            pipe.time()
            replies: list[Any] = pipe.execute(raise_on_error=False)
            self._check_readable(jobs, replies)
            seconds, micros = value(replies.pop())
            parts = parts_of(replies, COMMANDS + READS)
            requests = complete(self._redis, self._keys, jobs, [one[:COMMANDS] for one in parts])
        now = int(seconds) * 1000 + int(micros) // 1000
        return [
            _record(job, request, part[COMMANDS:], now)
            for job, request, part in zip(jobs, requests, parts, strict=True)
        ]

    def _check_readable(self, jobs: Sequence[JobId], replies: Sequence[Any]) -> None:
        """See that no read was refused.

        Raises:
            NotYours: one of a job of another account was.
            redis.exceptions.NoPermissionError: one of a job of its own was, or of the time.
        """
        for index, reply in enumerate(replies):
            if isinstance(reply, redis.exceptions.NoPermissionError):
                place = index // (COMMANDS + READS)
                job = jobs[place] if place < len(jobs) else None
                if job is None or job.account == self._account:
                    raise reply
                raise NotYours(
                    f"job {job} was submitted by account {job.account!r}; account "
                    f"{self._account!r} may not read it"
                )

    def record(self, job: JobId) -> JobRecord:
        """One job's record.

        Raises:
            UnknownJob: there is none of this id, or its retention ended.
            NotYours: it is of another account, and this one may not read it.
        """
        found = self.read([job])[0]
        if found is None:
            raise UnknownJob(f"no job {job}; it never was, or its time to be kept ended")
        return found

    def request(self, job: JobId) -> Request:
        """The request of a job.

        Raises:
            UnknownJob: there is none of this id.
            UsageError: it cannot be read.
        """
        with reaching(self._url):
            pipe = self._redis.pipeline(transaction=False)
            # One byte more shows that it is longer.
            pipe.getrange(self._keys.request(job), 0, SPECIFICATION.longest)
            (body,) = pipe.execute(raise_on_error=False)
        stored = StoredRequest(value(body) or None, foul=of_another_type(body))
        if stored.text is None and not stored.foul:
            raise UnknownJob(f"no job {job}; it never was, or its time to be kept ended")
        return self._parsed(job, stored)

    @staticmethod
    def _parsed(job: JobId, stored: StoredRequest) -> Request:
        """The request of a job, which is none where it is not stored whole.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            return parse_request((stored.whole and stored.text) or "")
        except ValidationError:
            raise UsageError(
                f"the request of job {job} cannot be read: it was written by hand or by another "
                "version; submit it again"
            ) from None

    def newest(
        self, state: State | None, keep: Callable[[JobRecord], bool], limit: int
    ) -> list[JobRecord]:
        """Jobs in a state (or all), newest first, that ``keep`` accepts; at most ``limit``.

        Those of all accounts, where this one may read them; else its own.
        """
        found: list[JobRecord] = []
        seen: set[str] = set()
        # Whose sets hold so much that is no job is read no further.
        foul: Counter[str] = Counter()
        with reaching(self._url):
            members = self.indexes.newest(self.indexes.of_state(state), foul)
            for page in pages(members, PAGE):
                fresh = [JobId(job) for job in page if job not in seen]
                seen.update(fresh)
                for job, record in zip(fresh, self.read(fresh), strict=True):
                    if record is None:
                        foul[job.account] += 1
                    elif (state is None or record.state is state) and keep(record):
                        found.append(record)
                        if len(found) >= limit:
                            return found
        return found

    def events(self, job: JobId, after: str, block_ms: int) -> list[JobEvent]:
        """A job's changes after one of them (``"0"``: from the first that is kept).

        Waits up to ``block_ms`` for one to come.
        """
        with reaching(self._url):
            reply: Any = self._redis.xread({self._keys.events(job): after}, block=block_ms)
        streams = _streams(reply)
        entries = streams[0] if streams else []
        return [JobEvent.from_stream(event_id, fields) for event_id, fields in entries]

    def refused(self) -> dict[str, int]:
        """How many bells and other messages workers refused, by the reason."""
        with reaching(self._url):
            found: Any = self._redis.hgetall(self._keys.refused)
        return {str(reason): int(count) for reason, count in sorted(found.items())}

    def fleet(self) -> Fleet:
        """All live workers and what they publish."""
        with reaching(self._url):
            seconds, micros = self._redis.time()
            now = int(seconds) * 1000 + int(micros) // 1000
            names: Any = self._redis.zrange(self._keys.workers, now, "+inf", byscore=True)
            bodies = self._redis.mget([self._keys.worker(name) for name in names]) if names else []
        return Fleet(workers=[WorkerView.model_validate_json(str(b)) for b in bodies if b])


def _record(
    job: JobId, request: StoredRequest, replies: Sequence[Any], now_ms: int
) -> JobRecord | None:
    """The record of a job; ``None``: there is none."""
    fields, cancel, retry, queued, withdrawn = map(value, replies)
    foul = {"request": request.foul, "record": of_another_type(replies[0])}
    submitted = queued if queued is not None else withdrawn
    stored = Stored(
        request,
        fields or {},
        _number(cancel),
        _number(retry),
        _number(submitted),
        tuple(part for part, is_foul in foul.items() if is_foul),
    )
    return compose(job, stored, now_ms) if stored.exists else None


def _streams(reply: Any) -> list[Any]:
    """Entries per stream of an XREAD reply, in either protocol version's shape."""
    if not reply:
        return []
    if isinstance(reply, dict):
        # RESP3 wraps each stream's entries in a list of its own.
        return [v[0] if v and isinstance(v[0], list) else v for v in reply.values()]
    return [entries for _, entries in reply]


def _number(text: Any) -> int | None:
    """A time that an account wrote, as far as it can be one. Unit: ms."""
    try:
        number = int(float(text))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < LATEST_MS else None
