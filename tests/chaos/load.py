"""Work for the fleet: pushes, copies and migrations, in waves that follow from the seed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import docker
import requests
import urllib3

from tests.chaos.ground import Ground
from tests.chaos.plan import Side
from tests.support.images.corpus import KIB, Corpus, Image, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.images.engine_images import archive
from transship import Job, Migration, State
from transship.errors import NotReplicated, RedisUnreachable
from transship.model.migration.record import MigrationRecord
from transship_config.errors import TransshipError, UsageError

T = TypeVar("T", Job, Migration)

#: Jobs that are not final at a time; more are not submitted before.
MOST_OPEN: Final = 40
#: Between two tries and between two looks. Unit: s.
PAUSE_S: Final = 0.1
#: One job in so many is asked to be cancelled.
CANCELLED: Final = 25

#: What an engine that dies makes of a call of the SDK's.
_AWAY: Final = (
    docker.errors.DockerException,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A push or copy that is asked for."""

    #: Without the registry: ``repository:tag``.
    target: str
    #: A copy's digest; of a push the image's id, which is its configuration's digest.
    want: str
    #: A local image, or ``repository@digest`` at the source.
    source: str
    push: bool = False
    bulk: bool = False
    cancel: bool = False


@dataclass
class Asked:
    """All that was asked for, as the one who asked knows it."""

    #: Acknowledged: by job.
    jobs: dict[str, Ask] = field(default_factory=dict)
    #: The answer was lost: it may be a job, or none.
    perhaps: list[Ask] = field(default_factory=list)
    #: By migration, what it is to bring: target → digest.
    migrations: dict[str, dict[str, str]] = field(default_factory=dict)
    perhaps_migrations: list[dict[str, str]] = field(default_factory=list)
    submits_failed: int = 0

    @property
    def wanted(self) -> dict[str, set[str]]:
        """What anybody asked to be at a target."""
        found: dict[str, set[str]] = {}
        for ask in (*self.jobs.values(), *self.perhaps):
            found.setdefault(ask.target, set()).add(ask.want)
        for images in (*self.migrations.values(), *self.perhaps_migrations):
            for target, digest in images.items():
                found.setdefault(target, set()).add(digest)
        return found


class Load:
    """A thread that submits as long as it is not told to stop."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self.asked = Asked()
        self._ground = ground
        self._client = ground.site.client
        self._seed = seed
        self._ended = threading.Event()
        self._open: dict[str, Job] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: What ended the thread, if anything did.
        self.error: BaseException | None = None
        self.waves = 0

    def start(self) -> None:
        """Begin to submit."""
        self._thread.start()

    def stop(self) -> None:
        """Submit nothing more."""
        self._ended.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def unfinished(self) -> list[str]:
        """Jobs and migrations that are not final yet."""
        self._look()
        found = list(self._open)
        found += [one for one in self.asked.migrations if not self._migration(one).state.final]
        # Also what was submitted without an answer.
        for state in (State.QUEUED, State.RUNNING, State.RETRYING):
            found += [one.id for one in self._client.jobs(state=state, limit=5)]
        return sorted(set(found))

    def _migration(self, name: str) -> MigrationRecord:
        return self._client.migration(name).record()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self.waves += 1
                self._wave(self.waves)
        except _Over:
            return
        except BaseException as error:  # noqa: BLE001 - the main thread tells of it
            self.error = error

    def _wave(self, number: int) -> None:
        dice = random.Random(f"load/{self._seed}/{number}")
        name = f"s{self._seed}w{number}"
        corpus = shared_layers(3, 3, shared=2, shared_size=96 * KIB, own_size=24 * KIB, seed=name)
        fill(self._ground.source.base, corpus)
        asks = self._pushes(name, dice) + _copies(name, corpus, dice)
        # The hot ones keep their order among themselves.
        hot = [ask for ask in asks if "hot" in ask.target]
        rest = [ask for ask in asks if ask not in hot]
        dice.shuffle(rest)
        for ask in hot:
            rest.insert(dice.randint(0, len(rest)), ask)
        places = [index for index, ask in enumerate(rest) if ask in hot]
        for place, ask in zip(places, hot, strict=True):
            rest[place] = ask
        if number % 3 == 1:
            self._migrate(name, corpus)
        for ask in rest:
            self._submit(ask)

    def _pushes(self, name: str, dice: random.Random) -> list[Ask]:
        """Images in the engine, each for a tag of its own and some for one that all fight for."""
        shared = dice.randbytes(40_000)
        asks = []
        for number in range(5):
            source = f"local/{name}-{number}:1"
            data = archive([source], [shared, dice.randbytes(50_000)], note=source)
            image = self._loaded(data)
            target = f"pushed/{name}-{number}:v1"
            cancel = not dice.randrange(CANCELLED)
            asks.append(Ask(target, image, source, True, bool(number % 2), cancel))
            if number < 3:
                asks.append(Ask(f"pushed/{name}-hot:latest", image, source, True))
        return asks

    def _loaded(self, data: bytes) -> str:
        """Put an image into the engine; its id. The engine may be away."""
        while True:
            with suppress(*_AWAY):
                client = self._ground.engine.client()
                try:
                    return str(client.images.load(data)[0].id)
                finally:
                    client.close()
            self._pause()

    def _migrate(self, name: str, corpus: Corpus) -> None:
        images = {f"migrated/{image.name}": image.digest for image in corpus.images}
        rule = {
            "from": {"registry": "old", "repositories": [f"{name}/*"]},
            "to": {"registry": "new", "repository": "migrated/{repository}"},
        }
        spec = {"version": 1, "name": name, "rules": [rule]}

        def taken(migration: Migration | Job) -> None:
            self.asked.migrations[migration.id] = images

        self._surely(
            lambda: self._client.migrate(spec),
            taken,
            lambda: self.asked.perhaps_migrations.append(images),
        )

    def _submit(self, ask: Ask) -> None:
        old, new = (self._ground.ways[side].address for side in (Side.SOURCE, Side.TARGET))

        def submit() -> Job:
            target = f"{new}/{ask.target}"
            if ask.push:
                return self._client.push(target, registry="new", source=ask.source, bulk=ask.bulk)
            return self._client.copy(
                f"{old}/{ask.source}", target, source_registry="old", target_registry="new"
            )

        def taken(job: Job) -> None:
            self.asked.jobs[job.id] = ask
            self._open[job.id] = job

        self._surely(submit, taken, lambda: self.asked.perhaps.append(ask))
        if ask.cancel:
            with suppress(TransshipError):
                next(reversed(self._open.values())).cancel()
        while len(self._open) >= MOST_OPEN:
            self._pause()
            self._look()

    def _surely(
        self, submit: Callable[[], T], taken: Callable[[T | Job], None], unsure: Callable[[], None]
    ) -> None:
        """Submit as a pipeline does that must have its image pushed: until it is acknowledged."""
        lacking: NotReplicated | None = None
        while True:
            try:
                taken(submit() if lacking is None else self._client.submit_again(lacking)[0])
            except NotReplicated as error:
                # It may be lost, and it may run: it is the same job when it is submitted again.
                self.asked.submits_failed += 1
                if lacking is None:
                    unsure()
                lacking = error
            except RedisUnreachable:
                self.asked.submits_failed += 1
                unsure()
            except UsageError:
                # Components are known from live workers; all of them may be silent just now.
                self.asked.submits_failed += 1
            else:
                return
            self._pause()

    def _look(self) -> None:
        """Forget what is final."""
        with suppress(RedisUnreachable):
            for record in self._client.records(list(self._open.values())):
                if record.state.final:
                    self._open.pop(record.id, None)

    def _pause(self) -> None:
        if self._ended.is_set():
            raise _Over
        time.sleep(PAUSE_S)


class _Over(Exception):
    """Nothing more is to be submitted."""


def _copies(name: str, corpus: Corpus, dice: random.Random) -> list[Ask]:
    """Some copies to tags of their own, and three to one that all fight for."""

    def ask(target: str, image: Image) -> Ask:
        source = f"{image.repository}@{image.digest}"
        return Ask(target, image.digest, source, cancel=not dice.randrange(CANCELLED))

    images = dice.sample(corpus.images, 7)
    asks = [ask(f"copied/{name}-{n % 2}:v{n}", image) for n, image in enumerate(images[:5])]
    return asks + [ask(f"copied/{name}-hot:latest", image) for image in images[4:7]]
