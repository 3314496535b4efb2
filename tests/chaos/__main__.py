"""``./dev chaos``; see ``--help``."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.run import Options, run


def main() -> int:
    """Run, print the report, and return 1 if anything is broken."""
    given = _arguments()
    start = time.monotonic()

    def tell(text: str) -> None:
        sys.stderr.write(f"chaos: {time.monotonic() - start:6.1f} s: {text}\n")

    tell(f"seed {given.seed}")
    try:
        options = Options(given.seed, given.seconds, keep=given.keep, sentinel=given.sentinel)
        report = run(options, tell)
    except (pytest.fail.Exception, pytest.skip.Exception) as error:
        # What tests and this share says so when a server is missing or does not start.
        tell(f"cannot run: {error}")
        return 2
    sys.stdout.write((report.to_json() if given.json else report.to_text()) + "\n")
    return 1 if report.broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev chaos",
        description="Run a whole fleet while workers, Redis, the Docker Engine, connections and "
        "registries fail, let it drain, and check from outside that nothing was lost, done twice "
        "or left behind.",
        epilog="The seed decides which faults come when and what is submitted; times differ from "
        "run to run. Exit status: 1 when something is broken, 2 when it cannot run.",
    )
    parser.add_argument(
        "--seconds", type=float, default=120, metavar="S", help="how long faults strike (120)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=os.environ.get("SEED") or random.SystemRandom().randrange(10**6),
        metavar="N",
        help="repeats the choices of a run; SEED=N does the same (left out: by chance)",
    )
    parser.add_argument(
        "--sentinel",
        action="store_true",
        help="a primary and a replica under three sentinels; primaries are killed and paused",
    )
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="write the logs of all that ran, and when each fault struck, into this folder",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
