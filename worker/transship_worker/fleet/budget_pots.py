"""A process's share of the permits for transfers: the bookkeeping, which asks nobody.

A process takes permits for all transfers that wait in it, at all registries in one call, and
renews them with the next; what died with it comes back when it expires. While other processes
wait it keeps no more than an even share, and gives back what is beyond at the end of each
transfer; who waits is served in the order of joining the line, so that none starves even where
there are fewer permits than processes.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from transship.ledger.keys import Keys
from transship_worker.oci.login import Login

#: How long a permit outlives its process. Unit: s.
PERMIT_S: Final = 10.0
#: Permits are renewed so often, and idle ones given back. Unit: s.
RENEW_S: Final = 1.0
#: How often a process that waits asks; all its waits in one call. Unit: s.
POLL_S: Final = 0.05
#: How long a place in line outlives its process. Unit: s.
LINE_S: Final = 2.0


@dataclass(slots=True)
class Pot:
    """The permits of this process at one registry with one login."""

    limit: int
    #: Transfers that run and wait here now.
    running: int = 0
    waiting: int = 0
    #: Up to how many may run, and how many of them are the even share.
    allowed: int = 0
    fair: int = 0
    #: Other processes wait.
    contended: bool = False
    #: What Redis holds for this process.
    held: int = 0

    @property
    def may_start(self) -> bool:
        """Whether one more may run."""
        return self.running < self.allowed

    @property
    def busy(self) -> bool:
        """Whether Redis must go on hearing of it."""
        return bool(self.running or self.waiting or self.held)

    @property
    def gives_back(self) -> bool:
        """Whether others wait for what is held here and not used."""
        used = max(self.running, self.allowed) if self.waiting else self.running
        return self.contended and self.held > used

    @property
    def pause_s(self) -> float:
        """How long until Redis should hear of it again. Unit: s."""
        if self.gives_back or (self.waiting and not self.running):
            return POLL_S
        # Who has some can wait longer for more, and hears so of others that wait; what is idle
        # may be used again at once, but not be kept from others for long.
        return 4 * POLL_S if self.waiting or self.held > self.running else RENEW_S

    def ended(self) -> None:
        """A transfer is over."""
        self.running -= 1
        if self.contended:
            self.allowed = min(self.allowed, max(self.fair, self.running))

    def told(self, running: int, reply: Sequence[int]) -> None:
        """What Redis said when so many ran."""
        allowed, self.fair = reply[0], reply[1]
        self.contended = bool(reply[2])
        # What Redis holds is what it was told of.
        self.held = max(running, allowed)
        if self.contended:
            # What ended meanwhile is not replaced beyond the even share, as in ``ended``.
            ended = running - self.running
            allowed = max(min(allowed, self.fair), allowed - ended)
        self.allowed = allowed


class Turn(Protocol):
    """Somebody's place in line: a future of asyncio or of threads."""

    def done(self) -> bool:
        """Whether it was given, or given up."""

    def set_result(self, result: Any, /) -> None:
        """Give it."""


TurnT = TypeVar("TurnT", bound=Turn)


@dataclass
class Line(Generic[TurnT]):
    """Who waits in this process for a permit of one pot: first come, first served.

    A permit is handed over by whoever hears of it. Were those who wait only told to look, the
    next call could be on its way before any of them did, and again, for ever.
    """

    pot: Pot
    turns: deque[TurnT] = field(default_factory=deque)

    def join(self, turn: TurnT) -> None:
        """Wait."""
        self.turns.append(turn)
        self.pot.waiting = len(self.turns)

    def leave(self, turn: TurnT) -> None:
        """Wait no longer."""
        if turn in self.turns:
            self.turns.remove(turn)
        self.pot.waiting = len(self.turns)

    def move(self) -> None:
        """Let those begin that may."""
        while self.turns and self.pot.may_start:
            turn = self.turns.popleft()
            # One that was cancelled in this moment leaves by itself.
            if not turn.done():
                self.pot.running += 1
                turn.set_result(None)
        self.pot.waiting = len(self.turns)


class Pots:
    """All pots of one process. Not safe to be used by two threads at once."""

    def __init__(self, keys: Keys, process: str, *, permit_s: float = PERMIT_S) -> None:
        """``process``: its name, for people who look into Redis."""
        self._keys = keys
        # Processes in containers have equal host names and numbers.
        self._process = f"{process}:{secrets.token_hex(4)}"
        self._permit_s = permit_s
        self._pots: dict[Login, Pot] = {}
        self._asked: list[tuple[Pot, int]] = []
        #: A call is on its way: what starts now would not be counted by it.
        self.asking = False

    def of(self, login: Login, limit: int) -> Pot:
        """The pot of a login, whose limit is the newest that was given."""
        pot = self._pots.setdefault(login, Pot(limit))
        pot.limit = limit
        return pot

    @property
    def busy(self) -> bool:
        """Whether any pot is."""
        return any(pot.busy for pot in self._pots.values())

    @property
    def pause_s(self) -> float:
        """How long until the next call is due. Unit: s."""
        return min([self._permit_s / 4, *(pot.pause_s for pot in self._pots.values())])

    def question(self) -> tuple[list[str], list[str | int]]:
        """Keys and arguments of the call; followed by ``answer`` or ``unanswered``."""
        self.asking = True
        self._asked = []
        keys: list[str] = []
        args: list[str | int] = [
            self._process,
            int(self._permit_s * 1000),
            int(LINE_S * 1000),
        ]
        for login, pot in self._pots.items():
            if pot.busy:
                keys.append(self._keys.permits(login.registry, login.name))
                keys.append(self._keys.permits_line(login.registry, login.name))
                args += [pot.limit, pot.running, pot.waiting]
                self._asked.append((pot, pot.running))
        return keys, args

    def answer(self, reply: Sequence[Sequence[int]]) -> None:
        """Take the call's reply."""
        for (pot, running), found in zip(self._asked, reply, strict=True):
            pot.told(running, found)
        self._asked = []
        self.asking = False

    def unanswered(self) -> None:
        """No reply came, if one is still waited for: Redis may have done all or nothing.

        What ran when it was called is covered in both cases, and no more.
        """
        for pot, running in self._asked:
            pot.allowed = min(pot.allowed, running)
        self._asked = []
        self.asking = False

    def abandon(self) -> None:
        """Nothing runs or waits any more: the next call gives all back."""
        for pot in self._pots.values():
            pot.running = pot.waiting = 0
