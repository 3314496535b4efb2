"""Reading the ledger: jobs, their events, and the live workers.

Every call raises ``RedisUnreachable`` when Redis does not answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import redis
from pydantic import ValidationError

from transship.errors import UnknownJob
from transship.ledger.connection import reaching
from transship.ledger.keys import Keys
from transship.ledger.stored_jobs import Stored, compose
from transship.model.components import Fleet, WorkerView
from transship.model.jobs import JobId, State
from transship.model.records import JobEvent, JobRecord
from transship.model.requests import parse_request
from transship_config.errors import UsageError

if TYPE_CHECKING:
    from transship.model.requests import Request


#: Times from here on are no times: the year 5138. Unit: ms.
LATEST_MS = 10**14
#: Jobs read in one round trip while listing.
PAGE = 200


class LedgerReader:
    """Reads the jobs of all accounts."""

    def __init__(self, client: redis.Redis, keys: Keys, url: str) -> None:
        self._redis = client
        self._keys = keys
        self._url = url

    def read(self, jobs: Sequence[JobId]) -> list[JobRecord | None]:
        """The records of jobs, in their order; ``None`` for one that does not exist."""
        if not jobs:
            return []
        with reaching(self._url):
            pipe = self._redis.pipeline(transaction=False)
            for job in jobs:
                pipe.get(self._keys.request(job))
                pipe.hgetall(self._keys.job(job))
                pipe.get(self._keys.cancel(job))
                pipe.get(self._keys.retry(job))
                pipe.zscore(self._keys.queued(job.account), job)
                pipe.zscore(self._keys.withdrawn(job.account), job)
            pipe.time()
            replies: list[Any] = [_value(r) for r in pipe.execute(raise_on_error=False)]
        seconds, micros = replies.pop()
        now = int(seconds) * 1000 + int(micros) // 1000
        records: list[JobRecord | None] = []
        for index, job in enumerate(jobs):
            request, fields, cancel, retry, queued, withdrawn = replies[index * 6 : index * 6 + 6]
            submitted = queued if queued is not None else withdrawn
            stored = Stored(request, fields, _number(cancel), _number(retry), _number(submitted))
            records.append(compose(job, stored, now) if stored.exists else None)
        return records

    def record(self, job: JobId) -> JobRecord:
        """One job's record.

        Raises:
            UnknownJob: there is none of this id, or its retention ended.
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
            body = self._redis.get(self._keys.request(job))
        if body is None:
            raise UnknownJob(f"no job {job}; it never was, or its time to be kept ended")
        return self._parsed(job, str(body))

    @staticmethod
    def _parsed(job: JobId, body: str) -> Request:
        try:
            return parse_request(body)
        except ValidationError:
            raise UsageError(
                f"the request of job {job} cannot be read: it was written by hand or by another "
                "version; submit it again"
            ) from None

    def newest(
        self, state: State | None, keep: Callable[[JobRecord], bool], limit: int
    ) -> list[JobRecord]:
        """Jobs in a state (or all), newest first, that ``keep`` accepts; at most ``limit``."""
        found: list[JobRecord] = []
        seen: set[str] = set()
        with reaching(self._url):
            for page in _pages(self._merged(self._indexes(state))):
                fresh = [JobId(job) for job in page if job not in seen]
                seen.update(fresh)
                for record in self.read(fresh):
                    if record is None or (state is not None and record.state is not state):
                        continue
                    if keep(record):
                        found.append(record)
                        if len(found) >= limit:
                            return found
        return found

    def _indexes(self, state: State | None) -> list[str]:
        accounts = sorted(str(a) for a in self._redis.smembers(self._keys.accounts))
        indexes = [self._keys.state(s) for s in State if state in {None, s}]
        if state in {None, State.QUEUED}:
            indexes += [self._keys.queued(a) for a in accounts]
        if state in {None, State.CANCELLED}:
            indexes += [self._keys.withdrawn(a) for a in accounts]
        return indexes

    def _merged(self, indexes: Iterable[str]) -> Iterator[str]:
        """Members of several sorted sets, highest score first."""
        for _, job in heapq.merge(*map(self._descending, indexes), reverse=True):
            yield job

    def _descending(self, index: str) -> Iterator[tuple[float, str]]:
        start = 0
        while True:
            pipe = self._redis.pipeline(transaction=False)
            pipe.zrange(index, start, start + PAGE - 1, desc=True, withscores=True)
            page: Any = _value(pipe.execute(raise_on_error=False)[0]) or []
            for job, score in page:
                yield score, job
            if len(page) < PAGE:
                return
            start += PAGE

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


def _pages(items: Iterator[str]) -> Iterator[list[str]]:
    page: list[str] = []
    for item in items:
        page.append(item)
        if len(page) >= PAGE:
            yield page
            page = []
    if page:
        yield page


def _streams(reply: Any) -> list[Any]:
    """Entries per stream of an XREAD reply, in either protocol version's shape."""
    if not reply:
        return []
    if isinstance(reply, dict):
        # RESP3 wraps each stream's entries in a list of its own.
        return [v[0] if v and isinstance(v[0], list) else v for v in reply.values()]
    return [entries for _, entries in reply]


def _value(reply: Any) -> Any:
    """A reply; what an account wrote as another type than it should is as good as absent."""
    if isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE"):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


def _number(value: Any) -> int | None:
    """A time that an account wrote, as far as it can be one. Unit: ms."""
    try:
        number = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < LATEST_MS else None
