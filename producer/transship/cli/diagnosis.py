"""What a queue needs to work, looked at piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterator

from transship.cli.account_findings import account_findings
from transship.cli.finding import Finding
from transship.client import Client
from transship.errors import CredentialsMissing, Denied, RedisUnreachable
from transship.model.components import Fleet
from transship.model.jobs import State
from transship.model.records import JobRecord
from transship_config import __version__

#: The oldest supported Redis, as (major, minor). Valkey 7.2 and newer report 7.2.4 here.
OLDEST_REDIS = (7, 0)

#: How many of the newest jobs are looked at for refused credentials.
JOBS_LOOKED_AT = 200
_CREDENTIAL_CODES = frozenset({CredentialsMissing.code, Denied.code})


def diagnose(client: Client) -> list[Finding]:
    """All findings; only the first when Redis cannot be reached."""
    try:
        fleet = client.fleet()
    except RedisUnreachable as error:
        # The message says what would mend it.
        return [Finding("redis", False, error.code, error.message)]
    findings = [*_redis(client), *_workers(fleet)]
    if fleet.workers:
        findings += [*_engines(fleet), *_catalogues(fleet), *_secrets(fleet)]
        findings += account_findings(client, fleet)
        findings += _refused(client)
        findings += _credentials(
            client, unread={n for w in fleet.workers for n in w.credential_errors}
        )
    return findings


def _redis(client: Client) -> Iterator[Finding]:
    try:
        facts = client.redis_info()
    except RedisUnreachable:
        # INFO is refused to narrow accounts, which is as it should be.
        message = f"{client.redis_address} answers; this account may not read its settings (INFO)"
        yield Finding("redis", True, "ok", message)
        return
    found = [*_redis_version(facts["version"])]
    policy = facts["eviction_policy"]
    if policy not in {None, "noeviction"}:
        message = f"deletes keys when its memory is full (maxmemory-policy {policy})"
        mend = "set maxmemory-policy noeviction in redis.conf; jobs would be lost without a trace"
        found.append(Finding("redis", False, "eviction", message, mend))
    if not facts["append_only"]:
        message = "keeps no append-only file: a restart forgets jobs"
        mend = "set appendonly yes in redis.conf (or with CONFIG SET and CONFIG REWRITE)"
        found.append(Finding("redis", False, "no_append_only", message, mend))
    if facts["replicas"] < facts["wait_replicas"]:
        asked = facts["wait_replicas"]
        message = f"{facts['replicas']} replica(s) are connected, and {asked} must acknowledge"
        mend = "add replicas, or set TRANSSHIP_WAIT_REPLICAS to fewer"
        found.append(Finding("redis", False, "too_few_replicas", message, mend))
    if not found:
        message = f"{facts['version']} at {facts['address']}, append-only, no eviction"
        found.append(Finding("redis", True, "ok", message))
    yield from found


def _redis_version(version: object) -> Iterator[Finding]:
    numbers = re.match(r"(\d+)\.(\d+)", str(version))
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_REDIS:
        oldest = ".".join(map(str, OLDEST_REDIS))
        message = f"version {version} is too old"
        yield Finding(
            "redis", False, "old_redis", message, f"use Redis {oldest} or Valkey 7.2, or newer"
        )


def _workers(fleet: Fleet) -> Iterator[Finding]:
    if not fleet.workers:
        mend = "transship worker (or transship up, which starts all of it on one machine)"
        yield Finding("workers", False, "no_worker", "none is alive: jobs wait", mend)
        return
    if all(worker.draining for worker in fleet.workers):
        message = "all are stopping: jobs wait"
        yield Finding("workers", False, "draining", message, "transship worker")
        return
    others = sorted({w.version for w in fleet.workers if w.version not in {"", __version__}})
    note = f"; this is {__version__}, some run {', '.join(others)}" if others else ""
    slots = sum(w.interactive_slots for w in fleet.workers)
    message = f"{len(fleet.workers)} alive, {slots} pushes at once{note}"
    yield Finding("workers", True, "ok", message)
    for worker in fleet.workers:
        if worker.slots_lowered:
            reason, _, mend = worker.slots_lowered.partition("; ")
            message = f"{worker.name} has fewer slots: {reason}"
            yield Finding("workers", True, "few_open_files", message, mend)


def _refused(client: Client) -> Iterator[Finding]:
    """What workers found in the queues that is no bell; told, and no piece that is missing."""
    try:
        found = client.refused()
    except RedisUnreachable:
        # An account may have no business with it.
        return
    if found:
        counts = ", ".join(f"{reason} {count}" for reason, count in found.items())
        message = f"refused so far, without harm: {counts}"
        mend = "find out who writes to the queues by hand; docs/cli.md tells the reasons"
        yield Finding("messages", True, "refused", message, mend)


def _engines(fleet: Fleet) -> Iterator[Finding]:
    for worker in fleet.workers:
        if worker.lacks_engine:
            reason = worker.engine_error or "it does not answer"
            message = f"{worker.name} has no Docker Engine: {reason}"
            mend = "start Docker there, or set DOCKER_HOST or DOCKER_CONTEXT for the worker"
            yield Finding("engine", False, "no_engine", message, mend)
    answering = [worker for worker in fleet.workers if worker.engine and not worker.engine_error]
    for name, info in sorted({(w.engine, w.engine_info) for w in answering}, key=str):
        if info is None:
            # A worker of an older version, or one whose engine was not asked yet.
            yield Finding("engine", True, "ok", str(name))
            continue
        message = f"{name}: {info.title}: {info.support}"
        if info.tested:
            yield Finding("engine", True, "ok", message)
        else:
            mend = "docs/compatibility.md lists the engines that the tests run against"
            yield Finding("engine", True, "untested_engine", message, mend)


def _catalogues(fleet: Fleet) -> Iterator[Finding]:
    problems = False
    for worker in fleet.workers:
        if worker.catalog_error:
            problems = True
            mend = "correct the file on that worker's machine; it is seen within seconds"
            for mistake in worker.catalog_error.splitlines():
                message = f"{worker.name}: {mistake}"
                yield Finding("catalogue", False, "catalog_error", message, mend)
    for name, uris in fleet.conflicts.items():
        problems = True
        message = f"workers publish {name!r} with different URIs: {', '.join(uris)}"
        yield Finding("catalogue", False, "conflict", message, "make their catalogues agree")
    if not fleet.components:
        mend = "on the worker's machine: transship registry register NAME --flavor F --uri U"
        yield Finding("catalogue", False, "no_component", "no registry component", mend)
    elif not problems:
        names = ", ".join(component.name for component in fleet.components)
        yield Finding("catalogue", True, "ok", names)


def _secrets(fleet: Fleet) -> Iterator[Finding]:
    """Secrets that a worker's catalogue refers to and that cannot be read there."""
    for worker in fleet.workers:
        for _, problem in sorted(worker.credential_errors.items()):
            mend = f"write that file, or restart worker {worker.name} with that variable"
            yield Finding("credentials", False, "credentials_missing", problem, mend)


def _credentials(client: Client, *, unread: set[str]) -> Iterator[Finding]:
    """What the newest pushes tell: credentials stay with the workers, so only a push tries them.

    Components whose secrets are known to be unreadable are left out: that was said already.
    """
    newest: dict[str, JobRecord] = {}
    for record in client.jobs(limit=JOBS_LOOKED_AT):
        if record.state.final and (record.state is State.SUCCEEDED or record.error):
            newest.setdefault(record.registry, record)
    refused = False
    for name, record in sorted(newest.items()):
        error = record.error
        if error is not None and error.code in _CREDENTIAL_CODES and name not in unread:
            refused = True
            message = f"{name}: push {record.id} ended as {error.code}: {error.message}"
            mend = f"on the worker's machine: transship registry check {name}"
            yield Finding("credentials", False, error.code, message, mend)
    accepted = [name for name, r in sorted(newest.items()) if r.state is State.SUCCEEDED]
    if accepted and not refused:
        yield Finding("credentials", True, "ok", f"newest pushes got in: {', '.join(accepted)}")
