"""The worker's side of the ledger: claim, report, finish, and what the reaper needs.

Each operation is one Lua script, so that it happens whole or not at all, by Redis's clock. A
claim is known by a counter and a random token: a Redis that lost its last second could hand
out the same counter twice, never the same token.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import redis

from transship.ledger.keys import Keys
from transship.ledger.replication import WAIT_MS
from transship.ledger.scripts import read_script
from transship.model.jobs import JobId, State, Via
from transship.model.records import ErrorInfo, Progress
from transship.model.request_fields import LONGEST_S
from transship.model.requests import MIGRATION_HEAD
from transship.model.stored_text import REQUEST, SPECIFICATION
from transship_config.lanes import queue_name
from transship_config.settings import Settings
from transship_worker.jobs.claim_results import (
    Answer,
    Body,
    Claim,
    ClaimResult,
    Finished,
    Found,
    Row,
)
from transship_worker.jobs.sweep import SWEEP_SCRIPTS, Due, Sweep, Swept, dues

if TYPE_CHECKING:
    from transship.model.requests import Request

#: Between two bells for a job that this worker must leave to another: at least, at most. Unit: ms.
DEFER_LEAST_MS, DEFER_MOST_MS = 1_000, 60_000
#: How long the mark of a worker that died while it read a request is kept: longer than a lease and
#: the longest time between two bells. Unit: ms.
READING_KEPT_MS = 24 * 3600 * 1000
#: How often a claim goes on to look for its job among what the account wrote before it: each time,
#: 500 entries that are no jobs are removed.
CLAIM_ROUNDS = 20
#: Queues of engines that are looked after.
LISTENING_MOST = 1000
#: Jobs of one migration that are on the queue or run at once. Enough for a few workers' slots; what
#: is beyond waits in a list of its own, so that several migrations share the fleet.
WINDOW = 128
#: Jobs of one migration that may wait for their retry beside those, so that a registry that is
#: paused holds up its own images and not those for others.
POSTPONED_MOST = 7 * WINDOW


_SCRIPTS = (
    *("claim", "report", "finish", "reject", "defer", "leave", "rows", "planned"),
    *("give_up", "queue", "refuse"),
    *SWEEP_SCRIPTS,
)


class Claims:
    """Claims jobs for one worker."""

    def __init__(self, client: redis.Redis, keys: Keys, settings: Settings, worker: str) -> None:
        self._redis = client
        self._own = threading.local()
        self._keys = keys
        self._worker = worker
        self._wait_replicas = settings.wait_replicas
        self._wait_ms = min(WAIT_MS, int(settings.lease * 1000 / 12))
        self._conf = json.dumps(
            {
                "ns": keys.namespace,
                "lease": int(settings.lease * 1000),
                "attempts": settings.attempts,
                "window": WINDOW,
                "postponed": POSTPONED_MOST,
                "longest": LONGEST_S * 1000,
                "keep": {
                    State.SUCCEEDED: int(settings.keep_succeeded * 1000),
                    State.FAILED: int(settings.keep_failed * 1000),
                    State.CANCELLED: int(settings.keep_cancelled * 1000),
                },
            }
        )
        #: A worker that starts anew may have the name of the one before it.
        self._own_readings = f"{secrets.token_hex(8)}."
        self._numbers = itertools.count()
        #: What ``read`` needs each time.
        self._reading: tuple[str | int, ...] = (
            int(settings.lease * 1000),
            settings.attempts,
            READING_KEPT_MS,
            REQUEST.longest,
            MIGRATION_HEAD,
        )
        common = read_script("transship_worker.jobs", "common")
        self._scripts = {
            name: client.register_script(common + read_script("transship_worker.jobs", name))
            for name in _SCRIPTS
        } | {"read": client.register_script(read_script("transship_worker.jobs", "read"))}
        self._sweep = Sweep(self._run, self._accounts, self._listening)

    def read(self, job: JobId, *, whole: bool = False) -> Body:
        """Begin to read a request; what comes of it ends that: a claim, or ``reject`` and the like.

        Of one that is too long nothing is read: an account must not fill a worker's memory.
        ``whole``: also what is longer than ``REQUEST.longest``.
        """
        reply = self._scripts["read"](
            args=[
                self._keys.request(job),
                self._keys.reading(job),
                self._keys.job(job),
                f"{self._own_readings}{next(self._numbers)}",
                self._worker,
                *self._reading,
                SPECIFICATION.longest if whole else 0,
            ],
            client=self._line,
        )
        found = Found(reply[0])
        if found is Found.READ:
            return Body(found, text=str(reply[1]))
        if found is Found.LONG:
            return Body(found, count=int(reply[1]))
        if found is Found.LOST:
            return Body(found, count=int(reply[1]), worker=str(reply[2]))
        return Body(found, worker=str(reply[1]) if len(reply) > 1 else "")

    def unread(self, job: JobId) -> None:
        """End the reading of a request of which nothing comes."""
        self._line.delete(self._keys.reading(job))

    def give_up(self, job: JobId, body: Body) -> bool:
        """End a job whose readers went silent; whether it was not final yet."""
        return bool(self._run("give_up", job, body.count, body.worker))

    def queue_of(self, job: JobId) -> tuple[str, str]:
        """The queue that a job waits in, and what Flower shows of it; no request is read for it."""
        queue, display = self._run("queue", job)
        return str(queue), str(display) or str(job)

    def claim(
        self,
        job: JobId,
        request: Request,
        *,
        engine: str,
        flavor: str,
        labels: Mapping[str, str] = MappingProxyType({}),
        writers: Collection[str] | None = None,
    ) -> ClaimResult:
        """Claim a job for this worker, or learn why not.

        ``labels``: those that its account gives each of its jobs. ``writers``: accounts that may
        write to its target, whose jobs alone it waits for or gives way to; ``None``: all may.
        """
        token = secrets.token_hex(16)
        other = request.on_behalf_of
        said = {} if other is None else {"account": other.account, "subject": other.subject}
        name, mode = getattr(request, "name", None), getattr(request, "mode", None)
        planning = {} if name is None else {"migration_name": name, "migration_mode": mode}
        want = json.dumps(
            {
                **planning,
                **({} if writers is None else {"writers": [job.account, *writers]}),
                "id": job,
                "queue": request.queue,
                "reference": request.target(job),
                "registry": getattr(request, "registry", ""),
                "fingerprint": request.fingerprint(),
                "expires": request.expires_s * 1000,
                "token": token,
                "worker": self._worker,
                "engine": engine,
                "flavor": flavor,
                "labels": json.dumps(dict(labels)) if labels else "",
                "on_behalf_of": json.dumps(said) if said else "",
            }
        )
        for _ in range(CLAIM_ROUNDS):
            reply = self._run("claim", want)
            if reply[0] != Answer.CLUTTERED:
                break
        answer = Answer(reply[0])
        if answer is Answer.CLAIMED:
            streams = str(reply[4]) == Via.STREAM
            since = time.monotonic() - int(reply[5]) / 1000
            claim = Claim(job, str(reply[1]), token, int(reply[2]), str(reply[3]), streams, since)
            return ClaimResult(answer, claim)
        if answer is Answer.FINAL:
            error = ErrorInfo.stored(reply[2])
            after = JobId(reply[3]) if len(reply) > 3 and reply[3] else None
            return ClaimResult(answer, detail=str(reply[1]), error=error, ring=after)
        return ClaimResult(answer, detail=str(reply[1]) if len(reply) > 1 else "")

    def report(
        self,
        claim: Claim,
        *,
        step: str | None = None,
        progress: Progress | None = None,
        warnings: list[str] | None = None,
        image_id: str | None = None,
        streams_since: str | None = None,
    ) -> tuple[bool, bool]:
        """Renew the lease and write what changed.

        ``streams_since``: why the worker streams the image from now on; readers get it as a note.

        Returns whether the claim still holds, and whether somebody asked to cancel.
        """
        changes: dict[str, str] = {}
        if step is not None:
            changes["step"] = step
        if progress is not None:
            changes["progress"] = progress.model_dump_json()
        if warnings is not None:
            changes["warnings"] = json.dumps(warnings)
        if image_id is not None:
            changes["image_id"] = image_id
        if streams_since is not None:
            changes |= {"via": Via.STREAM, "note": streams_since}
        held, cancel = self._run("report", claim.job, claim.fence, claim.token, json.dumps(changes))
        return bool(held), bool(cancel)

    def succeed(
        self,
        claim: Claim,
        *,
        digest: str,
        skipped: bool,
        progress: Progress,
        warnings: list[str],
    ) -> Finished:
        """The push arrived."""
        return self._finish(
            claim,
            {
                "kind": "succeeded",
                "digest": digest,
                "skipped": skipped,
                "progress": progress.model_dump_json(),
                "warnings": json.dumps(warnings),
            },
        )

    def fail(self, claim: Claim, error: ErrorInfo, *, progress: Progress | None = None) -> Finished:
        """The attempt ended for good."""
        return self._finish(claim, {"kind": "failed", "error": error.model_dump_json()}, progress)

    def try_later(
        self, claim: Claim, error: ErrorInfo, delay_s: float, *, progress: Progress | None = None
    ) -> Finished:
        """The attempt failed and may be repeated, if any attempt is left."""
        return self._finish(
            claim,
            {"kind": "retry", "error": error.model_dump_json(), "delay": int(delay_s * 1000)},
            progress,
        )

    def pause(
        self, claim: Claim, error: ErrorInfo, delay_s: float, *, progress: Progress | None = None
    ) -> Finished:
        """Its registry is not to be asked for a while; no attempt is counted."""
        return self._finish(
            claim,
            {"kind": "pause", "error": error.model_dump_json(), "delay": int(delay_s * 1000)},
            progress,
        )

    def cancelled(self, claim: Claim, *, progress: Progress | None = None) -> Finished:
        """The push was given up on request."""
        return self._finish(claim, {"kind": "cancelled"}, progress)

    def release(
        self,
        claim: Claim,
        message: str,
        *,
        delay_s: float = 0,
        progress: Progress | None = None,
    ) -> Finished:
        """Hand the job back, for after a while; no attempt is counted."""
        outcome = {"kind": "release", "message": message, "delay": int(delay_s * 1000)}
        return self._finish(claim, outcome, progress)

    def _finish(
        self, claim: Claim, outcome: dict[str, Any], progress: Progress | None = None
    ) -> Finished:
        # What an attempt sent since it last told of it would be forgotten with the attempt.
        if progress is not None:
            outcome["progress"] = progress.model_dump_json()
        if claim.image_id:
            outcome["image_id"] = claim.image_id
        if claim.streams:
            outcome["via"] = Via.STREAM
        args = (claim.job, claim.fence, claim.token, json.dumps(outcome))
        if self._wait_replicas:
            (word, state, after, more), acknowledged = self._run_replicated("finish", *args)
        else:
            (word, state, after, more), acknowledged = self._run("finish", *args), 0
        return Finished(
            accepted=word in {"yes", "again"},
            state=State(state) if state else None,
            ring=JobId(after) if after else None,
            more=tuple(dues(more)),
            replicated=acknowledged >= self._wait_replicas,
        )

    def refuse(self, job: JobId, request: Request, error: ErrorInfo) -> Finished:
        """End a job that its account may not have done, unless it runs or is final.

        One that is final and was asked to be tried again ends anew, for this reason.
        """
        ended, after, more = self._run(
            "refuse",
            json.dumps(
                {
                    "id": job,
                    "queue": request.queue,
                    "reference": request.target(job),
                    "registry": getattr(request, "registry", ""),
                    "fingerprint": request.fingerprint(),
                    "code": error.code,
                    "error": error.model_dump_json(),
                }
            ),
        )
        return Finished(
            accepted=bool(ended),
            state=None,
            ring=JobId(after) if after else None,
            more=tuple(dues(more)),
        )

    def reject(self, job: JobId, error: ErrorInfo) -> bool:
        """Make a request final that no worker can run; whether it was not final yet."""
        queue = queue_name(bulk=False, engine=None)
        return bool(self._run("reject", job, queue, error.model_dump_json()))

    def defer(self, job: JobId, request: Request) -> None:
        """Have it rung again soon, for a worker that can do what this one cannot."""
        self._run("defer", job, request.queue, DEFER_LEAST_MS, DEFER_MOST_MS)

    def leave(self, job: JobId) -> None:
        """The same for a job whose request only a newer worker can read.

        Where nothing says when it expires, it does at last, so that no claim of a version that
        nobody has keeps a job for ever.
        """
        self._run("leave", job, DEFER_LEAST_MS, DEFER_MOST_MS, LONGEST_S * 1000)

    def add_rows(self, claim: Claim, rows: Sequence[Row]) -> tuple[bool, list[Due]]:
        """Make planned rows known to their migration, each once however often it is planned.

        Returns whether the claim of the planning still holds, and the jobs to ring for.
        """
        text = json.dumps([row.as_json() for row in rows])
        held, ring = self._run("rows", claim.job, claim.fence, claim.token, text)
        return bool(held), dues(ring)

    def all_planned(self, claim: Claim, fields: Mapping[str, str]) -> bool:
        """All rows of the migration are known; whether the claim still holds."""
        text = json.dumps(dict(fields))
        return bool(self._run("planned", claim.job, claim.fence, claim.token, text))

    def sweep(self) -> Swept:
        """One sweep of the reaper."""
        return self._sweep.sweep()

    def count_refused(self, reason: str) -> None:
        """Count a doorbell that was refused."""
        self._redis.hincrby(self._keys.refused, reason, 1)

    def _listening(self) -> list[str]:
        """Queues of engines that a live worker listens to."""
        seconds, _ = self._line.time()
        found: Any = self._line.zrangebyscore(
            self._keys.listening, int(seconds) * 1000, "+inf", start=0, num=LISTENING_MOST
        )
        return [str(queue) for queue in found]

    def _accounts(self) -> list[str]:
        """Accounts that workers know."""
        found: Any = self._line.smembers(self._keys.known_accounts)
        return [str(account) for account in found]

    def _run(self, script: str, *args: str | int) -> Any:
        return self._scripts[script](args=[self._conf, *args], client=self._line)

    def _run_replicated(self, script: str, *args: str | int) -> tuple[Any, int]:
        """Run a script; its reply, and how many replicas have what it wrote."""
        reply = self._run(script, *args)
        line = self._line
        connection: Any = line.connection
        written_on = connection._sock
        acknowledged = int(line.wait(self._wait_replicas, self._wait_ms))
        # On another connection WAIT would speak of what that one wrote.
        return reply, acknowledged if connection._sock is written_on else 0

    @property
    def _line(self) -> redis.Redis:
        """A connection of this thread's own.

        To lend one from the pool for each command takes as long as to encode and decode it.
        """
        try:
            return cast("redis.Redis", self._own.line)
        except AttributeError:
            line = redis.Redis(
                connection_pool=self._redis.connection_pool, single_connection_client=True
            )
            self._own.line = line
            return line
