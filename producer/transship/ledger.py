"""The producer's side of the ledger: submit, read, list, cancel, retry.

The ledger in Redis is the truth about jobs. A producer writes only under its own account's
prefix; state is the workers' to write. Every call raises ``RedisUnreachable`` when Redis does
not answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import redis
from pydantic import ValidationError

from transship.connection import reaching
from transship.view import Stored, compose
from transship_config.component import Fleet, WorkerView
from transship_config.errors import NotYours, UnknownJob, UsageError
from transship_config.job import JobEvent, JobId, JobRecord, State
from transship_config.keys import Keys
from transship_config.request import parse_request

if TYPE_CHECKING:
    from transship_config.request import Request

#: A job that nobody claimed within this is rung again by the reaper. Unit: ms.
FIRST_RING_MS = 10_000
#: How long a wish to cancel is kept if no worker ever sees it. Unit: s.
KEEP_WISH_S = 30 * 24 * 3600
#: Times from here on are no times: the year 5138. Unit: ms.
LATEST_MS = 10**14
#: Jobs read in one round trip while listing.
PAGE = 200
#: Requests written in one round trip.
BATCH = 500


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of one request."""

    job: JobId
    #: An equal job was still queued; this is it, and nothing was written.
    deduplicated: bool


def read_script(package: str, name: str) -> str:
    """The text of a Lua script that is shipped in a package's ``lua`` folder."""
    return (resources.files(package) / "lua" / f"{name}.lua").read_text("utf-8")


class Ledger:
    """Reads and writes jobs as one producer account."""

    def __init__(self, client: redis.Redis, keys: Keys, account: str, url: str) -> None:
        self._redis = client
        self._keys = keys
        self._account = account
        self._url = url
        self._submit = client.register_script(read_script("transship", "submit"))
        self._cancel = client.register_script(read_script("transship", "cancel"))
        self._retry = client.register_script(read_script("transship", "retry"))

    @property
    def account(self) -> str:
        """The Redis account that it writes as."""
        return self._account

    def submit(
        self, requests: Sequence[Request], ids: Sequence[JobId] | None = None
    ) -> list[Submitted]:
        """Write requests in their order; an equal one still queued is returned instead.

        ``ids``: their names, of this account, where something was written under them before.
        """
        names = ids or [JobId.new(self._account) for _ in requests]
        found: list[Submitted] = []
        with reaching(self._url):
            for start in range(0, len(requests), BATCH):
                chunk = slice(start, start + BATCH)
                pipe = self._redis.pipeline(transaction=False)
                for request, job in zip(requests[chunk], names[chunk], strict=True):
                    self._submit(args=self._submit_args(request, job), client=pipe)
                found += [Submitted(JobId(job), bool(int(same))) for job, same, _ in pipe.execute()]
        return found

    def _submit_args(self, request: Request, job: JobId) -> list[str | int]:
        return [
            self._keys.account(self._account),
            self._keys.accounts,
            self._account,
            job,
            request.to_stored(),
            request.queue,
            request.target(job),
            request.fingerprint(),
            request.expires_s * 1000,
            FIRST_RING_MS,
        ]

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

    def cancel(self, job: JobId) -> Request:
        """Write the wish to cancel one of this account's jobs."""
        self._check_own(job, "cancel")
        request = self.request(job)
        with reaching(self._url):
            self._cancel(
                args=[
                    self._keys.account(self._account),
                    job,
                    request.queue,
                    KEEP_WISH_S,
                    request.target(job),
                ]
            )
        return request

    def retry(self, job: JobId) -> Request:
        """Write the wish to try one of this account's final jobs again."""
        self._check_own(job, "retry")
        request = self.request(job)
        with reaching(self._url):
            self._retry(args=self._retry_args(job, request))
        return request

    def retry_many(self, jobs: Sequence[JobId]) -> list[tuple[JobId, Request]]:
        """The same for many jobs in few round trips; those whose request is gone are left out."""
        asked: list[tuple[JobId, Request]] = []
        with reaching(self._url):
            for start in range(0, len(jobs), BATCH):
                chunk = jobs[start : start + BATCH]
                for job in chunk:
                    self._check_own(job, "retry")
                bodies: Any = self._redis.mget([self._keys.request(job) for job in chunk])
                pipe = self._redis.pipeline(transaction=False)
                for job, body in zip(chunk, bodies, strict=True):
                    if body is None:
                        continue
                    request = self._parsed(job, str(body))
                    self._retry(args=self._retry_args(job, request), client=pipe)
                    asked.append((job, request))
                pipe.execute()
        return asked

    def _retry_args(self, job: JobId, request: Request) -> list[str | int]:
        return [
            self._keys.account(self._account),
            job,
            request.queue,
            request.target(job),
            FIRST_RING_MS,
            self._keys.job(job),
        ]

    def _check_own(self, job: JobId, verb: str) -> None:
        if job.account != self._account:
            raise NotYours(
                f"job {job} was submitted by account {job.account!r}; account "
                f"{self._account!r} can read it, not {verb} it"
            )

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
