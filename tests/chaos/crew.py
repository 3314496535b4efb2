"""Workers under a supervisor that starts another where one ended, as systemd or Kubernetes do."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.support.processes import eventually
from tests.support.workers.process import Site, WorkerProcess

#: Between the end of a worker and its successor. Unit: s.
RESTART_S: Final = 0.7
#: What a worker says once it has all that it needs to begin.
_BEGUN: Final = ", slots: "
#: Statuses of one that found no engine or no Redis when it began; see ``transship worker --help``.
_NOT_BEGUN: Final = frozenset({1, 3})
#: Lines of a log that are shown.
_LINES: Final = 90
#: What a socket without a peer is called.
NO_PEER: Final = "socket"


class Hand(WorkerProcess):
    """A place in the crew: one worker process after another, in one log."""

    def __init__(self, site: Site) -> None:
        super().__init__(site, (), {})
        #: All processes that ever held the place.
        self.names: list[str] = []
        #: The signal that this process is to end by.
        self.doomed: signal.Signals | None = None
        self.frozen = False
        self._log_from = 0

    def answers(self) -> bool:
        # It is not waited for: Redis may be away.
        return True

    @property
    def status(self) -> int | None:
        """The exit status of the process; ``None``: it runs."""
        return self._process.poll() if self._process is not None else None

    def begin(self) -> None:
        """Put a new process into the place."""
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        self.doomed, self.frozen = None, False
        self.start()
        self.names.append(self.name)

    def strike(self, number: signal.Signals) -> None:
        """Send the signal that is to end it; one that ended by itself is not touched."""
        if self.status is None:
            self.doomed = number
            os.kill(self.pid, number)

    def halt(self) -> None:
        """Freeze it."""
        if self.status is None and self.doomed is None:
            self.freeze()
            self.frozen = True

    def go_on(self) -> None:
        """Thaw it, if it is the process that was frozen."""
        if self.frozen and self.status is None:
            self.thaw()
        self.frozen = False

    @property
    def words(self) -> str:
        """What the process of now wrote."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    @property
    def begun(self) -> bool:
        """Whether it found all that it needs."""
        return _BEGUN in self.words


@dataclass(frozen=True, slots=True)
class Held:
    """What a process has of the machine."""

    #: Resident memory. Unit: bytes.
    memory: int
    #: What each open file is; a connection by the port that it leads to.
    files: tuple[str, ...]
    #: Those names that are sockets.
    sockets: frozenset[str]

    @classmethod
    def of(cls, pid: int) -> Self:
        """Look at a process."""
        peers = _peers(pid)
        found = []
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                name = os.readlink(link)  # noqa: PTH115 - it need not exist
            except OSError:
                continue
            found.append(peers.get(name, name.partition(":[")[0]))
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
        return cls(memory, tuple(sorted(found)), frozenset({*peers.values(), NO_PEER}))


def _peers(pid: int) -> dict[str, str]:
    """Where each TCP socket of a process leads to, by its name in the list of open files."""
    found = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        port, state = int(words[2].partition(":")[2], 16), int(words[3], 16)
        # proc(5), and 8 is CLOSE_WAIT (tcp_states.h).
        closed = ", closed by the other side" if state == 8 else ""
        found[f"socket:[{words[9]}]"] = f"port {port}{closed}"
    return found


class Crew:
    """So many places, and the thread that keeps them filled."""

    def __init__(self, site: Site, size: int, tell: Callable[[str], None]) -> None:
        self._site = site
        self._tell = tell
        self.hands = [Hand(site) for _ in range(size)]
        #: What ended that should not have.
        self.broken: list[str] = []
        #: Beginnings that failed because something was away just then.
        self.not_begun = 0
        self._due: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        for hand in self.hands:
            hand.begin()
        eventually(self.complete, what="a whole crew")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.rest()
        for hand in self.hands:
            hand.kill9()
            hand.close()

    def running(self) -> list[tuple[str, int]]:
        """The processes that run now, each with its place."""
        return [
            (f"worker {number}, process {hand.pid}", hand.pid)
            for number, hand in enumerate(self.hands)
            if hand.status is None
        ]

    def rest(self) -> None:
        """Start no more workers."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def complete(self) -> bool:
        """Whether producers see all of them."""
        seen = {worker.name for worker in self._site.client.fleet().workers}
        return all(hand.status is None and hand.name in seen for hand in self.hands)

    def _keep(self) -> None:
        while not self._ended.wait(0.05):
            for number, hand in enumerate(self.hands):
                if hand.status is None:
                    continue
                if number not in self._due:
                    self._judge(number, hand)
                    self._due[number] = time.monotonic() + RESTART_S
                elif time.monotonic() >= self._due[number]:
                    del self._due[number]
                    hand.begin()

    def _judge(self, number: int, hand: Hand) -> None:
        """Whether a process ended as it should have."""
        status = hand.status
        # One that had not begun has no handler yet.
        expected = {
            signal.SIGKILL: {-signal.SIGKILL},
            signal.SIGTERM: {os.EX_OK, os.EX_TEMPFAIL},
        }.get(hand.doomed or signal.SIGCONT, set())
        if status in expected:
            return
        if not hand.begun and (status in _NOT_BEGUN or hand.doomed is not None):
            self.not_begun += 1
            return
        self._tell(f"worker {number} ended with status {status}, as it should not")
        last = "\n    ".join(hand.words.splitlines()[-_LINES:])
        self.broken.append(
            f"worker {number} ({hand.names[-1]}) ended with status {status} "
            f"after {hand.doomed.name if hand.doomed else 'no signal'}; its log ends:\n    {last}"
        )
