"""Processes whose wall clock is wrong, by Debian's libfaketime."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import missing


def wrong_by(offset: str) -> dict[str, str]:
    """The environment of a process whose wall clock is wrong, by ``+5h`` or ``-5h``.

    The monotonic clock stays, as it does when somebody sets a machine's clock.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        missing("libfaketime is not installed (Debian: faketime)")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
