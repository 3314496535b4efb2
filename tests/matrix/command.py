"""What the commands of the matrices of engines and of registries share."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.matrix.outcomes import say
from tests.matrix.results import CaseResult, StoredResults

CHECKOUT: Final = Path(__file__).parents[2]
#: The page with the tables of all results.
PAGE: Final = CHECKOUT / "docs/compatibility.md"


def parser_of(matrix: str, subject: str, description: str) -> argparse.ArgumentParser:
    """The arguments of a matrix whose cases are run on each ``subject``."""
    name = subject.upper()
    parser = argparse.ArgumentParser(
        prog=f"./dev test matrix {matrix}",
        description=f"{description} {name} and CASE select; a word that ends with * selects all "
        "names that begin so.",
    )
    parser.add_argument("words", nargs="*", metavar=f"{name}|CASE")
    parser.add_argument("--list", action="store_true", help=f"show {matrix} and cases, and end")
    parser.add_argument(
        "--write", action="store_true", help="write all stored results to docs/compatibility.md"
    )
    return parser


def select(words: Sequence[str], **sorts: Collection[str]) -> list[list[str]]:
    """The names of each sort that some words name; all of a sort of which none is named.

    Raises:
        ValueError: A word names none.
    """
    chosen: dict[str, list[str]] = {sort: [] for sort in sorts}
    for word in words:
        pattern = re.compile(re.escape(word).replace(r"\*", ".*"))
        matching = {sort: list(filter(pattern.fullmatch, names)) for sort, names in sorts.items()}
        if not any(matching.values()):
            raise ValueError(f"unknown {' or '.join(sorts)}: {word} (--list shows them)")
        for sort, names in matching.items():
            chosen[sort] += names
    return [chosen[sort] or list(names) for sort, names in sorts.items()]


def isolate() -> None:
    """No setting, login or proxy of this machine reaches a case; Ctrl-C ends what it started."""
    for name in set(os.environ) - {"TRANSSHIP_DEV_CACHE"}:
        if name.startswith(("DOCKER_", "TRANSSHIP_", "AWS_")) or "proxy" in name.lower():
            del os.environ[name]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def tested_commit() -> str:
    """The checkout's commit, shortened."""
    words = ["git", "-C", str(CHECKOUT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


class Progress:
    """Stores and shows each result of one run when it is there."""

    def __init__(self, stored: StoredResults) -> None:
        self._stored = stored
        self.results: list[CaseResult] = []

    def add(self, result: CaseResult) -> None:
        """Store and show a result."""
        self._stored.add(result)
        self.results.append(result)
        say(result.line)

    def count(self, outcome: StrEnum) -> int:
        """How many cases had an outcome."""
        return sum(result.outcome is outcome for result in self.results)


def interruptible(run: Callable[[], int]) -> int:
    """The exit status of a run; that of an interrupted one after Ctrl-C."""
    try:
        return run()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
