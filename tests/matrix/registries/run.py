"""``./dev test matrix registries``: run the cases, and show and store what came of them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from _pytest.outcomes import OutcomeException

from tests.matrix.command import (
    PAGE,
    Progress,
    interruptible,
    isolate,
    parser_of,
    select,
    tested_commit,
)
from tests.matrix.outcomes import log_of, require_roots, say
from tests.matrix.registries import programs
from tests.matrix.registries.cases import CASES, Case
from tests.matrix.registries.ground import OTHER, Ground, Refused
from tests.matrix.registries.kinds import (
    BY_NAME,
    NAMESPACE,
    PASSWORD_VARIABLE,
    RegistryKind,
    Running,
)
from tests.matrix.registries.results import Outcome, Results, write_table
from tests.matrix.registries.wire import CheckFailed
from tests.matrix.results import CaseResult
from tests.support.proxies.counting import Front, Fronts
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.strict_registry.registry import StrictRegistry
from tests.support.workers.process import Site
from transship.errors import CatalogError
from transship_worker.catalog import Catalog

#: A reason in a table is no longer. Unit: characters.
_REASON: Final = 300
#: A lease that a busy machine does not lose. Unit: s.
_LEASE: Final = "30"


def main(arguments: Sequence[str]) -> int:
    """Run the matrix and show each result; the exit status."""
    parser = parser_of(
        "registries",
        "registry",
        "Push and copy to and from every registry by a real worker, and check what arrived.",
    )
    options = parser.parse_args(arguments)
    if options.list:
        say("registries:", *(f"  {name:<20} {kind.title}" for name, kind in BY_NAME.items()))
        say("cases:", *(f"  {name:<20} {case.title}" for name, case in CASES.items()))
        return 0
    try:
        registries, cases = select(options.words, registry=BY_NAME, case=CASES)
    except ValueError as error:
        parser.error(str(error))
    status = 0
    if options.words or not options.write:
        require_roots(parser)
        try:
            # Before the proxies of this machine, which an installation needs, are hidden.
            say(f"registries of {programs.SUITE}: crane {programs.version_of('crane')}, "
                f"docker-registry {programs.version_of('docker-registry')}")  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            say(f"error: {error}")
            return 1
        _isolate()
        status = interruptible(partial(_run, registries, cases))
    if options.write:
        write_table(PAGE, Results().table())
        say(f"written: {PAGE}")
    return status


def _isolate() -> None:
    """No setting, login or proxy of this machine reaches a case; Ctrl-C ends what it started."""
    isolate()
    # A missing program is an error here, and no reason to skip.
    os.environ["CI"] = "true"
    # A client that goes away while it is answered is a part of some cases.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _run(registries: Sequence[str], cases: Sequence[str]) -> int:
    progress = Progress(Results())
    commit, broken = tested_commit(), False
    with RedisServer() as redis, DockerDaemon() as engine:
        for name in registries:
            try:
                for result in RegistryRun(BY_NAME[name], cases, commit).results(redis.url, engine):
                    progress.add(result)
            except (OutcomeException, OSError) as error:
                # A server or the worker did not start: the other registries are run.
                say(f"{name}: {error}")
                broken = True
    count = progress.count
    say(
        f"{count(Outcome.PASSED)} passed, {count(Outcome.REFUSED)} refused as expected, "
        f"{count(Outcome.FAILED)} failed, {count(Outcome.NOT_APPLICABLE)} not applicable"
    )
    return 1 if broken or count(Outcome.FAILED) else 0


class RegistryRun:
    """All cases on one registry, by one worker."""

    def __init__(self, kind: RegistryKind, cases: Sequence[str], commit: str) -> None:
        self._kind = kind
        self._commit = commit
        self._cases = {name: CASES[name] for name in cases}
        #: By case: why its component cannot be used.
        self._refused: dict[str, str] = {}

    def results(self, redis_url: str, engine: DockerDaemon) -> Iterator[CaseResult]:
        """Run them one after another."""
        wanted = {}
        for name, case in self._cases.items():
            if lacking := sorted(case.needs - self._kind.traits):
                yield self._result(name, Outcome.NOT_APPLICABLE, f"it {lacking[0]}", 0)
            else:
                wanted[name] = case
        if not wanted:
            return
        with ExitStack() as stack:
            running = self._kind.start(stack)
            fronts = stack.enter_context(Fronts())
            made = {name: fronts.make(running.address, wanted[name].rules) for name in wanted}
            other = stack.enter_context(StrictRegistry())
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ts-")))
            site = Site(folder, redis_url, engine.url, TRANSSHIP_LEASE=_LEASE)
            stack.callback(site.close)
            components = {name: self._component(name, running, made[name]) for name in wanted}
            usable = self._usable(folder, components)
            site.write_catalog(
                {OTHER: {"flavor": "default", "uri": f"{other.address}/{NAMESPACE}"}} | usable
            )
            site.start_worker(**{PASSWORD_VARIABLE: running.password})
            client = engine.client()
            stack.callback(client.close)
            for name, case in wanted.items():
                ground = Ground(
                    name, self._kind, running, made[name], f"case-{name}", other, site, client
                )
                yield self._run_case(ground, case)

    def _component(self, name: str, running: Running, front: Front) -> dict[str, Any]:
        component = {"flavor": "default", "uri": f"{front.address}/{NAMESPACE}"}
        if self._kind.prefix:
            component["endpoint"] = f"http://{front.address}{self._kind.prefix}"
        return {**component, **running.component, **self._cases[name].options}

    def _usable(
        self, folder: Path, components: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Mapping[str, Any]]:
        """The components that the worker's catalog may have; one mistake would refuse all."""
        usable = {}
        file = folder / "probe.yaml"
        for name, component in components.items():
            file.write_text(json.dumps({"registries": {f"case-{name}": component}}))
            file.chmod(0o600)
            try:
                Catalog.open(file)
            except CatalogError as error:
                self._refused[name] = str(error)
            else:
                usable[f"case-{name}"] = component
        return usable

    def _run_case(self, ground: Ground, case: Case) -> CaseResult:
        began = time.monotonic()
        outcome, reason, text = Outcome.PASSED, "", ""
        try:
            if ground.case in self._refused:
                raise CheckFailed(self._refused[ground.case])
            case.run(ground)
            if ground.kind.refusals.get(ground.case):
                raise CheckFailed("it passed, and the registry is known to refuse it")
            reason = "; ".join(ground.notes)
        except Refused as error:
            outcome, reason = Outcome.REFUSED, str(error)
        except (Exception, OutcomeException) as error:  # noqa: BLE001 - each is a result
            outcome, reason = Outcome.FAILED, str(error) or type(error).__name__
            text = traceback.format_exc()
        if ground.other.violations:
            outcome, reason = Outcome.FAILED, "; ".join(ground.other.violations)
            ground.other.violations.clear()
        self._log(ground, text)
        seconds = time.monotonic() - began
        return self._result(ground.case, outcome, reason[:_REASON], seconds)

    def _log(self, ground: Ground, text: str) -> None:
        asked = "\n".join(f"{one.status} {one.method} {one.path}" for one in ground.front.asked)
        workers = [worker.log_text()[-6000:] for worker in ground.site.workers]
        log = log_of(f"registries-{self._kind.name}-{ground.case}")
        log.write_text("\n".join([text, asked, *workers]))

    def _result(self, case: str, outcome: Outcome, reason: str, seconds: float) -> CaseResult:
        return CaseResult(self._kind.name, case, outcome, reason, seconds, self._commit)
