"""What a component lets the whole fleet use of its registry: the option ``limits``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that all workers together do at one registry with one login.

    ``None`` everywhere: no limit of that kind. Values are positive.
    """

    requests_per_second: float | None = None
    #: Transfers at once.
    transfers: int | None = None
    #: Unit: bytes/s.
    bytes_per_second: int | None = None
