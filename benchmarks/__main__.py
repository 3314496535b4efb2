"""``python -m benchmarks``; see ``--help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import peers, report
from benchmarks.cases import CASES
from benchmarks.measure import Result, Wanted, measure
from benchmarks.servers import Ground

_ROUNDS: Final = 5
_QUICK_ROUNDS: Final = 2
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a benchmark's data, in a folder of its own


def main() -> int:
    """Measure, print a table, write JSON; status 1 when a limit is missed."""
    given = _arguments()
    if missing := peers.missing():
        say(f"not installed: {', '.join(missing)}")
        return 2
    wanted = Wanted(ours=not given.only_peers, peers=not given.only_ours)
    folder = _MEMORY if given.data == "memory" else Path(tempfile.gettempdir())
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="longshore-bench-", dir=folder) as data:
        ground = Ground(Path(data))
        around = report.Surroundings.look(ground.data)
        for name in given.names or CASES:
            case = CASES[name]
            rounds = case.rounds or (_QUICK_ROUNDS if given.quick else _ROUNDS)
            with case.sides(ground, rounds, wanted) as sides:
                if sides:
                    results.append(measure(case, sides, rounds, say))
    sys.stdout.write(report.table(results, around) + "\n")
    output = given.output or Path(".cache/bench") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report.document(results, around))
    say(f"every figure is in {output}")
    return 0 if all(result.kept for result in results) else 1


def say(text: str) -> None:
    """Tell people how it goes; the table alone is on the standard output."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev bench",
        description="Measure Longshore and its peers on the same work, in turns.",
        epilog=f"names:\n{report.catalogue(CASES.values())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure; all if left out")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_ROUNDS} rounds, not {_ROUNDS}"
    )
    sides = parser.add_mutually_exclusive_group()
    sides.add_argument("--only-peers", action="store_true", help="without Longshore")
    sides.add_argument("--only-ours", action="store_true", help="without its peers")
    parser.add_argument(
        "--data",
        choices=["disk", "memory"],
        # Debian's registry waits for the disk at each blob: on a disk that others use, figures
        # of one side differ by a factor of three from round to round.
        default="memory" if _MEMORY.is_dir() else "disk",
        help="where the registries of all sides keep their data: in /dev/shm (the default where "
        "there is one) or on the disk of the temporary folder",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where JSON goes")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in CASES]:
        parser.error(f"no measurement {unknown[0]!r}; there are {', '.join(CASES)}")
    return given


if __name__ == "__main__":
    sys.exit(main())
