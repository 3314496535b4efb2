"""Entry point: ``python -m tests.matrix [NAME [ARG]...]`` runs one matrix; without a name, all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.matrix import debian, servers

#: Each matrix by its name; it takes the remaining arguments and returns the exit status.
MATRICES: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    "debian": debian.main,
    "servers": servers.main,
}


def main(arguments: Sequence[str]) -> int:
    """Run the named matrix, or all; the exit status."""
    if not arguments:
        return max(run(()) for run in MATRICES.values())
    if arguments and arguments[0] in MATRICES:
        return MATRICES[arguments[0]](arguments[1:])
    out = sys.stdout if list(arguments) in (["-h"], ["--help"]) else sys.stderr
    out.write(f"usage: ./dev test matrix [{'|'.join(MATRICES)} [ARG]...]\n")
    return 0 if out is sys.stdout else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
