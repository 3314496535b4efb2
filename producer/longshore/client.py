"""The producer: what a pipeline holds to enqueue pushes and to see them arrive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from longshore.connection import address, connect, plain, reaching, redis_url
from longshore.job import Job
from longshore.ledger import Ledger
from longshore_config.component import Fleet, not_under_registry
from longshore_config.errors import UnknownEngine, UsageError
from longshore_config.job import (
    DEFAULT_DEADLINE_S,
    DEFAULT_EXPIRES_S,
    JobId,
    JobRecord,
    PushRequest,
    State,
    request_problem,
)
from longshore_config.keys import Keys
from longshore_config.reference import ImageReference
from longshore_config.settings import Settings, settings_with_url

if TYPE_CHECKING:
    from longshore.doorbell import Bell, Doorbell
    from longshore_config.request import Request

logger = logging.getLogger("longshore")

NO_WORKER = "no worker is alive; the job waits until one starts (`longshore worker`)"

NO_ENGINE = "no live worker has a Docker Engine; the job waits until one does"


@dataclass(frozen=True, slots=True)
class Push:
    """One push to ask for; the arguments of ``Client.push``."""

    image: str
    registry: str | None = None
    source: str | None = None
    engine: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    bulk: bool = False
    #: Unit: s.
    deadline: int | None = None
    #: Unit: s.
    expires: int | None = None


class Client:
    """Enqueues pushes and reads jobs. Safe to share between threads; close it, or use ``with``.

    The queue is found at ``redis_url``, else at ``LONGSHORE_REDIS_URL``, else where
    ``longshore up`` runs on this machine.

    Raises:
        InvalidSettings: a ``LONGSHORE_*`` variable or the URL cannot be used.
    """

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None) -> None:
        settings = settings or Settings.from_environment()
        self._settings = settings_with_url(settings, _resolve(settings, redis_url))
        self._url = self._settings.redis_url.get_secret_value()
        self._redis = connect(self._url)
        self._keys = Keys(self._settings.namespace)
        self._ledger = Ledger(self._redis, self._keys, self._settings.account, self._url)
        self._doorbell: Doorbell | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({address(self._url)!r})"

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._doorbell is not None:
                self._doorbell.close()
                self._doorbell = None
        self._redis.close()

    def push(
        self,
        image: str,
        *,
        registry: str | None = None,
        source: str | None = None,
        engine: str | None = None,
        labels: Mapping[str, str] | None = None,
        bulk: bool = False,
        deadline: int | None = None,
        expires: int | None = None,
    ) -> Job:
        """Enqueue one push and return its job at once.

        Args:
            image: the target reference; without a tag, ``latest``.
            registry: the component's name; may be left out when exactly one published URI
                covers the image.
            source: a local image (name or id) to tag as ``image`` first.
            engine: the Docker Engine that has the image; may be left out when all live workers
                push from the same one.
            labels: free text to find the job by.
            bulk: use the slots of bulk work, which never delay interactive pushes.
            deadline: seconds that one attempt may run (6 h when left out).
            expires: seconds that the job may wait for its start (24 h when left out).

        Raises:
            UsageError: bad input, an unknown component or engine; nothing was enqueued.
            RedisUnreachable: nothing is known to have been enqueued.
        """
        one = Push(image, registry, source, engine, labels or {}, bulk, deadline, expires)
        return self.push_many([one])[0]

    def push_many(self, pushes: Iterable[Push]) -> list[Job]:
        """Enqueue many pushes in few round trips; their jobs come back in the same order.

        All are checked before the first is written.

        Raises:
            UsageError: bad input; nothing was enqueued.
            RedisUnreachable: some may have been enqueued.
        """
        pushes = list(pushes)
        if not pushes:
            return []
        # Before Redis is asked: bad input is bad input whether it answers or not.
        for push in pushes:
            _check(push)
        fleet = self.fleet()
        requests = [_request(push, fleet) for push in pushes]
        warnings: tuple[str, ...] = () if fleet.workers else (NO_WORKER,)
        if fleet.workers and not fleet.engines:
            warnings = (NO_ENGINE,)
        submitted = self._ledger.submit(requests)
        bells = [
            (job.job, request)
            for job, request in zip(submitted, requests, strict=True)
            if not job.deduplicated
        ]
        warnings += self._ring(bells)
        return [
            Job(
                self._ledger,
                self._ring_one,
                job.job,
                deduplicated=job.deduplicated,
                warnings=warnings,
            )
            for job in submitted
        ]

    def job(self, job_id: str) -> Job:
        """The handle on a job that exists.

        Raises:
            UnknownJob: there is none of this id.
        """
        job = Job(self._ledger, self._ring_one, JobId.parse(job_id))
        job.record()
        return job

    def jobs(
        self,
        *,
        state: State | None = None,
        registry: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
    ) -> list[JobRecord]:
        """Jobs, newest first. By state they are found by an index; other filters look at each."""
        wanted = dict(labels or {})

        def keep(record: JobRecord) -> bool:
            return (registry is None or record.registry == registry) and (
                wanted.items() <= record.labels.items()
            )

        return self._ledger.newest(state, keep, limit)

    def records(self, jobs: Iterable[Job]) -> list[JobRecord]:
        """The records of many jobs in one round trip; one whose retention ended is left out."""
        found = self._ledger.read([job.id for job in jobs])
        return [record for record in found if record is not None]

    def fleet(self) -> Fleet:
        """All live workers and the components they publish."""
        return self._ledger.fleet()

    def redis_info(self) -> dict[str, Any]:
        """Facts about the Redis server: version, persistence, eviction policy, memory."""
        with reaching(self._url):
            info: dict[str, Any] = self._redis.info()
        return {
            "address": address(self._url),
            "version": info.get("valkey_version") or info.get("redis_version"),
            "append_only": bool(info.get("aof_enabled")),
            "eviction_policy": info.get("maxmemory_policy"),
            "used_memory": info.get("used_memory"),
            "max_memory": info.get("maxmemory"),
        }

    def _ring_one(self, job: JobId, request: Request) -> None:
        self._ring([(job, request)], again=True)

    def _ring(
        self, rung: Sequence[tuple[JobId, Request]], *, again: bool = False
    ) -> tuple[str, ...]:
        """Ring for jobs; a broker that fails costs only time, because the reaper rings again."""
        # Celery and kombu are loaded when the first bell rings, not on import.
        from kombu.exceptions import OperationalError
        from redis.exceptions import RedisError

        from longshore.doorbell import Bell, Doorbell

        bells: list[Bell] = [Bell.of(job, request, again=again) for job, request in rung]
        with self._lock:
            if self._doorbell is None:
                self._doorbell = Doorbell(self._settings, self._url)
            try:
                self._doorbell.ring(bells)
            except (OperationalError, RedisError, OSError) as error:
                self._doorbell.close()
                logger.warning("the bell did not ring: %s", plain(error))
                return ("the job is written, but no worker could be told; one looks within 10 s",)
        return ()


def _resolve(settings: Settings, url: str | None) -> str:
    return redis_url(settings if url is None else settings_with_url(settings, url))


def _check(push: object) -> None:
    """Refuse what cannot be a push, without knowing any component."""
    if not isinstance(push, Push):
        raise UsageError(f"push_many takes longshore.Push objects, not {type(push).__name__}")
    if not isinstance(push.image, str):
        raise UsageError(f"image must be text such as host/repository:tag, not {push.image!r}")
    if not isinstance(push.labels, Mapping):
        raise UsageError(f"labels must be a mapping of names to texts, not {push.labels!r}")
    for name, value in push.labels.items():
        if not isinstance(value, str):
            raise UsageError(f"labels: the value of {name!r} must be text: write '{value}'")
    ImageReference.parse(push.image)


def _request(push: Push, fleet: Fleet) -> PushRequest:
    """A request with its component and engine settled as far as the live workers tell."""
    image = ImageReference.parse(push.image)
    if push.registry is not None:
        name = push.registry
        if fleet.workers:
            component = fleet.component(name)
            if not component.covers(image.tagged):
                raise UsageError(not_under_registry(push.image, component))
    elif fleet.workers:
        name = fleet.covering(image).name
    else:
        raise UsageError(
            f"which component is {image} for? No worker is alive to tell; name it with --registry"
        )
    try:
        return PushRequest(
            image=image,
            registry=name,
            source=push.source,
            engine=_engine(push.engine, fleet),
            labels=dict(push.labels),
            bulk=push.bulk,
            deadline_s=DEFAULT_DEADLINE_S if push.deadline is None else push.deadline,
            expires_s=DEFAULT_EXPIRES_S if push.expires is None else push.expires,
        )
    except ValidationError as error:
        raise request_problem(error) from None


def _engine(wanted: str | None, fleet: Fleet) -> str | None:
    engines = fleet.engines
    if wanted is not None:
        if fleet.workers and wanted not in engines:
            raise UnknownEngine(
                f"no live worker pushes from engine {wanted!r}; engines with workers: "
                f"{', '.join(engines) or 'none'}"
            )
        return wanted
    if len(engines) > 1:
        raise UnknownEngine(
            f"live workers push from several engines: {', '.join(engines)}; "
            "choose the one that has the image with --engine"
        )
    return engines[0] if engines else None
