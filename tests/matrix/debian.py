"""``python -m tests.matrix debian``: the demo and the tests on fresh Debian systems.

Each release gets a root of ``debootstrap --variant=minbase`` and a copy of the last commit. The
two commands of README.md run there as a new user would run them, with ``CI=true`` for the tests,
so that a missing program is a failure and not a skipped test.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.matrix.roots import Root, cache_folder, fresh_root, missing_programs

SUITES: Final = ("bookworm", "trixie")
#: Only where they are named: what is in them changes from day to day.
MORE_SUITES: Final = ("forky",)
COMMANDS: Final = ("demo", "test")
#: No command may take longer. Unit: s.
LIMIT_S: Final = 90 * 60
#: The checkout inside a root.
INSIDE: Final = "/root/transship"
CHECKOUT: Final = Path(__file__).parents[2]

_SUITES_HELP: Final = f"default: {' '.join(SUITES)}; also: {' '.join(MORE_SUITES)}"
_COUNTS: Final = re.compile(rb"(\d+ (?:passed|failed|skipped|errors?|xfailed)\b)")


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one command in one root."""

    suite: str
    command: str
    passed: bool
    #: pytest's own counts; for the demo: whether both digests are equal.
    counts: str
    seconds: float
    log: Path

    @property
    def line(self) -> str:
        """A line of the table."""
        outcome = "passed" if self.passed else "failed"
        return (
            f"{self.suite:<10} {self.command:<6} {outcome:<7} {self.seconds:>7.0f} s  "
            f"{self.counts or '-':<40} {self.log}"
        )


def main(arguments: Sequence[str]) -> int:
    """Run the matrix and show a table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.matrix debian",
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
    if os.geteuid() != 0:
        parser.error("a root file system can only be made and entered by root")
    if missing := missing_programs():
        parser.error(f"not installed: {', '.join(missing)}")
    # As Ctrl-C does: what was started is stopped, what was mounted or made is removed. A shell
    # starts what runs in its background with SIGINT ignored, which the tests would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = []
    try:
        for suite in options.suites or SUITES:
            for result in _run_suite(suite, options):
                results.append(result)
                _say(result.line)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"error: {error}")
        return 1
    if len(results) > 1:
        _say("", *(result.line for result in results))
    return 0 if all(result.passed for result in results) else 1


def _run_suite(suite: str, options: argparse.Namespace) -> Iterator[Result]:
    with fresh_root(suite, keep=options.keep) as root:
        root.copy_checkout(CHECKOUT, INSIDE)
        for command in [options.only] if options.only else COMMANDS:
            words = [command, *options.pytest.split()] if command == "test" else [command]
            yield _run(root, words)


def _run(root: Root, words: Sequence[str]) -> Result:
    log = cache_folder() / "logs" / f"debian-{root.suite}-{words[0]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    _say(f"{root.suite}: ./dev {' '.join(words)}; log: {log}")
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
        sys.stdout.write(text[-3000:].decode(errors="replace"))
    return Result(root.suite, words[0], status == 0, counts_of(words[0], text), seconds, log)


def counts_of(command: str, log: bytes) -> str:
    """What the output says of the outcome."""
    if command == "demo":
        return "digests equal" if b"They are the same." in log else ""
    # pytest's last line.
    last = log.strip().rpartition(b"\n")[2]
    return ", ".join(count.decode() for count in _COUNTS.findall(last))


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
