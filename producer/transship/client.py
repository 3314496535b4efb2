"""The client: a pipeline queues pushes, copies and migrations with it, and follows them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

from transship.errors import NotReplicated, NotYours, SubmitInterrupted, UnknownJob
from transship.fleet_warnings import copy_warnings, push_warnings
from transship.forks import follow_forks, loading
from transship.jobs import Job
from transship.ledger.account_names import catalog_names, redis_names
from transship.ledger.connection import address, connect, connection_url, reaching
from transship.ledger.keys import Keys
from transship.ledger.primary import primary_of
from transship.ledger.rights import published_rights
from transship.ledger.submit import Ledger
from transship.model.components import Fleet
from transship.model.first_use import use_pydantic_once
from transship.model.jobs import JobId, Kind, State
from transship.model.records import JobRecord
from transship.notify import Notifier
from transship.pushes import ForWhomText, Push, check, for_whom, push_request
from transship.submit_rights import SubmitRights
from transship_config.errors import UsageError
from transship_config.redis_url import host_and_port
from transship_config.settings import Settings, settings_with_url
from transship_config.text import did_you_mean

if TYPE_CHECKING:
    from transship.migration_start import Migrations
    from transship.migrations import Migration
    from transship.model.accounts import AccountRecord
    from transship.model.copy_request import CopyRequest
    from transship.model.migration.plan import PlanRow
    from transship.model.migration.record import MigrationRecord
    from transship.model.migration.specification import Spec
    from transship.model.push_request import PushRequest
    from transship.model.requests import Request
    from transship.model.rights import Rights
    from transship.specification_files import PlanLines, SpecText

    AnySpec: TypeAlias = str | PathLike[str] | Mapping[str, Any] | Spec | SpecText

logger = logging.getLogger("transship")

R = TypeVar("R", "PushRequest", "CopyRequest")

#: How long what workers publish counts as known in a row of submits. Unit: s.
KNOWN_S: Final = 1.0


class Client:
    """Enqueues work and reads jobs and migrations.

    Safe to share between threads, and to use in a forked child; close it, or use ``with``.

    The queue is found at ``url``, else at ``TRANSSHIP_URL``, else where
    ``transship up`` runs on this machine.

    Raises:
        InvalidSettings: a ``TRANSSHIP_*`` variable or the URL cannot be used.
    """

    def __init__(self, url: str | None = None, *, settings: Settings | None = None) -> None:
        settings = settings or Settings.from_environment()
        self._settings = settings_with_url(settings, _resolve(settings, url))
        self._url = self._settings.url.get_secret_value()
        self._redis = connect(self._url)
        self._keys = Keys(self._settings.namespace)
        self._ledger = Ledger(
            self._redis,
            self._keys,
            self._settings.account,
            self._url,
            wait_replicas=self._settings.wait_replicas,
        )
        self._notifier = Notifier(self._settings, self._url)
        self._lock = threading.Lock()
        self._known: tuple[SubmitRights | None, float] = (None, 0.0)
        use_pydantic_once()
        follow_forks(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({address(self._url)!r})"

    def close(self) -> None:
        """Close the connections."""
        self._notifier.close()
        self._redis.close()

    @property
    def fork_lock(self) -> threading.Lock:
        """See ``forks.Forkable``."""
        return self._notifier.lock

    def after_fork(self) -> None:
        """Called in a forked child: leave locks and connections to the parent."""
        self._lock = threading.Lock()
        self._notifier.after_fork()
        # In place: the handles on jobs and migrations have it, too.
        self._redis.connection_pool = connect(self._url).connection_pool

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
        via: str = "auto",
        platform: str | None = None,
        require_all_platforms: bool = False,
        on_behalf_of: ForWhomText = None,
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
            via: ``engine`` for the Docker Engine's own push, ``stream`` to have the worker compress
                and send what the engine exports, ``auto`` for the faster one.
            platform: push this platform of the image alone, such as ``linux/arm64``.
            require_all_platforms: fail if the engine does not have every platform of the image;
                otherwise one of several may be pushed, with a warning.
            on_behalf_of: the account for which this one acts: ``ACCOUNT[/SUBJECT]``, or a mapping
                with ``account``, ``subject`` and ``scope`` (rights that the push may use). Only
                for accounts with ``acts_for`` in the workers' catalog.

        Raises:
            UsageError: bad input, an unknown component or engine; nothing was enqueued.
            NotReplicated: written, and not acknowledged by ``TRANSSHIP_WAIT_REPLICAS`` replicas.
            RedisUnreachable: nothing is known to have been enqueued.
        """
        options = (registry, source, engine, labels or {}, bulk, deadline, expires, via)
        push = Push(image, *options, platform, require_all_platforms, on_behalf_of)
        return self.push_many([push])[0]

    def push_many(self, pushes: Iterable[Push]) -> list[Job]:
        """Enqueue many pushes in few round trips; their jobs come back in the same order.

        All are checked before the first is written.

        Raises:
            UsageError: bad input; nothing was enqueued.
            NotReplicated: written, and not acknowledged by ``TRANSSHIP_WAIT_REPLICAS`` replicas.
            RedisUnreachable: some may have been enqueued.
            SubmitInterrupted: Ctrl-C; its ``job_ids`` were enqueued, and workers were notified.
        """
        pushes = list(pushes)
        if not pushes:
            return []
        # Before Redis is asked: bad input is bad input whether it answers or not.
        for push in pushes:
            check(push)
        fleet, requests = self._settled(
            lambda fleet: [push_request(push, fleet) for push in pushes]
        )
        return self._enqueue(requests, push_warnings(fleet))

    def copy(
        self,
        source: str,
        target: str,
        *,
        source_registry: str | None = None,
        target_registry: str | None = None,
        platforms: Sequence[str] = (),
        referrers: bool = False,
        foreign_layers: str = "copy",
        tags: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        deadline: int | None = None,
        expires: int | None = None,
        on_behalf_of: ForWhomText = None,
    ) -> Job:
        """Enqueue the copy of one image from registry to registry and return its job at once.

        Args:
            source: the image to read; without a tag or digest, ``latest``.
            target: where it goes; without a tag it gets the source's.
            source_registry: the source's component, or a host that workers read without one; may
                be left out when exactly one fits.
            target_registry: the target's component; may be left out in the same way.
            platforms: such as ``linux/arm64``; all that the image has when empty.
            referrers: whether signatures, SBOMs and attestations go along.
            foreign_layers: ``copy`` nondistributable layers that the source holds, or leave them
                all as a ``reference``.
            tags: further tags of the target repository.
            labels: free text to find the job by.
            deadline: seconds that one attempt may run (6 h when left out).
            expires: seconds that the job may wait for its start (24 h when left out).
            on_behalf_of: as in ``push``.

        Raises:
            UsageError: bad input, or no component fits; nothing was enqueued.
            NotReplicated: written, and not acknowledged by ``TRANSSHIP_WAIT_REPLICAS`` replicas.
            RedisUnreachable: nothing is known to have been enqueued.
        """
        with loading():
            from transship.copies import Copy, copy_request, references

        one = Copy(
            source, target, source_registry, target_registry, platforms, referrers,
            foreign_layers, tags, labels or {}, deadline, expires, on_behalf_of,
        )  # fmt: skip
        references(one)
        fleet, requests = self._settled(lambda fleet: [copy_request(one, fleet)])
        return self._enqueue(requests, copy_warnings(fleet))[0]

    def migrate(
        self,
        spec: AnySpec | PlanLines | Iterable[PlanRow],
        *,
        name: str | None = None,
        on_behalf_of: ForWhomText = None,
    ) -> Migration:
        """Have images copied, as a specification or the rows of a plan say; returns at once.

        Args:
            spec: a specification as a path, a YAML or JSON text (one with a line end or a ``{``),
                a mapping or a ``Spec``; or a plan as a path, a text or rows.
            name: what the run of a plan is called; when left out, as the migration that the plan
                was made by, as far as it is still known. A specification has a name of its own.
            on_behalf_of: as in ``push``; its copies are made on behalf of the same account.

        Raises:
            UsageError: bad input, each mistake with its place; nothing was enqueued.
            NotReplicated: written, and not acknowledged by ``TRANSSHIP_WAIT_REPLICAS`` replicas.
            RedisUnreachable: nothing is known to have been enqueued.
        """
        with loading():
            from transship.model.migration.request import Mode

        return self._migrations().start(spec, Mode.RUN, self.fleet, name, for_whom(on_behalf_of))

    def plan(self, spec: AnySpec, *, on_behalf_of: ForWhomText = None) -> Migration:
        """Have a specification planned only: ``rows()`` of what comes back gives the plan.

        Nothing is written to a target. ``spec`` is as in ``migrate``, ``on_behalf_of`` as in
        ``push``.

        Raises:
            UsageError: bad input, each mistake with its place; nothing was enqueued.
            NotReplicated: written, and not acknowledged by ``TRANSSHIP_WAIT_REPLICAS`` replicas.
            RedisUnreachable: nothing is known to have been enqueued.
        """
        with loading():
            from transship.model.migration.request import Mode

        return self._migrations().start(spec, Mode.PLAN, self.fleet, None, for_whom(on_behalf_of))

    def migration(self, migration_id: str) -> Migration:
        """The handle on a migration that exists.

        Raises:
            UnknownJob: there is none of this id.
        """
        migration = self._migrations().handle(JobId.parse(migration_id))
        migration.record()
        return migration

    def migrations(self, *, limit: int = 50) -> list[MigrationRecord]:
        """Migrations, newest first; of a narrow account (``reads_all``), its own."""
        return self._migrations().newest(limit)

    def _migrations(self) -> Migrations:
        with loading():
            from transship.migration_start import Migrations

        return Migrations(
            self._redis,
            self._keys,
            self._ledger,
            self._url,
            self._notifier.again,
            self._check_rights,
        )

    def rights(self) -> list[Rights]:
        """What this account may do, as the catalogs of live workers say: most often one.

        Empty: a worker has no section ``accounts``, so that everything is allowed, or this account
        cannot read its rights.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        return list(self._rights_at(self.fleet()).rights)

    def catalog_accounts(self, versions: Sequence[str]) -> frozenset[str] | None:
        """Accounts of the workers' catalogs; ``None``: this account may not know all of them.

        ``versions``: those of the catalogs' sections that live workers go by.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        with reaching(self._url):
            return catalog_names(self._redis, self._keys, versions)

    def accounts(self) -> list[AccountRecord]:
        """All accounts of the workers' catalogs and those that have jobs, sorted by name.

        Of an account that may not read those of others (``reads_all``), itself.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        with loading():
            from transship.ledger.account_records import account_record
            from transship.model.accounts import shared

        versions = [one for one in self.fleet().rights_versions if one]
        with reaching(self._url):
            names = {self.account}
            if self.reads_all:
                known = self._ledger.indexes.accounts()
                names = {*known, *(catalog_names(self._redis, self._keys, versions) or ())}
            found = [
                account_record(self._redis, self._keys, name, versions) for name in sorted(names)
            ]
        return shared(found) if self.reads_all else found

    def account_record(self, name: str) -> AccountRecord:
        """What is known of one account.

        Raises:
            NotYours: this account may read its own rights only.
            UsageError: no catalog and no job names it.
            RedisUnreachable: Redis does not answer.
        """
        if name != self.account and not self.reads_all:
            raise NotYours(
                f"account {self.account} may see its own rights and jobs, not those of {name}"
            )
        found = {record.name: record for record in self.accounts()}
        if name in found:
            return found[name]
        raise UsageError(f"no account {name!r};{did_you_mean(name, sorted(found))}")

    def redis_accounts(self) -> frozenset[str] | None:
        """Accounts of Redis; ``None``: this account may not list them.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        with reaching(self._url):
            return redis_names(self._redis)

    def _rights_at(self, fleet: Fleet) -> SubmitRights:
        with reaching(self._url):
            return SubmitRights.of(
                fleet,
                lambda versions: published_rights(
                    self._redis, self._keys, self._settings.account, versions
                ),
            )

    def _check_rights(self, fleet: Fleet, requests: Sequence[Request]) -> None:
        self._rights_at(fleet).check(requests)

    def _settled(self, make: Callable[[Fleet], list[R]]) -> tuple[Fleet, list[R]]:
        """What follows from what live workers publish, and the workers.

        They publish it some times a minute. In a row of submits they are asked once a second; what
        would be refused by what was known is settled by what is known now.
        """
        with self._lock:
            known, until = self._known
        if known is not None and time.monotonic() < until:
            try:
                return known.fleet, _allowed(make(known.fleet), known)
            except UsageError:
                logger.debug("workers are asked again")
        asked = time.monotonic()
        fleet = self.fleet()
        made = make(fleet)
        known = self._rights_at(fleet)
        with self._lock:
            # Of no worker there is nothing to know: the next submit may find one.
            self._known = (known, asked + KNOWN_S) if fleet.workers else (None, 0.0)
        return fleet, _allowed(made, known)

    def _enqueue(self, requests: Sequence[Request], warnings: tuple[str, ...]) -> list[Job]:
        return self._submitted(requests, None, warnings)

    def submit_again(self, error: NotReplicated) -> list[Job]:
        """Submit the jobs of an error under their ids; those that are still there are found.

        Raises:
            NotReplicated: again, too few replicas acknowledged it in time.
            RedisUnreachable: some may have been enqueued.
        """
        requests = list(error.requests.values())
        return self._submitted(requests, [JobId(job) for job in error.jobs], ())

    def _submitted(
        self, requests: Sequence[Request], ids: Sequence[JobId] | None, warnings: tuple[str, ...]
    ) -> list[Job]:
        written: Sequence[JobId] = ()
        try:
            submitted = self._ledger.submit(requests, ids)
            written = [job.job for job in submitted]
            warnings += self._notifier.notify(
                [
                    (job.job, request)
                    for job, request in zip(submitted, requests, strict=True)
                    if not job.deduplicated
                ]
            )
        except KeyboardInterrupt as interrupt:
            error = interrupt
            if not isinstance(error, SubmitInterrupted):
                error = SubmitInterrupted(written)
            with suppress(KeyboardInterrupt):
                # Some for the second time, which harms nothing.
                ids = [JobId(job) for job in error.job_ids]
                self._notifier.again(list(zip(ids, requests, strict=False)))
            raise error from None
        # They may run: they are rung for first.
        self._ledger.check_replicated(submitted, requests)
        return [
            Job(
                self._ledger,
                self._notifier.again_of,
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
        job = Job(self._ledger, self._notifier.again_of, JobId.parse(job_id))
        job.record()
        return job

    def find(self, some_id: str) -> Job | Migration:
        """The handle on a job or a migration, whichever has this id.

        Raises:
            UnknownJob: neither has.
        """
        job = Job(self._ledger, self._notifier.again_of, JobId.parse(some_id))
        try:
            if job.record().kind is not Kind.MIGRATION:
                return job
        except UnknownJob as error:
            # The job of its planning may be forgotten before the migration is.
            try:
                return self.migration(some_id)
            except UnknownJob:
                raise error from None
        return self.migration(some_id)

    def jobs(
        self,
        *,
        state: State | None = None,
        registry: str | None = None,
        labels: Mapping[str, str] | None = None,
        limit: int = 50,
    ) -> list[JobRecord]:
        """Jobs, newest first. By state they are found by an index; other filters look at each.

        Of an account that may not read the jobs of others (``reads_all``), its own.
        """
        wanted = dict(labels or {})

        def keep(record: JobRecord) -> bool:
            return (registry is None or record.registry == registry) and (
                wanted.items() <= record.labels.items()
            )

        return self._ledger.newest(state, keep, limit)

    @property
    def account(self) -> str:
        """The Redis account that this client submits as."""
        return self._ledger.account

    @property
    def reads_all(self) -> bool:
        """Whether this account may read the jobs of all others; else lists hold only its own.

        Raises:
            RedisUnreachable: Redis does not answer.
        """
        return self._ledger.reads_all

    def records(self, jobs: Iterable[Job]) -> list[JobRecord]:
        """The records of many jobs in one round trip; one whose retention ended is left out."""
        found = self._ledger.read([job.id for job in jobs])
        return [record for record in found if record is not None]

    def fleet(self) -> Fleet:
        """All live workers and the components they publish."""
        return self._ledger.fleet()

    def refused(self) -> dict[str, int]:
        """How many messages in queues workers refused so far, by the reason.

        What is refused is no bell, or one for no job: nobody's job was harmed, and somebody who
        may write to the queues wrote something else.

        Raises:
            RedisUnreachable: Redis does not answer, or does not let this account read it.
        """
        return self._ledger.refused()

    @property
    def redis_address(self) -> str:
        """Where Redis is; with sentinels also the primary that was last connected to."""
        primary = primary_of(self._url)
        shown = address(self._url)
        if primary.url.service and primary.address is not None:
            return f"{shown}, primary {host_and_port(primary.address)}"
        return shown

    def redis_info(self) -> dict[str, Any]:
        """Facts about the Redis server: version, persistence, eviction policy, memory."""
        with reaching(self._url):
            info: dict[str, Any] = self._redis.info()
        return {
            "address": self.redis_address,
            "version": info.get("valkey_version") or info.get("redis_version"),
            "append_only": bool(info.get("aof_enabled")),
            "eviction_policy": info.get("maxmemory_policy"),
            "used_memory": info.get("used_memory"),
            "max_memory": info.get("maxmemory"),
            "replicas": int(info.get("connected_slaves") or 0),
            "wait_replicas": self._settings.wait_replicas,
        }


def _resolve(settings: Settings, url: str | None) -> str:
    return connection_url(settings if url is None else settings_with_url(settings, url))


def _allowed(requests: list[R], known: SubmitRights) -> list[R]:
    """The requests, once no right is known to be missing.

    Raises:
        RightMissing: one is.
    """
    known.check(requests)
    return requests
