"""What a worker does when a bell rings: claim, have the work done, finish."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

import redis
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from transship.errors import (
    HandedBack,
    LeaseLost,
    NotAllowed,
    PushCancelled,
    PushError,
    RegistryPaused,
    UnknownJob,
)
from transship.ledger.connection import plain
from transship.ledger.notifications import Bell, Doorbell
from transship.model.jobs import JobId, Kind, State
from transship.model.records import ErrorInfo, Progress
from transship.model.request_fields import request_problem
from transship.model.requests import newer, parse_request
from transship.model.stored_text import TOO_LONG
from transship_config import __version__
from transship_config.errors import TransshipError
from transship_config.settings import Settings
from transship_worker.jobs.claim_results import Answer, Body, Claim, ClaimResult, Finished, Found
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.control import Control
from transship_worker.jobs.handler import Accepted, NotHere, Outcome, Work
from transship_worker.jobs.heartbeat import Heart
from transship_worker.jobs.retry import Backoff
from transship_worker.jobs.sweep import Due

if TYPE_CHECKING:
    from transship.model.requests import Request

logger = logging.getLogger("transship.worker")

#: Held while a request is read and parsed that is longer than most, by one thread of the process.
_LARGE: Final = threading.Lock()
#: How long an outcome is offered to a Redis that does not answer. Unit: s.
FINISH_PATIENCE_S = 3600.0
#: The same while the worker stops. Unit: s.
STOPPING_PATIENCE_S = 3.0


class JobFailure(Exception):
    """Ends a doorbell whose job failed, so that Celery and Flower show it as failed."""


class JobPostponed(Exception):
    """Ends a doorbell whose job goes on: again in ``delay_s``, or with another worker."""

    def __init__(self, message: str, delay_s: float) -> None:
        super().__init__(message)
        self.delay_s = delay_s


@dataclass(frozen=True, slots=True)
class Tools:
    """What a runner works with; made once, when the worker starts."""

    settings: Settings
    claims: Claims
    heart: Heart
    #: How a kind of job is done; ``None``: not by this worker.
    work: Callable[[Kind], Work | None]
    doorbell: Doorbell
    #: Set when the worker was told to stop.
    stopping: threading.Event
    #: Accounts that may write to a target; ``None``: all may.
    writers: Callable[[str], Collection[str] | None] = lambda _: None


class Runner:
    """Answers doorbells, in as many threads as the worker has slots."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._backoff = Backoff.of(tools.settings)

    def answer(self, text: str) -> str:
        """Do what a bell asks for; returns one line for the log and Flower.

        A bell with nothing to do says why and changes nothing, whoever rang it.

        Raises:
            JobFailure: the job failed (now, or already).
            JobPostponed: the attempt failed and will be repeated.
        """
        claims = self._tools.claims
        try:
            job = JobId.parse(text)
        except UnknownJob as error:
            claims.count_refused("bad_id")
            return f"refused: {error}"
        body = claims.read(job)
        if body.found is Found.LARGE:
            # What several slots parse at once would add up.
            with _LARGE:
                body = claims.read(job, whole=True)
                found = _parsed(body, in_a_thread=True)
        else:
            found = _parsed(body)
        if isinstance(found, _Problem):
            return self._unread(job, body, found)
        return self._answer(job, found)

    def _unread(self, job: JobId, body: Body, problem: _Problem) -> str:
        """What is done with a job without a request that this worker can read."""
        claims = self._tools.claims
        if body.found is Found.UNKNOWN:
            claims.count_refused("unknown_job")
            return "nothing to do: no such job"
        if body.found is Found.READING:
            return f"nothing to do: {body.worker} reads its request"
        if body.found is Found.LOST:
            return self._give_up(job, body)
        if problem.newer is not None:
            return self._leave_to_newer(job, problem.newer)
        return self._reject(job, problem.code, problem.message)

    def _give_up(self, job: JobId, body: Body) -> str:
        """Nobody reads again what each reader did not outlive."""
        message = f"{body.count} worker(s) went silent while they read its request"
        if self._tools.claims.give_up(job, body):
            logger.warning("given up: %s", message, extra={"job": job})
        raise JobFailure(f"worker_lost: {message}")

    def _leave_to_newer(self, job: JobId, what: str) -> str:
        """While a fleet is upgraded, its older workers hear of what only the newer ones can do."""
        self._tools.claims.leave(job)
        self._tools.claims.count_refused("newer_request")
        logger.info("left to a newer worker: a %s", what, extra={"job": job})
        return f"left to a newer worker: a {what}, which this one ({__version__}) cannot read"

    def _reject(self, job: JobId, code: str, message: str) -> str:
        problem = ErrorInfo(code=code, message=message, retryable=False)
        if self._tools.claims.reject(job, problem):
            self._tools.claims.count_refused(code)
            logger.warning("request refused: %s", problem.message, extra={"job": job})
        raise JobFailure(f"{problem.code}: {problem.message}")

    def _refuse(self, job: JobId, request: Request, error: NotAllowed) -> str:
        """End a job that its account may not have done; no attempt is counted."""
        problem = ErrorInfo(code=error.code, message=error.message, retryable=False)
        refused = self._tools.claims.refuse(job, request, problem)
        if refused.accepted:
            logger.warning("request refused: %s", problem.message, extra={"job": job})
            self._ring_next(refused.ring)
            self.ring(refused.more)
        raise JobFailure(f"{problem.code}: {problem.message}")

    def _answer(self, job: JobId, request: Request) -> str:
        tools = self._tools
        work = tools.work(Kind(request.kind))
        if work is None:
            tools.claims.defer(job, request)
            return f"left to another worker: this one does no work of the kind {request.kind}"
        try:
            accepted = work.accept(request, job.account)
        except NotHere as reason:
            tools.claims.defer(job, request)
            return str(reason)
        except NotAllowed as error:
            return self._refuse(job, request, error)
        if tools.stopping.is_set():
            # Taken before the signal: what this worker would only hand back, another runs.
            tools.claims.unread(job)
            self._ring_next(job)
            return "left to another worker: this one stops"
        # The lease counts from before the claim, so that Redis's never ends before ours.
        asked = time.monotonic()
        result = tools.claims.claim(
            job,
            request,
            engine=accepted.engine,
            flavor=accepted.flavor,
            labels=accepted.rights.labels,
            writers=tools.writers(request.target(job)),
        )
        if result.claim is None:
            if result.answer is Answer.CLUTTERED:
                tools.claims.defer(job, request)
            return self._no_claim(job, result)
        control = Control(
            tools.claims,
            result.claim,
            lease_s=tools.settings.lease - (time.monotonic() - asked),
            deadline_s=request.deadline_s,
            stall_s=tools.settings.stall,
        )
        return self._run(result.claim, request, work, accepted, control)

    def _no_claim(self, job: JobId, result: ClaimResult) -> str:
        if result.answer is Answer.FINAL:
            self._ring_next(result.ring)
            if result.detail == State.FAILED and result.error is not None:
                # Never a success in Flower for a job that failed, however often it is rung.
                raise JobFailure(f"{result.error.code}: {result.error.message}")
            return f"nothing to do: already {result.detail}"
        if result.answer is Answer.CANCELLED:
            self._ring_next(JobId(result.detail) if result.detail else None)
            logger.info("cancelled before it ran", extra={"job": job})
            return "cancelled before it ran"
        reasons = {
            Answer.UNKNOWN: "nothing to do: no such job",
            Answer.RUNNING: f"nothing to do: {result.detail} runs it",
            Answer.NOT_DUE: "nothing to do: its next attempt is not due yet",
            Answer.CLUTTERED: "waits: entries before it that are no jobs are being removed",
            Answer.BEHIND: f"waits behind {result.detail or 'others'}, for the same target",
        }
        return reasons[result.answer]

    def _run(
        self,
        claim: Claim,
        request: Request,
        work: Work,
        accepted: Accepted,
        control: Control,
    ) -> str:
        logger.info("attempt %d: %s", claim.attempt, request.display, extra={"job": claim.job})
        with self._tools.heart.beating(control):
            outcome = self._outcome(claim, request, work, accepted, control)
            claim = control.claim
            # Out of the reach of what was caught: an error that is raised beside another shows
            # both, and the other one may hold a secret. Flower has the whole traceback.
            if isinstance(outcome, TransshipError):
                message = accepted.redacted(outcome.message)
                return self._ended(claim, outcome, message, control.last_progress)
            finished = self._finish(
                lambda: self._tools.claims.succeed(
                    claim,
                    digest=outcome.digest,
                    skipped=outcome.skipped,
                    progress=control.last_progress,
                    warnings=control.warnings,
                )
            )
        return self._report(claim, finished, outcome.line)

    def _outcome(
        self, claim: Claim, request: Request, work: Work, accepted: Accepted, control: Control
    ) -> Outcome | TransshipError:
        """Do the work; what it came to, or why it did not."""
        job = {"job": claim.job}
        try:
            return work.run(claim, request, accepted, control)
        except TransshipError as error:
            return (control.stopped if _is_echo(error, control) else error) or error
        except Exception as error:  # noqa: BLE001 - custom flavors may raise anything
            if control.stopped is not None:
                # What a line that is cut makes of a call is no defect of the call's.
                logger.debug("stopped: %s", accepted.redacted(plain(error)), extra=job)
                return control.stopped
            # An unknown error is a defect: it ends the job, is never retried, and its
            # traceback stands in the worker's log.
            trace = accepted.redacted(traceback.format_exc())
            logger.error("unexpected error", extra=job | {"traceback": trace})  # noqa: TRY400
            return PushError(f"{type(error).__name__}: {plain(error)}")

    def _ended(self, claim: Claim, error: TransshipError, message: str, progress: Progress) -> str:
        """Give the ledger the outcome of an attempt that did not succeed.

        ``message`` is the error's, without secrets.
        """
        claims = self._tools.claims
        job = {"job": claim.job}
        if isinstance(error, LeaseLost):
            logger.warning("given up: %s", message, extra=job)
            raise JobPostponed(f"given up: {message}", 0)
        if isinstance(error, PushCancelled):
            return self._report(
                claim, self._finish(lambda: claims.cancelled(claim, progress=progress)), "cancelled"
            )
        if isinstance(error, HandedBack):
            delay_s = error.retry_after_s or 0
            finished = self._finish(
                lambda: claims.release(claim, message, delay_s=delay_s, progress=progress)
            )
            raise JobPostponed(self._report(claim, finished, "handed back to the queue"), delay_s)
        info = ErrorInfo(code=error.code, message=message, retryable=error.retryable)
        line = f"{info.code}: {info.message}"
        if not error.retryable:
            finished = self._finish(lambda: claims.fail(claim, info, progress=progress))
            self._report(claim, finished, line, level=logging.ERROR)
            raise JobFailure(line)
        after = error.retry_after_s if isinstance(error, PushError) else None
        if isinstance(error, RegistryPaused):
            return self._paused(claim, info, after or 0, progress)
        delay_s = self._backoff.delay_s(claim.attempt, after)
        finished = self._finish(lambda: claims.try_later(claim, info, delay_s, progress=progress))
        if finished.state is State.RETRYING:
            message = f"attempt {claim.attempt} failed ({line}); the next in {delay_s:.0f} s"
            logger.warning("%s", message, extra=job)
            raise JobPostponed(message, delay_s)
        self._report(claim, finished, line, level=logging.ERROR)
        if finished.state is State.FAILED:
            raise JobFailure(line)
        return f"{finished.state or 'given up'} after: {line}"

    def _paused(self, claim: Claim, info: ErrorInfo, delay_s: float, progress: Progress) -> str:
        """Wait without an attempt: the whole fleet is not to ask the registry until then."""
        finished = self._finish(
            lambda: self._tools.claims.pause(claim, info, delay_s, progress=progress)
        )
        line = f"waits {delay_s:.0f} s: {info.message}"
        self._report(claim, finished, line)
        if finished.state is State.RETRYING:
            raise JobPostponed(line, delay_s)
        return f"{finished.state or 'given up'} instead of waiting: {info.message}"

    def _finish(self, finish: Callable[[], Finished]) -> Finished:
        """Offer an outcome to the ledger until Redis takes it; a repeated one is no second.

        Given up at last, the job's lease ends and another attempt finds the image there.
        """
        end = time.monotonic() + FINISH_PATIENCE_S
        wait = 0.1
        while True:
            try:
                return finish()
            except redis.RedisError as error:
                if self._tools.stopping.is_set():
                    end = min(end, time.monotonic() + STOPPING_PATIENCE_S)
                if time.monotonic() + wait > end:
                    logger.error("the outcome cannot be written: %s", plain(error))  # noqa: TRY400
                    return Finished(accepted=False, state=None, ring=None)
                time.sleep(wait)
                wait = min(2.0, wait * 2)

    def _report(
        self, claim: Claim, finished: Finished, line: str, *, level: int = logging.INFO
    ) -> str:
        job = {"job": claim.job}
        if not finished.accepted:
            logger.warning("outcome refused, another worker has the job: %s", line, extra=job)
            raise JobPostponed(f"refused, another worker has the job: {line}", 0)
        logger.log(level, "%s", line, extra=job)
        if not finished.replicated:
            logger.warning(
                "not_replicated: fewer than %d replica(s) acknowledged this end; a failover may "
                "forget it, and the job would run again",
                self._tools.settings.wait_replicas,
                extra=job,
            )
        self._ring_next(finished.ring)
        self.ring(finished.more)
        return line

    def ring(self, due: Sequence[Due]) -> None:
        """Ring for jobs of a migration; if that fails, the reaper does."""
        try:
            self._tools.doorbell.ring(
                Bell(one.job, one.queue, one.display or one.job, one.attempt) for one in due
            )
        except (redis.RedisError, OperationalError, OSError) as error:
            self._tools.doorbell.close()
            logger.debug("no bells for %d jobs: %s", len(due), plain(error))

    def _ring_next(self, job: JobId | None) -> None:
        """Ring for the next job of a target; if that fails, the reaper does."""
        if job is None:
            return
        try:
            queue, display = self._tools.claims.queue_of(job)
            self._tools.doorbell.ring([Bell(job, queue, display, again=True)])
        except (redis.RedisError, OperationalError, OSError) as error:
            self._tools.doorbell.close()
            logger.debug("no bell for %s: %s", job, plain(error))


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why this worker has no request; nothing of pydantic's error, which holds all that it read."""

    code: str = "invalid_request"
    message: str = "the request is no text"
    #: What only a newer version can read.
    newer: str | None = None


def _parsed(body: Body, *, in_a_thread: bool = False) -> Request | _Problem:
    """The request of a body, or what is wrong with it."""
    if body.found is Found.LONG:
        message = f"the request has {body.count} bytes and was not read: {TOO_LONG}"
        return _Problem("request_too_long", message)
    if body.found is not Found.READ:
        return _Problem()
    if in_a_thread:
        # Always in the same one: the C library keeps memory for each thread that asked for much.
        return _parser().submit(_parse, body.text).result()
    return _parse(body.text)


def _parse(text: str) -> Request | _Problem:
    try:
        return parse_request(text)
    except ValidationError as error:
        if (what := newer(text)) is not None:
            return _Problem(newer=what)
        return _Problem(message=str(request_problem(error)))


@cache
def _parser() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="large-requests")


def _is_echo(error: TransshipError, control: Control) -> bool:
    """Whether an error only came about because the control stopped the job."""
    return control.stopped is not None and isinstance(error, PushError)
