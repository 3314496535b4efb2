"""Writing the ledger as a producer: submit, cancel, retry.

The ledger in Redis is the truth about jobs. A producer writes only under its own account's
prefix; state is the workers' to write. Every call raises ``RedisUnreachable`` when Redis does
not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import redis

from transship.errors import FunctionsMissing, NotReplicated, NotYours, SubmitInterrupted
from transship.ledger.connection import reaching
from transship.ledger.functions import Functions
from transship.ledger.keys import Keys
from transship.ledger.read import LedgerReader
from transship.ledger.replication import WAIT_MS
from transship.ledger.stored_requests import read
from transship.model.jobs import JobId
from transship.model.requests import check_stored
from transship_config.errors import UsageError

if TYPE_CHECKING:
    from transship.model.requests import Request

logger = logging.getLogger("transship")

#: A job that nobody claimed within this is rung again by the reaper. Unit: ms.
FIRST_RING_MS = 10_000
#: How long a wish to cancel is kept if no worker ever sees it. Unit: s.
KEEP_WISH_S = 30 * 24 * 3600
#: Requests written in one round trip.
BATCH = 500


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of one request."""

    job: JobId
    #: An equal job was still queued; this is it, and nothing was written.
    deduplicated: bool
    #: Whether as many replicas acknowledged it as were asked for.
    replicated: bool = True


class Ledger(LedgerReader):
    """Reads jobs, and writes them as one producer account."""

    def __init__(
        self, client: redis.Redis, keys: Keys, account: str, url: str, *, wait_replicas: int = 0
    ) -> None:
        """``wait_replicas``: those that must acknowledge a submit."""
        super().__init__(client, keys, account, url)
        self._wait_replicas = wait_replicas
        self._functions = Functions(client, keys)

    def submit(
        self, requests: Sequence[Request], ids: Sequence[JobId] | None = None
    ) -> list[Submitted]:
        """Write requests in their order; an equal one still queued is returned instead.

        ``ids``: their names, of this account, where something was written under them before. What
        is still there under a name is not written again.

        Raises:
            SubmitInterrupted: Ctrl-C; it names what was written.
        """
        names = ids or [JobId.new(self._account) for _ in requests]
        batches = [slice(start, start + BATCH) for start in range(0, len(requests), BATCH)]
        found: dict[int, list[Submitted]] = {}
        begun = 0
        try:
            with reaching(self._url):
                for number, batch in enumerate(batches):
                    begun = number + 1
                    found[number] = self._submit(requests[batch], names[batch])
        except KeyboardInterrupt:
            self._settle(requests, names, batches[:begun], found)
        return [job for number in sorted(found) for job in found[number]]

    def _submit(self, requests: Sequence[Request], names: Sequence[JobId]) -> list[Submitted]:
        """Write one batch."""
        pairs = zip(requests, names, strict=True)
        calls = [("submit", self._submit_args(request, job)) for request, job in pairs]
        replies, count = self._functions.call_replicated(calls, self._wait_replicas)
        done = count >= self._wait_replicas
        return [Submitted(JobId(job), bool(int(same)), done) for job, same, _ in replies]

    def _settle(
        self,
        requests: Sequence[Request],
        names: Sequence[JobId],
        begun: Sequence[slice],
        found: dict[int, list[Submitted]],
    ) -> NoReturn:
        """After Ctrl-C: finish the batch that was begun, and say what is written.

        Redis may have all of that batch, a part of it, or nothing, and may still be reading it.
        The same ids again write what is missing, and nothing twice.

        Raises:
            SubmitInterrupted: always.
        """
        uncertain: Sequence[JobId] = ()
        for number, batch in enumerate(begun):
            if number not in found:
                try:
                    found[number] = self._submit(requests[batch], names[batch])
                except (redis.RedisError, OSError, FunctionsMissing, KeyboardInterrupt):
                    uncertain = names[batch]
        written = [job.job for number in sorted(found) for job in found[number]]
        raise SubmitInterrupted(written, uncertain) from None

    def check_replicated(self, submitted: Sequence[Submitted], requests: Sequence[Request]) -> None:
        """See that enough replicas have what ``submit`` wrote.

        Raises:
            NotReplicated: they have not; the jobs are written, and may run.
        """
        pairs = zip(submitted, requests, strict=True)
        lacking = {one.job: request for one, request in pairs if not one.replicated}
        if lacking:
            raise NotReplicated.of(lacking, self._wait_replicas, WAIT_MS / 1000)

    def _submit_args(self, request: Request, job: JobId) -> list[str | int]:
        text = request.to_stored()
        check_stored(text)
        return [
            self._keys.account(self._account),
            self._account,
            job,
            text,
            request.queue,
            request.target(job),
            request.fingerprint(),
            request.expires_s * 1000,
            FIRST_RING_MS,
        ]

    def cancel(self, job: JobId) -> Request:
        """Write the wish to cancel one of this account's jobs."""
        self._check_own(job, "cancel")
        request = self.request(job)
        with reaching(self._url):
            self._functions.call([("cancel", self._cancel_args(job, request))])
        return request

    def retry(self, job: JobId) -> Request:
        """Write the wish to try one of this account's final jobs again."""
        self._check_own(job, "retry")
        request = self.request(job)
        with reaching(self._url):
            self._functions.call([("retry", self._retry_args(job, request))])
        return request

    def retry_many(self, jobs: Sequence[JobId]) -> list[tuple[JobId, Request]]:
        """The same for many jobs in few round trips; those whose request is gone are left out.

        So are those whose request cannot be read, which are logged.

        Raises:
            UsageError: no request of these jobs can be read, and not all of them are gone.
        """
        asked: list[tuple[JobId, Request]] = []
        unreadable: list[UsageError] = []
        with reaching(self._url):
            for start in range(0, len(jobs), BATCH):
                chunk = jobs[start : start + BATCH]
                for job in chunk:
                    self._check_own(job, "retry")
                found = []
                stored = read(self._redis, self._keys, chunk)
                for job, request in zip(chunk, stored, strict=True):
                    if request.text is None and not request.foul:
                        continue
                    try:
                        found.append((job, self._parsed(job, request)))
                    except UsageError as error:
                        unreadable.append(error)
                self._functions.call([("retry", self._retry_args(*pair)) for pair in found])
                asked += found
        if unreadable and not asked:
            raise unreadable[0]
        for problem in unreadable:
            logger.warning("not retried: %s", problem)
        return asked

    def _cancel_args(self, job: JobId, request: Request) -> list[str | int]:
        return [
            self._keys.account(self._account),
            job,
            request.queue,
            KEEP_WISH_S,
            request.target(job),
        ]

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
                f"{self._account!r} cannot {verb} it"
            )
