"""How much memory processes take, as Linux counts it."""

from __future__ import annotations

import re
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and all its descendants that live."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def peak(pid: int) -> int:
    """The most that a process and its descendants had, each at its own time. Unit: bytes."""
    return sum(_field(one, "VmHWM") for one in family(pid))


def resident(pid: int) -> int:
    """What a process and its descendants have now. Unit: bytes."""
    return sum(_field(one, "VmRSS") for one in family(pid))


def _field(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None, f"process {pid} has no {name}"
    return int(found[1]) * 1024
