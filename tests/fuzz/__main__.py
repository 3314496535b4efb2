"""``./dev fuzz``: run targets, each in a process of its own, and say what came of it.

Inputs that reach something new are kept only with ``--keep``, as a small set that reaches all that
was reached. What breaks a target is written beside the corpus, to become a part of it when mended.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.keep import keep as keep_best
from tests.fuzz.targets import TARGETS

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
#: Inputs that broke a target; not committed.
BROKEN: Final = HERE / "broken"
#: No input may take so long. Unit: s.
ONE_INPUT_S: Final = 10
#: No target may take so much memory. Unit: MiB.
MEMORY_MIB: Final = 512
#: Targets at once.
AT_ONCE: Final = 2
#: Targets with the slowest executions begin first, so that they do not end last.
_SLOW: Final = ("yaml", "catalog", "spec", "request")

_STATUS = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
_DONE = re.compile(r"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)
_PEAK = re.compile(r"^stat::peak_rss_mb:\s+(\d+)", re.MULTILINE)
_TIME = re.compile(r"^Done \d+ runs in (\d+) second", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one target."""

    target: str
    executions: int
    seconds: int
    #: Branches reached by the kept corpus, and at the end.
    before: int
    after: int
    peak_mib: int
    broken: bool
    output: str

    @property
    def line(self) -> str:
        """A line of the table."""
        pace = self.executions // max(self.seconds, 1)
        grown = f"{self.before} → {self.after}"
        return (
            f"{self.target:<10} {self.executions:>10,} {pace:>9,}/s {grown:>13} "
            f"{self.peak_mib:>5} MiB  {'BROKEN' if self.broken else 'ok'}"
        )


def _words(target: str, folder: Path) -> Path:
    """A dictionary for libFuzzer."""
    made = folder / f"{target}.dict"
    lines = ["".join(f"\\x{byte:02x}" for byte in word.encode()) for word in TARGETS[target].words]
    made.write_text("".join(f'"{line}"\n' for line in lines))
    return made


#: A shell that runs its arguments as a child, and ends with its status.
_SMALL_PARENT: Final = ("sh", "-c", '"$@"; exit $?', "sh")


def _libfuzzer(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Linux hands on the largest size that a process had to what it executes, and libFuzzer measures
    # that: a shell between them is small, whatever the tests before took of this process.
    command = [*_SMALL_PARENT, sys.executable, "-m", "tests.fuzz.one", target, *arguments]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


def fuzz(target: str, runs: int, seed: int, *, keep: bool) -> Result:
    """Run one target so often."""
    kept = CORPUS / target
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), Path(name) / "found"
        found.mkdir()
        BROKEN.mkdir(exist_ok=True)
        done = _libfuzzer(
            target,
            f"-runs={runs}",
            f"-seed={seed}",
            f"-max_len={TARGETS[target].longest}",
            f"-timeout={ONE_INPUT_S}",
            f"-rss_limit_mb={MEMORY_MIB}",
            f"-dict={_words(target, folder)}",
            f"-artifact_prefix={BROKEN}/{target}-",
            "-print_final_stats=1",
            str(found),
            str(kept),
        )
        if keep and done.returncode == 0:
            keep_best(TARGETS[target].run, kept, found.iterdir(), TARGETS[target].longest)
    return _result(target, done)


def _result(target: str, done: subprocess.CompletedProcess[str]) -> Result:
    text = done.stderr
    states = _STATUS.findall(text)
    first = next((s for s in states if s[1] == "INITED"), ("0", "", "0", "0", "0"))
    last = states[-1] if states else first
    numbers = [int(m[1]) if (m := found.search(text)) else 0 for found in (_DONE, _PEAK, _TIME)]
    executions, peak, seconds = numbers
    broken = done.returncode != 0 or not executions
    return Result(
        target, executions, seconds, int(first[2]), int(last[2]), peak, broken, _why(done)
    )


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """The error itself and the input, without the lines about progress."""
    told = (
        line for line in done.stderr.splitlines() if not line.startswith(("INFO:", "#", "WARN"))
    )
    return "\n".join([done.stdout[-4_000:], *told])[-8_000:]


def _run_all(names: list[str], runs: int, seed: int, *, keep: bool) -> Iterator[Result]:
    order = sorted(names, key=lambda name: _SLOW.index(name) if name in _SLOW else len(_SLOW))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda name: fuzz(name, runs, seed, keep=keep), order)


def main() -> int:
    """Run what the arguments say; 1 if a target broke."""
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS), help="default: all")
    parser.add_argument("--runs", type=int, default=100_000, help="executions of each target")
    parser.add_argument("--seed", type=int, help="repeats a run; default: another one each time")
    parser.add_argument("--keep", action="store_true", help="add what is found to the corpus")
    arguments = parser.parse_args()
    seed = arguments.seed or random.SystemRandom().randint(1, 2**31 - 1)
    names = [arguments.target] if arguments.target else sorted(TARGETS)
    print(f"seed {seed}", flush=True)  # noqa: T201
    results = []
    for result in _run_all(names, arguments.runs, seed, keep=arguments.keep):
        results.append(result)
        print(result.line, flush=True)  # noqa: T201
        if result.broken:
            print(result.output, file=sys.stderr, flush=True)  # noqa: T201
    total = sum(result.executions for result in results)
    print(f"{total:,} executions, {sum(r.broken for r in results)} broken")  # noqa: T201
    return 1 if any(result.broken for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
