"""``python -m tests.matrix debian``: the demo and the tests on fresh Debian systems.

Each release gets a root of ``debootstrap --variant=minbase`` and a copy of the last commit. The
two commands of README.md run there as a new user would run them, with ``CI=true`` for the tests,
so that a missing program is a failure and not a skipped test.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.matrix.hostconfig import HOME
from tests.matrix.outcomes import Result, counts_of, log_of, require_roots, say, say_end
from tests.matrix.roots import Root, fresh_root

SUITES: Final = ("bookworm", "trixie")
#: Only where they are named: what is in them changes from day to day.
MORE_SUITES: Final = ("forky",)
COMMANDS: Final = ("demo", "test")
#: No command may take longer. Unit: s.
LIMIT_S: Final = 90 * 60
#: The checkout inside a root.
INSIDE: Final = f"{HOME}/transship"
CHECKOUT: Final = Path(__file__).parents[2]

_SUITES_HELP: Final = f"default: {' '.join(SUITES)}; also: {' '.join(MORE_SUITES)}"


def main(arguments: Sequence[str]) -> int:
    """Run the matrix and show a table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="./dev test matrix debian",
        description="Run ./dev demo and ./dev test of the last commit in fresh Debian roots.",
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=_SUITES_HELP)
    parser.add_argument("--only", choices=COMMANDS, help="run one of the two commands")
    parser.add_argument(
        "--pytest", metavar="ARGS", default="", help="arguments of ./dev test, in one string"
    )
    parser.add_argument("--keep", action="store_true", help="do not delete the roots")
    options = parser.parse_args(arguments)
    if unknown := set(options.suites) - {*SUITES, *MORE_SUITES}:
        parser.error(f"unknown suite: {', '.join(sorted(unknown))}")
    require_roots(parser)
    # As Ctrl-C does: what was started is stopped, what was mounted or made is removed. A shell
    # starts what runs in its background with SIGINT ignored, which the tests would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = []
    try:
        for suite in options.suites or SUITES:
            for result in _run_suite(suite, options):
                results.append(result)
                say(result.line)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except (OSError, subprocess.SubprocessError) as error:
        say(f"error: {error}")
        return 1
    if len(results) > 1:
        say("", *(result.line for result in results))
    return 0 if all(result.passed for result in results) else 1


def _run_suite(suite: str, options: argparse.Namespace) -> Iterator[Result]:
    with fresh_root(suite, keep=options.keep) as root:
        root.copy_checkout(CHECKOUT, INSIDE)
        for command in [options.only] if options.only else COMMANDS:
            words = [command, *options.pytest.split()] if command == "test" else [command]
            yield _run(root, words)


def _run(root: Root, words: Sequence[str]) -> Result:
    log = log_of(f"debian-{root.suite}-{words[0]}")
    say(f"{root.suite}: ./dev {' '.join(words)}; log: {log}")
    began = time.monotonic()
    with log.open("wb") as output:
        try:
            status = root.run(
                ["./dev", *words],
                folder=INSIDE,
                environment={"CI": "true"} if words[0] == "test" else {},
                output=output,
                timeout_s=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            status = -1
            output.write(f"\naborted after {LIMIT_S} s\n".encode())
    seconds = time.monotonic() - began
    text = log.read_bytes()
    if status:
        say_end(text)
    counts = _digests(text) if words[0] == "demo" else counts_of(text)
    return Result(root.suite, words[0], status == 0, counts, seconds, log)


def _digests(log: bytes) -> str:
    """What the demo says of its two digests."""
    return "digests equal" if b"They are the same." in log else ""
