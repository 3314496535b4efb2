"""``transship up``: start Redis, a worker and Flower, watch them, stop them in order."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import redis

from transship.ledger.connection import address, connect, reaching
from transship.ledger.keys import Keys
from transship.ledger.local_url import URL_FILE, local_folder
from transship_config.errors import TransshipError
from transship_config.settings import Settings
from transship_worker.local.files import private_folder, read_or_none, write_private
from transship_worker.local.parts import Part, free_port
from transship_worker.local.redis import PrivateRedis, wait_until

#: Flower's usual port, taken when it is free.
FLOWER_PORT: Final = 5555

#: Columns of its list of tasks. There is one task name, so that one is left out.
FLOWER_COLUMNS: Final = "args,state,received,runtime,uuid,worker"

#: Seconds that the worker and Flower may take to get ready. Unit: s.
READY_S: Final = 60
#: Seconds beyond its grace that the worker has to hand its jobs back. Unit: s.
DRAIN_EXTRA_S: Final = 15
#: Seconds that Flower and Redis have to end. Unit: s.
END_S: Final = 15
_POLL_S: Final = 0.2

_FLOWER: Final = (
    *("celery", "-A", "transship_worker.app:app", "flower"),
    *("--address=127.0.0.1", "--read_only", "--persistent=False"),
    # A worker's name holds its process id: each start would leave a dead one in the list.
    "--purge_offline_workers=60",
    # What is pushed where stands in the arguments, which Flower does not show by itself.
    f"--tasks_columns={FLOWER_COLUMNS}",
)
#: Variables that Flower is given, by name and by how the name starts.
_FLOWER_NAMES: Final = frozenset({"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV"})
_FLOWER_PREFIXES: Final = ("TRANSSHIP_", "FLOWER_", "CELERY_", "PYTHON", "XDG_", "LC_", "LD_")


@dataclass(frozen=True, slots=True)
class Started:
    """A part that is ready, as ``up`` reports it."""

    part: str
    #: Where it is reached: a URL without its password, or the worker's name.
    address: str
    pid: int | None
    #: File that its output goes to; ``None``: the standard error of ``up``, or it is not ours.
    log: str | None = None


class _StopAsked(Exception):
    """Ctrl-C or SIGTERM while the parts were starting."""


class Up:
    """The parts of one run, in the order in which they are stopped."""

    def __init__(
        self, settings: Settings, report: Callable[[Started], None], say: Callable[[str], None]
    ) -> None:
        """``report`` is told of each part that is ready, ``say`` what a person may like to know."""
        self._settings = settings
        self._report = report
        self._say = say
        self.folder = private_folder(local_folder())
        self._logs = private_folder(self.folder / "logs")
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._parts: list[Part] = []
        self._worker: Part | None = None

    @property
    def url_file(self) -> Path:
        """Where other commands find the URL of Redis."""
        return self.folder / URL_FILE

    def run(self, ready: Callable[[], None]) -> None:
        """Start everything, call ``ready``, and return once all was stopped on a signal.

        Raises:
            RedisUnreachable: the Redis of the settings cannot be used.
            TransshipError: another ``up`` runs, or a part ended by itself.
        """
        with ExitStack() as stack:
            stack.enter_context(self._lock())
            stack.enter_context(self._signals())
            stack.callback(self._stop_parts)
            try:
                url = self._start_redis()
                stack.enter_context(self._published(url))
                self._start_others(url)
                ready()
                self._watch()
            except _StopAsked:
                return

    def _start_redis(self) -> str:
        url = self._settings.url.get_secret_value()
        if url:
            with connect(url) as client, reaching(url):
                client.ping()
            self._report(Started("redis", address(url), None))
            return url
        log = self._logs / "redis.log"
        server = PrivateRedis(self.folder / "redis", log)
        part = server.prepare(self._check)
        self._parts.append(part)
        part.start()
        server.wait(part, self._check)
        self._report(Started("redis", address(server.url), part.pid, str(log)))
        return server.url

    def _start_others(self, url: str) -> None:
        """Start the worker and Flower side by side; both take a second to load."""
        environment = {**os.environ, "TRANSSHIP_URL": url}
        # -P: what lies in the working directory must not be imported.
        python = [sys.executable, "-P", "-m"]
        worker = Part("the worker", [*python, "transship", "worker"], environment)
        log = self._logs / "flower.log"
        port = free_port(FLOWER_PORT)
        flower = Part(
            "Flower",
            [*python, *_FLOWER, f"--port={port}"],
            _for_flower(environment),
            log,
            # It executes a flowerconfig.py that it finds in its working directory.
            private_folder(self.folder / "flower"),
            # It keeps nothing; told to stop without its Redis, it would ask for it for ever.
            orphan_signal=signal.SIGKILL,
        )
        keys = Keys(self._settings.namespace)
        with connect(url) as client, reaching(url):
            before = _workers(client, keys)
            for part in (flower, worker):
                self._parts.insert(0, part)
                part.start()
            self._worker = worker
            wait_until(lambda: _workers(client, keys) > before, worker, READY_S, self._check)
            name = min(_workers(client, keys) - before)
        self._report(Started("worker", name, worker.pid))
        wait_until(lambda: _flower_answers(port), flower, READY_S, self._check)
        self._report(Started("flower", f"http://127.0.0.1:{port}", flower.pid, str(log)))

    def _check(self) -> None:
        """Called while something is waited for."""
        if self._stop.is_set():
            raise _StopAsked
        for part in self._parts:
            if not part.running:
                raise part.death()

    def _watch(self) -> None:
        while True:
            self._check()
            self._stop.wait(_POLL_S)

    def _stop_parts(self) -> None:
        """The worker first, while it can still hand its jobs back; Redis last."""
        for part in self._parts:
            if part is self._worker and part.running:
                self._drain(part)
            elif not part.stop(END_S):
                part.kill()

    def _drain(self, worker: Part) -> None:
        grace = self._settings.grace
        self._say(f"stopping: running pushes have {grace:.0f} s to end (Ctrl-C again: none)")
        self._hurry.clear()
        waited, patience = 0.0, grace + DRAIN_EXTRA_S
        ended = worker.stop(_POLL_S)
        while not ended and waited < patience and not self._hurry.is_set():
            waited += _POLL_S
            ended = worker.ended_within(_POLL_S)
        if not ended:
            worker.kill()
            self._say("the worker was killed; another one takes its jobs over when it starts")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One ``up`` per user: it would share the data folder with another."""
        path = self.folder / "lock"
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                process = file.read().strip() or "?"
                raise TransshipError(
                    f"`transship up` runs already (process {process}); commands of this user "
                    f"find its Redis through {self.url_file}"
                ) from None
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            # The file stays: deleting it would let two processes hold two locks.
            yield

    @contextmanager
    def _published(self, url: str) -> Iterator[None]:
        write_private(self.url_file, f"{url}\n")
        try:
            yield
        finally:
            if (read_or_none(self.url_file) or "").strip() == url:
                self.url_file.unlink(missing_ok=True)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()
            self._hurry.set()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _for_flower(environment: Mapping[str, str]) -> dict[str, str]:
    """What Flower needs; the rest may hold the secrets that the catalogue refers to."""
    return {
        name: value
        for name, value in environment.items()
        if name in _FLOWER_NAMES or name.startswith(_FLOWER_PREFIXES)
    }


def as_json(started: Started) -> str:
    """One object on one line."""
    return json.dumps(asdict(started))


def _workers(client: redis.Redis, keys: Keys) -> set[str]:
    """Names of the workers that live or lately lived."""
    return {str(name) for name in client.zrange(keys.workers, 0, -1)}


def _flower_answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
