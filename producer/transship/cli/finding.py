"""One finding of ``transship doctor``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece: there, or missing and what would mend it."""

    check: str
    ok: bool
    #: A stable name for programs.
    code: str
    message: str
    mend: str = ""
