"""Entry point: ``./dev test matrix [NAME [ARG]...]`` runs one matrix, or all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.matrix import debian, servers
from tests.matrix.engines import run as engines
from tests.matrix.registries import run as registries

#: Each matrix by its name; it takes the remaining arguments and returns the exit status.
MATRICES: Final[Mapping[str, Callable[[Sequence[str]], int]]] = {
    "debian": debian.main,
    "servers": servers.main,
    "engines": engines.main,
    "registries": registries.main,
}


def main(arguments: Sequence[str]) -> int:
    """Run one matrix with its arguments, or several without any; the exit status of the worst."""
    if set(arguments) <= set(MATRICES):
        return max(MATRICES[name]([]) for name in arguments or MATRICES)
    if arguments[0] in MATRICES:
        return MATRICES[arguments[0]](arguments[1:])
    out = sys.stdout if arguments[0] in {"-h", "--help"} else sys.stderr
    names = "|".join(MATRICES)
    out.write(
        f"usage: ./dev test matrix [{names}]...\n"
        f"       ./dev test matrix {names} ARG...    (--help says which)\n"
    )
    return 0 if out is sys.stdout else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
