"""One program that ``transship up`` keeps running."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from transship_config.errors import TransshipError

#: Lines of a dead program's log that its error shows.
TAIL_LINES: Final = 6

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


@dataclass(slots=True)
class Part:
    """A child process in a session of its own, so that Ctrl-C reaches only ``up``.

    Without a log its output goes to the standard error of ``up``.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    folder: Path | None = None
    #: What it gets when ``up`` itself is killed (Linux).
    orphan_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it.

        Raises:
            TransshipError: the program cannot be run.
        """
        try:
            # The log of the last run is gone: what it says now is about this one.
            output = self.log.open("wb") if self.log else os.fdopen(os.dup(2), "wb")
            with output:
                self._process = subprocess.Popen(
                    list(self.command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.folder,
                    env=dict(self.environment),
                    start_new_session=True,
                    preexec_fn=partial(_end_with_parent, self.orphan_signal),
                )
        except OSError as error:
            raise TransshipError(f"{self.name} cannot be started: {error}") from None

    @property
    def pid(self) -> int | None:
        """The process id, once it is started."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, patience_s: float) -> bool:
        """SIGTERM, and wait so long for the end; whether it ended. Unit: s."""
        if self._process is None or self._process.poll() is not None:
            return True
        self._process.terminate()
        return self.ended_within(patience_s)

    def ended_within(self, patience_s: float) -> bool:
        """Wait so long for the end; whether it came. Unit: s."""
        if self._process is None:
            return True
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def death(self) -> TransshipError:
        """What to say of a part that ended by itself."""
        status = self._process.poll() if self._process else None
        how = "ended"
        if status is not None and status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        elif status is not None:
            how = f"ended with status {status}"
        if self.log is None:
            return TransshipError(f"{self.name} {how}; its last lines stand above")
        lines = [line for line in self._log_lines() if line.strip()][-TAIL_LINES:]
        return TransshipError("\n".join([f"{self.name} {how}; its log is {self.log}", *lines]))

    def _log_lines(self) -> list[str]:
        try:
            return self.log.read_text(errors="replace").splitlines() if self.log else []
        except OSError:
            return []


def free_port(wanted: int = 0) -> int:
    """The port if nobody listens there on 127.0.0.1, else any that is free now."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise TransshipError("no free port on 127.0.0.1")


# Loaded here: between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent(number: signal.Signals) -> None:
    """On Linux: ask for a signal when ``up`` itself is killed, so that it leaves nothing behind."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)
