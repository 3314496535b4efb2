"""``./dev test matrix engines``: run the cases, and show and store what came of them."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from _pytest.outcomes import OutcomeException

from tests.matrix.engines.cases import CASES
from tests.matrix.engines.ground import Ground, Skipped, fleet
from tests.matrix.engines.results import EngineResult, Outcome, Results, counts, write_table
from tests.matrix.engines.start import BUILDKIT_SUITE, Engine, engine_of, root_of
from tests.matrix.outcomes import log_of, require_roots, say
from tests.support.engines.kinds import BY_NAME, EngineKind
from tests.support.servers.redis import RedisServer
from tests.support.workers.process import Site

CHECKOUT: Final = Path(__file__).parents[3]
_PAGE: Final = CHECKOUT / "docs/compatibility.md"
#: A reason in a table is no longer. Unit: characters.
_REASON: Final = 400


def main(arguments: Sequence[str]) -> int:
    """Run the matrix and show each result; the exit status."""
    parser = argparse.ArgumentParser(
        prog="./dev test matrix engines",
        description="Push from every supported engine by a real worker, and check the registry. "
        "ENGINE and CASE select; a word that ends with * selects all names that begin so.",
    )
    parser.add_argument("words", nargs="*", metavar="ENGINE|CASE")
    parser.add_argument("--list", action="store_true", help="show the engines and cases, and end")
    parser.add_argument(
        "--serve", metavar="ENGINE", help="start one engine, show its address, wait for Ctrl-C"
    )
    parser.add_argument(
        "--write", action="store_true", help="write all stored results to docs/compatibility.md"
    )
    options = parser.parse_args(arguments)
    if options.list:
        say("engines:", *(f"  {name}" for name in BY_NAME))
        say("cases:", *(f"  {name:<24} {case.title}" for name, case in CASES.items()))
        return 0
    if options.serve and options.serve not in BY_NAME:
        parser.error(f"unknown engine: {options.serve}; known: {' '.join(BY_NAME)}")
    try:
        engines, cases = selected(options.words)
    except ValueError as error:
        parser.error(str(error))
    status = 0
    if options.serve or options.words or not options.write:
        require_roots(parser)
        _make_roots([options.serve] if options.serve else engines)
        _isolate()
        status = _serve(BY_NAME[options.serve]) if options.serve else _run(engines, cases)
    if options.write:
        write_table(_PAGE, Results().table())
        say(f"written: {_PAGE}")
    return status


def selected(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The engines and cases that some words name; all of a sort of which none is named.

    Raises:
        ValueError: A word names neither.
    """
    chosen: dict[str, list[str]] = {"engine": [], "case": []}
    for word in words:
        pattern = re.compile(re.escape(word).replace(r"\*", ".*"))
        for sort, names in (("engine", BY_NAME), ("case", CASES)):
            chosen[sort] += [name for name in names if pattern.fullmatch(name)]
        if not any(pattern.fullmatch(name) for name in [*BY_NAME, *CASES]):
            raise ValueError(f"unknown engine or case: {word} (--list shows them)")
    return chosen["engine"] or list(BY_NAME), chosen["case"] or list(CASES)


def _make_roots(engines: Sequence[str]) -> None:
    """Before the proxies of this machine, which installations need, are hidden."""
    # BuildKit's client is in a root, also for this machine's own engine.
    for suite in sorted({BY_NAME[name].suite or BUILDKIT_SUITE for name in engines}):
        say(f"root of {suite}: {root_of(suite)}")


def _isolate() -> None:
    """No setting, login or proxy of this machine reaches a case; Ctrl-C ends what it started."""
    for name in set(os.environ) - {"TRANSSHIP_DEV_CACHE"}:
        if name.startswith(("DOCKER_", "TRANSSHIP_", "AWS_")) or "proxy" in name.lower():
            del os.environ[name]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


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
    results = Results()
    done: list[EngineResult] = []
    try:
        with RedisServer() as redis:
            for name in engines:
                for result in _run_engine(BY_NAME[name], cases, redis.url):
                    results.add(result)
                    done.append(result)
                    say(result.line)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    say(", ".join(f"{number} {outcome}" for outcome, number in counts(done).items()))
    return 1 if any(result.outcome is Outcome.FAILED for result in done) else 0


def _run_engine(kind: EngineKind, cases: Sequence[str], redis_url: str) -> Iterator[EngineResult]:
    with (
        engine_of(kind) as engine,
        tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp") as folder,
        fleet(engine, redis_url, Path(folder)) as site,
    ):
        for case in cases:
            yield _run_case(kind, engine, site, case)


def _run_case(kind: EngineKind, engine: Engine, site: Site, case: str) -> EngineResult:
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
    return EngineResult(kind.name, case, outcome, reason[:_REASON], seconds, _commit())


def _commit() -> str:
    words = ["git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
