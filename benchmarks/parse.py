"""``./dev bench parse``: what a worker spends on the stored requests that cost the most.

Each one is read in a process of its own, in the way of a worker: parsed, and when it is refused
looked at for a newer version and for its first mistake.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydantic

from benchmarks.stored_requests import corpus
from transship.model.request_fields import request_problem
from transship.model.requests import newer, parse_request
from transship.model.stored_text import REQUEST

#: Processor time and further memory that a request may take, by its size. Units: s, bytes.
_LIMITS: Final = {False: (0.050, 10 << 20), True: (1.0, 80 << 20)}
_MOST_MESSAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What the reading of one request took."""

    name: str
    size: int
    #: Processor time, the least of the rounds. Unit: s.
    seconds: float
    #: By how much the process grew at most. Unit: bytes.
    memory: int
    #: What a person is told; ``read``: the request is one.
    result: str

    @property
    def kept(self) -> bool:
        """Whether it stays within the limits for its size."""
        seconds, memory = _LIMITS[self.size > REQUEST.longest]
        return self.seconds <= seconds and self.memory <= memory


def read(body: bytes | str) -> str:
    """Read a request as a worker does; what is told of it."""
    try:
        parse_request(body)
    except pydantic.ValidationError as error:
        return newer(body) or str(request_problem(error))
    return "read"


def measured(name: str, body: bytes, rounds: int) -> Cost:
    """Read a request in processes of their own.

    The least of the times counts: what else runs on the machine only ever adds to it.
    """
    costs = [_in_a_child(lambda: _cost(name, body)) for _ in range(rounds)]
    return min(costs, key=lambda cost: cost.seconds)


def _cost(name: str, body: bytes) -> Cost:
    # What a worker has: the text that the Redis client made.
    text = body.decode("utf-8", "replace")
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak()
    started = time.process_time()
    result = read(text)
    seconds = time.process_time() - started
    return Cost(name, len(body), seconds, _peak() - before, result)


def _peak() -> int:
    """The most memory that this process had since it was asked to forget. Unit: bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _in_a_child(work: Callable[[], Cost]) -> Cost:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            cost = work()
            found = [cost.name, cost.size, cost.seconds, cost.memory, cost.result]
            os.write(writing, json.dumps(found).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"bench: a process that read a request ended with status {status}")
    return Cost(*json.loads(answer))


def main(words: Sequence[str]) -> int:
    """Print a table; status 1 when a request costs more than it may."""
    parser = argparse.ArgumentParser(prog="./dev bench parse", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="read each so often (%(default)s)")
    given = parser.parse_args(words)
    # Imports, and what is made once, are no cost of a request.
    for body in (b'{"image":"a.b/c:1","registry":"p"}', next(iter(corpus()))[1]):
        read(body)
    costs = [measured(name, body, given.rounds) for name, body in corpus()]
    width = max(len(cost.name) for cost in costs)
    for cost in costs:
        mark = "kept" if cost.kept else "MISSED"
        sys.stdout.write(
            f"{cost.name:{width}}  {cost.size:>8} B {cost.seconds * 1e3:>7.1f} ms "
            f"{cost.memory / (1 << 20):>5.1f} MiB  {mark:6}  {cost.result[:60]}\n"
        )
    for large, (seconds, memory) in _LIMITS.items():
        mine = [cost for cost in costs if (cost.size > REQUEST.longest) is large]
        sys.stdout.write(
            f"{'up to 1 MiB' if large else 'up to 64 KiB'}: {len(mine)} requests, "
            f"at most {max(c.seconds for c in mine) * 1e3:.0f} ms of {seconds * 1e3:.0f} and "
            f"{max(c.memory for c in mine) / (1 << 20):.1f} MiB of {memory >> 20}\n"
        )
    told = [cost for cost in costs if len(cost.result) > _MOST_MESSAGE]
    return 0 if all(cost.kept for cost in costs) and not told else 1
