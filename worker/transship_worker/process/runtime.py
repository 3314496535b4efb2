"""A worker process: all its parts, started and stopped in order."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import redis

from transship.ledger.connection import connect, plain
from transship.ledger.functions import Functions
from transship.ledger.keys import Keys
from transship.ledger.notifications import Doorbell
from transship.ledger.submit import Ledger
from transship.model.components import WorkerView
from transship.model.engines import EngineInfo
from transship.model.jobs import Kind
from transship_config import __version__
from transship_config.lanes import BULK_COPY_QUEUE, COPY_QUEUE, PLAN_QUEUE, worker_queues
from transship_config.settings import Settings
from transship_worker.broker.channels import Rest
from transship_worker.broker.slots import Lane, Slots
from transship_worker.catalog import Catalog
from transship_worker.concurrency.waker import Waker
from transship_worker.fleet.lookup import recall
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.handlers.push import Pushing
from transship_worker.jobs.claims import Claims
from transship_worker.jobs.handler import Work
from transship_worker.jobs.heartbeat import Heart
from transship_worker.jobs.reaper import Reaper
from transship_worker.jobs.rights import writers_of
from transship_worker.jobs.runner import Runner, Tools
from transship_worker.jobs.sweep import FIXED_QUEUES
from transship_worker.process.file_limit import fit
from transship_worker.process.presence import Presence
from transship_worker.process.published_rights import PublishedRights
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.watch import EngineWatch

if TYPE_CHECKING:
    from transship_worker.handlers.streaming import StreamWay
    from transship_worker.process.background import Background


logger = logging.getLogger("transship.worker")

#: How often a draining worker looks whether all its jobs ended. Unit: s.
DRAIN_TICK_S = 0.1
#: How long after the grace a worker may take to stop in order. Unit: s.
LAST_RESORT_S = 15.0
#: Seconds that one reply of Redis may take, at most. Unit: s.
REPLY_TIMEOUT_S = 4.0
#: Connections to Redis for all but the threads of the slots.
OTHER_CONNECTIONS = 100
#: How long a worker that ends waits for Redis to take its leave. Unit: s.
GOODBYE_S = 5.0


def _queues_of(engine: str | None) -> dict[Lane, list[str]]:
    """The queues of each lane of a worker with this engine."""
    return {
        Lane.PUSH: worker_queues(bulk=False, engine=engine),
        Lane.BULK: worker_queues(bulk=True, engine=engine),
        Lane.COPY: [COPY_QUEUE, BULK_COPY_QUEUE],
        Lane.PLAN: [PLAN_QUEUE],
    }


class Runtime:
    """Everything one worker process holds. ``settings`` carries a settled Redis URL.

    Raises:
        InvalidSettings: the limit of open files is too low for any slot.
    """

    def __init__(self, settings: Settings, catalog: Catalog, engine: Engine | None) -> None:
        url = settings.url.get_secret_value()
        self.settings = settings
        self.catalog = catalog
        self.engine = engine
        self.name = f"transship@{socket.gethostname()}.{os.getpid()}"
        self.started_at = datetime.now(UTC)
        self.slots, self._slots_lowered = fit(
            Slots(
                interactive=settings.pushes if engine else 0,
                bulk=settings.bulk if engine else 0,
                copies=settings.copies,
            )
        )
        if self._slots_lowered:
            logger.warning("fewer slots: %s", self._slots_lowered)
        self.rest = Rest()
        self.waker = Waker()
        self.queues = _queues_of(engine.name if engine else None)
        self.draining = threading.Event()
        self._closed = threading.Event()
        self._redis = self._connected(url)
        self._keys = keys = Keys(settings.namespace)
        self._gate = EngineGate(self._redis, keys, self.name)
        self._claims = Claims(self._redis, keys, settings, self.name)
        self._doorbell = Doorbell(settings, url)
        self._reaper_bell = Doorbell(settings, url)
        self.heart = Heart()
        self.engine_watch = EngineWatch(engine) if engine else None
        self._ledger = Ledger(self._redis, keys, settings.account, url)
        self._push_work = self._pushing()
        self._background: Background | None = None
        self._background_lock = threading.Lock()
        self.runner = Runner(
            Tools(
                settings=settings,
                claims=self._claims,
                heart=self.heart,
                work=self._work,
                doorbell=self._doorbell,
                stopping=self.draining,
                writers=lambda target: writers_of(catalog.current(), target),
            )
        )
        self.presence = Presence(
            self._redis,
            keys,
            self.view,
            self._what_counts,
            queues=[
                name for names in self.queues.values() for name in names if name not in FIXED_QUEUES
            ],
            functions=Functions(self._redis, keys),
            rights=PublishedRights(self.catalog.current, keys),
        )
        self.reaper = Reaper(
            self._redis,
            keys,
            self._claims,
            self._reaper_bell,
            name=self.name,
            period_s=settings.reap,
        )

    def _connected(self, url: str) -> redis.Redis:
        return connect(
            url,
            retries=2,
            # With its retries well inside a lease, so that a hanging reply costs no job its lease.
            reply_timeout_s=min(REPLY_TIMEOUT_S, self.settings.lease / 6),
            # Each thread of a slot keeps one (``Claims``).
            connections=self.slots.threads + OTHER_CONNECTIONS,
        )

    def _pushing(self) -> Pushing | None:
        """How pushes are done here; ``None``: not at all."""
        engine = self.engine
        if engine is None:
            return None
        return Pushing(
            components=self.catalog.current,
            engine=engine,
            engine_problem=self._engine_problem,
            engine_away=self._engine_away,
            engines=lambda: self._ledger.fleet().engines or [engine.name],
            gate=self._gate,
            streams=self._streams,
            recall=partial(recall, self._redis, self._keys),
        )

    def _work(self, kind: Kind) -> Work | None:
        """How a kind of job is done here; ``None``: not at all."""
        if kind is Kind.PUSH:
            return self._push_work
        if not self.settings.copies:
            return None
        background = self._in_background()
        return background.work[kind] if background is not None else None

    def _streams(self) -> StreamWay | None:
        """What streamed pushes need."""
        background = self._in_background()
        return background.streams if background is not None else None

    def _in_background(self) -> Background | None:
        """What the background loop holds; ``None``: the worker is closed."""
        with self._background_lock:
            if self._background is None and not self._closed.is_set():
                self._background = self._make_background()
            return self._background

    def _make_background(self) -> Background:
        # Imported when the first copy or large push comes: who has none does without.
        from transship_worker.process.background import Background

        return Background(
            url=self.settings.url.get_secret_value(),
            keys=self._keys,
            name=self.name,
            claims=self._claims,
            components=self.catalog.current,
            ring=self.runner.ring,
            slots=self.slots,
            waker=self.waker,
        )

    def refused(self, reason: str) -> None:
        """Count a message that was refused; a Redis that does not answer is no reason to end."""
        try:
            self._claims.count_refused(reason)
        except redis.RedisError as error:
            logger.debug("a refused message is not counted: %s", plain(error))

    def _engine_problem(self) -> str | None:
        return self.engine_watch.problem if self.engine_watch is not None else None

    def _engine_info(self) -> EngineInfo | None:
        return self.engine_watch.info if self.engine_watch is not None else None

    def _engine_away(self, problem: str) -> None:
        """A question found the engine away before its watch did."""
        if self.engine_watch is not None:
            self.engine_watch.away(problem)

    def view(self) -> WorkerView:
        """What this worker publishes of itself."""
        components = self.catalog.current()
        return WorkerView(
            name=self.name,
            engine=self.engine.name if self.engine else None,
            components=components.public(),
            catalog_error=self.catalog.error,
            engine_error=self._engine_problem(),
            engine_info=self._engine_info(),
            credential_errors={
                name: problem
                for name, component in components.registries.items()
                if (problem := component.unreadable_secret())
            },
            interactive_slots=self.slots.limits[Lane.PUSH],
            bulk_slots=self.slots.limits[Lane.BULK],
            copy_slots=self.slots.limits[Lane.COPY],
            slots_lowered=self._slots_lowered,
            running=self.heart.running,
            draining=self.draining.is_set(),
            anonymous_sources=sorted(components.anonymous_sources),
            rights_version=components.rights_version,
            version=__version__,
            started_at=self.started_at,
            seen_at=datetime.now(UTC),
        )

    def _what_counts(self) -> object:
        """What producers should hear of at once when it changes."""
        answers = self._engine_problem() is None
        return self.catalog.current(), self.catalog.error, answers, self._engine_info()

    def start(self) -> None:
        """Start the threads that stand beside Celery's."""
        if self.engine_watch is not None:
            self.engine_watch.start()
        self.heart.start()
        self.presence.start()
        self.reaper.start()
        if self.engine is None:
            # It is there for copies alone: the first one need not wait for their libraries.
            self._work(Kind.COPY)

    def drain(self) -> None:
        """Give running jobs their grace, then hand them back. Called in a thread of its own."""
        end = time.monotonic() + self.settings.grace
        self.presence.refresh()
        while time.monotonic() < end:
            if self._closed.wait(DRAIN_TICK_S):
                return
        # To the end: a job that was about to be claimed must go back too.
        while time.monotonic() < end + LAST_RESORT_S:
            self.heart.hand_back(f"worker {self.name} stops")
            if self._closed.wait(DRAIN_TICK_S):
                return
        logger.error(
            "this worker cannot stop in order (does Redis hang?); it ends now, and its %d "
            "running job(s) go back to the queue when their leases end",
            self.heart.running,
        )
        os._exit(os.EX_TEMPFAIL)

    def close(self) -> None:
        """Stop the threads and close the connections, as far as Redis lets them.

        What a Redis that hangs keeps of this worker expires by itself.
        """
        self._closed.set()
        goodbye = threading.Thread(target=self._close, name="goodbye", daemon=True)
        goodbye.start()
        goodbye.join(GOODBYE_S)
        if goodbye.is_alive():
            logger.warning("Redis does not answer; this worker leaves without a goodbye")

    def _close(self) -> None:
        self.reaper.close()
        self.presence.close()
        if self.engine_watch is not None:
            self.engine_watch.close()
        self.heart.close()
        if self._background is not None:
            self._background.close()
        self._gate.close()
        self._doorbell.close()
        self._reaper_bell.close()
        if self.engine is not None:
            self.engine.close()
        self._redis.close()
