"""What the matrices share: their conditions, and the lines of their tables."""

from __future__ import annotations

import argparse
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.matrix.roots import cache_folder, missing_programs

_COUNTS: Final = re.compile(rb"(\d+ (?:passed|failed|skipped|errors?|xfailed)\b)")


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one case."""

    #: A system or a server, and what was run on it.
    case: str
    what: str
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
            f"{self.case:<16} {self.what:<8} {outcome:<7} {self.seconds:>6.0f} s  "
            f"{self.counts or '-':<32} {self.log}"
        )


def require_roots(parser: argparse.ArgumentParser) -> None:
    """End the command if this machine or user cannot make root file systems."""
    if os.geteuid() != 0:
        parser.error("a root file system can only be made and entered by root")
    if missing := missing_programs():
        parser.error(f"not installed: {', '.join(missing)}")


def log_of(name: str) -> Path:
    """Where the output of a case is stored."""
    log = cache_folder() / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def counts_of(log: bytes) -> str:
    """The counts in pytest's last line."""
    last = log.strip().rpartition(b"\n")[2]
    return ", ".join(count.decode() for count in _COUNTS.findall(last))


def say(*lines: str) -> None:
    """Show lines at once."""
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def say_end(log: bytes) -> None:
    """Show the end of a failed run's output."""
    say(log[-3000:].decode(errors="replace"))
