"""``python -m benchmarks``; see ``--help``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import page, parse, peers, report
from benchmarks.cases import CASES, SCALE, chosen
from benchmarks.measure import Case, Result, Wanted, measure
from benchmarks.servers import Ground

_ROUNDS: Final = 5
_QUICK_ROUNDS: Final = 2
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a benchmark's data, in a folder of its own


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; status 1 when a limit is missed."""
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["parse"]:
        return parse.main(words[1:])
    given = _arguments(words)
    if given.page:
        for path in page.write(given.page, given.output):
            say(f"written: {path}")
        return 0
    cases: list[Case] = given.cases
    if missing := peers.missing(cases):
        say(f"not here: {', '.join(missing)}")
        return 2
    folder = _MEMORY if given.data == "memory" else Path(tempfile.gettempdir())
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="transship-bench-", dir=folder) as data:
        ground = Ground(Path(data), tiny=given.tiny, long=given.long)
        around = report.Surroundings.look(ground.data)
        for case in cases:
            results += _measured(case, ground, given)
            # After each case: hours may pass, and what is measured is not to be lost.
            _written(given.output, report.document(results, around, tiny=given.tiny))
    sys.stdout.write(report.table(results, around) + "\n")
    say(f"every figure is in {given.output}")
    if given.tiny:
        say("a tiny run: no figure and no verdict means anything")
    return 0 if given.tiny or all(result.kept for result in results) else 1


def _measured(case: Case, ground: Ground, given: argparse.Namespace) -> list[Result]:
    usual = 1 if given.tiny else _QUICK_ROUNDS if given.quick else _ROUNDS
    rounds = min(case.rounds or usual, usual)
    wanted = Wanted(ours=not given.only_peers, peers=not given.only_ours)
    with case.sides(ground, rounds, wanted) as sides:
        return [measure(case, sides, rounds, say)] if sides else []


def _written(output: Path, text: str) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)


def say(text: str) -> None:
    """Tell people how it goes; the table alone is on the standard output."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    given = parser.parse_args(words)
    if given.output is None:
        name = f".cache/bench/{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
        given.output = Path("docs" if given.page else name)
    try:
        given.cases = chosen(given.names, scale=given.scale)
    except LookupError as error:
        there = f"{', '.join(CASES)}, and {SCALE} for all that begin so"
        parser.error(f"no measurement '{error}'; there are {there}")
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev bench",
        description="Measure Transship and its peers on the same work, in turns.",
        epilog=f"names:\n{report.catalogue(CASES.values())}\n\n"
        "./dev bench parse measures what stored requests cost a worker; parse --help says more",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="what to measure; all but scale-* if left out")
    add("--quick", action="store_true", help=f"{_QUICK_ROUNDS} rounds, not {_ROUNDS}")
    add("--scale", action="store_true", help="how cost grows: every scale-*")
    add("--long", action="store_true", help="with scale-copy and scale-push: an image of 8 GiB")
    add(
        "--tiny",
        action="store_true",
        help="see that each case works: one round, sizes at which no figure means anything",
    )
    sides = parser.add_mutually_exclusive_group()
    sides.add_argument("--only-peers", action="store_true", help="without Transship")
    sides.add_argument("--only-ours", action="store_true", help="without its peers")
    add(
        "--data",
        choices=["disk", "memory"],
        # Debian's registry waits for the disk at each blob: on a disk that others use, figures
        # of one side differ by a factor of three from round to round.
        default="memory" if _MEMORY.is_dir() else "disk",
        help="where the registries of all sides keep their data: in /dev/shm (the default where "
        "there is one) or on the disk of the temporary folder",
    )
    add(
        "--page",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="measure nothing: write docs/performance.md and its charts from these files; what "
        "stands in several counts as in the last",
    )
    add("-o", "--output", type=Path, metavar="PATH", help="where JSON goes, or the page's folder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
