"""``./dev test matrix engines``: run the cases, and show and store what came of them."""

from __future__ import annotations

import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

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
from tests.matrix.engines.cases import CASES
from tests.matrix.engines.ground import Ground, Skipped, fleet
from tests.matrix.engines.results import Outcome, Results, write_table
from tests.matrix.engines.start import BUILDKIT_SUITE, Engine, engine_of, root_of
from tests.matrix.outcomes import log_of, require_roots, say
from tests.matrix.results import CaseResult
from tests.support.engines.kinds import BY_NAME, EngineKind
from tests.support.servers.redis import RedisServer
from tests.support.workers.process import Site

#: A reason in a table is no longer. Unit: characters.
_REASON: Final = 400


def main(arguments: Sequence[str]) -> int:
    """Run the matrix and show each result; the exit status."""
    parser = parser_of(
        "engines",
        "engine",
        "Push from every supported engine by a real worker, and check the registry.",
    )
    parser.add_argument(
        "--serve", metavar="ENGINE", help="start one engine, show its address, wait for Ctrl-C"
    )
    options = parser.parse_args(arguments)
    if options.list:
        say("engines:", *(f"  {name}" for name in BY_NAME))
        say("cases:", *(f"  {name:<24} {case.title}" for name, case in CASES.items()))
        return 0
    if options.serve and options.serve not in BY_NAME:
        parser.error(f"unknown engine: {options.serve}; known: {' '.join(BY_NAME)}")
    try:
        engines, cases = select(options.words, engine=BY_NAME, case=CASES)
    except ValueError as error:
        parser.error(str(error))
    status = 0
    if options.serve or options.words or not options.write:
        require_roots(parser)
        _make_roots([options.serve] if options.serve else engines)
        isolate()
        if options.serve:
            status = _serve(BY_NAME[options.serve])
        else:
            status = interruptible(partial(_run, engines, cases))
    if options.write:
        write_table(PAGE, Results().table())
        say(f"written: {PAGE}")
    return status


def _make_roots(engines: Sequence[str]) -> None:
    """Before the proxies of this machine, which installations need, are hidden."""
    # BuildKit's client is in a root, also for this machine's own engine.
    for suite in sorted({BY_NAME[name].suite or BUILDKIT_SUITE for name in engines}):
        say(f"root of {suite}: {root_of(suite)}")


def _serve(kind: EngineKind) -> int:
    with engine_of(kind) as engine:
        say(f"export DOCKER_HOST={engine.url}")
        say(f"# log: {engine.log}; Ctrl-C ends it")
        try:
            signal.pause()
        except KeyboardInterrupt:
            say("stopped")
    return 0


def _run(engines: Sequence[str], cases: Sequence[str]) -> int:
    progress = Progress(Results())
    with RedisServer() as redis:
        for name in engines:
            for result in _run_engine(BY_NAME[name], cases, redis.url):
                progress.add(result)
    say(", ".join(f"{progress.count(outcome)} {outcome}" for outcome in Outcome))
    return 1 if progress.count(Outcome.FAILED) else 0


def _run_engine(kind: EngineKind, cases: Sequence[str], redis_url: str) -> Iterator[CaseResult]:
    with (
        engine_of(kind) as engine,
        tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp") as folder,
        fleet(engine, redis_url, Path(folder)) as site,
    ):
        for case in cases:
            yield _run_case(kind, engine, site, case)


def _run_case(kind: EngineKind, engine: Engine, site: Site, case: str) -> CaseResult:
    log = log_of(f"engines-{kind.name}-{case}")
    began = time.monotonic()
    outcome, reason, text = Outcome.PASSED, "", ""
    try:
        if not engine.running:
            # A case that killed it failed before it was started again.
            engine.start()
        with Ground(kind, engine, site) as ground:
            try:
                CASES[case].run(ground)
            finally:
                text = ground.log()
        reason = "; ".join(ground.notes)
    except Skipped as error:
        outcome, reason = Outcome.SKIPPED, str(error)
    except (Exception, OutcomeException) as error:  # noqa: BLE001
        outcome, reason = Outcome.FAILED, str(error) or type(error).__name__
        text = f"{traceback.format_exc()}\n{text}"
    log.write_text(text)
    seconds = time.monotonic() - began
    return CaseResult(kind.name, case, outcome, reason[:_REASON], seconds, tested_commit())
