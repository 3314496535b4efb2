"""Records the ledger of a real fleet of this version: ``python -m tests.recorded.record``.

Its workers push and copy for real; when there is a job in every state, a migration in each of its
states and a plan that nobody reads, all keys are written to ``ledger-VERSION.json`` beside this
file. Run it once before a release; tests of later versions read the file. Needs root (a private
Docker Engine), ``dockerd``, ``docker-registry`` and ``redis-server``.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import redis

from tests.support.images.corpus import shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.images.engine_images import make_image
from tests.support.ledger.dump import FOLDER, dump
from tests.support.processes import eventually, free_port
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import component, rule, spec
from tests.support.workers.process import Site, WorkerProcess, moves, reaches
from transship import Job, State
from transship_config import __version__

NAMESPACE = "recorded"
#: Starts a worker that lets only two jobs of a migration onto the queue at once.
NARROW = (
    "import sys, transship_worker.jobs.claims as claims; claims.WINDOW = 2; "
    "from transship.cli import main; sys.exit(main(sys.argv[1:]))"
)
PATIENT = {
    "TRANSSHIP_NAMESPACE": NAMESPACE,
    "TRANSSHIP_LEASE": "60",
    "TRANSSHIP_BACKOFF": "3600",
    "TRANSSHIP_BACKOFF_MAX": "7200",
    "TRANSSHIP_ENGINE_NAME": "build-7",
}


class NarrowWorker(WorkerProcess):
    """A worker with a small window."""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-c", NARROW, "worker", *self._arguments]


class Recorder:
    """One fleet on its way to a recording; ``jobs`` says what each job is recorded for."""

    def __init__(self, stack: ExitStack) -> None:
        self.jobs: dict[str, str] = {}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.redis = stack.enter_context(RedisServer())
        daemon = stack.enter_context(DockerDaemon())
        self.source, self.target = (stack.enter_context(Registry()) for _ in range(2))
        self.slow = stack.enter_context(TcpProxy(self.target.port))
        self.slow.rate = 200_000
        self.site = Site(folder, self.redis.url, daemon.url, **PATIENT)
        self.gone = f"127.0.0.1:{free_port()}"
        stack.callback(self.site.close)
        self.site.write_catalog(
            {
                "old": component(self.source.address),
                "new": component(self.target.address),
                "slow": component(self.slow.address),
                "gone": component(self.gone),
            }
        )
        self.engine: docker.DockerClient = daemon.client()
        stack.callback(self.engine.close)

    def start(self, *arguments: str) -> WorkerProcess:
        worker = NarrowWorker(self.site, arguments, {})
        self.site.workers.append(worker)
        worker.start()
        return worker

    def push(self, what: str, registry: str, address: str, **more: Any) -> Job:
        name = f"{address}/ml/{what}:1"
        size = 3_000_000 if registry == "slow" else 1_000
        if what != "missing":
            make_image(self.engine, name, layers=[size])
        return self.named(what, self.site.client.push(name, registry=registry, **more))

    def copy(self, what: str, address: str, repository: str = "", **more: Any) -> Job:
        name = f"{self.source.address}/shared/{repository or what}:v1"
        job = self.site.client.copy(name, f"{address}/copied/{what}", **more)
        return self.named(f"copy {what}", job)

    def named(self, what: str, job: Job) -> Job:
        self.jobs[what] = job.id
        return job

    def final_jobs(self) -> None:
        """Jobs that are over, and those that wait for an hour."""
        address = self.target.address
        self.push("succeeded", "new", address, labels={"run": "42"}).wait(30)
        make_again = self.site.client.push(
            f"{address}/ml/again:1", registry="new", source=f"{address}/ml/succeeded:1"
        )
        self.named("source", make_again).wait(30)
        skipped = self.site.client.push(f"{address}/ml/succeeded:1", registry="new")
        self.named("skipped", skipped).wait(30)
        reaches(self.push("missing", "new", address), State.FAILED)
        reaches(self.push("retrying", "gone", self.gone), State.RETRYING)
        self.copy("succeeded", address, "app000", tags=["a", "b"]).wait(30)
        self.copy("skipped", address, "app000", tags=["a"]).wait(30)
        reaches(self.copy("retrying", self.gone, "app001"), State.RETRYING)
        reaches(self.copy("failed", address, "no-such-image"), State.FAILED)

    def migrations(self) -> None:
        """One that is over, one with a failure, one that is under way with jobs that wait."""
        client, rules = self.site.client, rule("old", "new", "shared/*")
        done = client.migrate(spec(rules, name="done"))
        done.wait(60)
        self.jobs["migration done"] = done.id
        taken = f"{self.target.address}/broken/shared/app004:v1"
        make_image(self.engine, taken)
        client.push(taken, registry="new").wait(30)
        more = {"to": {"registry": "new", "repository": "broken/{repository}"}}
        failed = client.migrate(spec(rules | more | {"on_conflict": "fail"}, name="one-failed"))
        eventually(lambda: failed.record().state is State.FAILED, within=60)
        self.jobs["migration failed"] = failed.id
        slow = client.migrate(spec(rule("old", "slow", "large/*"), name="under-way"))
        eventually(lambda: slow.record().planned and slow.record().images.running == 2, within=60)
        self.jobs["migration running"] = slow.id
        plan = client.plan(spec(rules, name="unread-plan"))
        eventually(lambda: plan.record().state.final, within=60)
        self.jobs["plan unread"] = plan.id

    def running_jobs(self) -> None:
        """Jobs that run, and those that wait behind them."""
        back = self.push("back", "slow", self.slow.address)
        second = self.start("--pushes", "1", "--copies", "0", "--bulk", "0")
        running = self.push("running", "slow", self.slow.address)
        for job in (back, running):
            moves(job)
        self.slow.hang()
        # One of the two is handed back, and the other worker has no slot for it.
        assert second.end(signal.SIGTERM) == 0
        (handed,) = [j for j in (back, running) if j.record().state is State.QUEUED]
        (held,) = [j for j in (back, running) if j.record().state is State.RUNNING]
        self.jobs |= {"back": handed.id, "running": held.id}
        self.named("behind", self.site.client.push(held.record().image, registry="slow"))

    def waiting_jobs(self) -> None:
        """What no worker hears of any more."""
        address = self.target.address
        self.push("queued", "new", address, bulk=True, engine="build-7")
        self.push("withdrawn", "new", address, bulk=True).cancel()
        self.named("asked", self.site.client.job(self.jobs["missing"])).retry()
        self.site.client.job(self.jobs["copy retrying"]).cancel()
        self.copy("queued", address, "app002", referrers=True)
        planned = self.site.client.migrate(spec(rule("old", "new", "shared/*"), name="queued"))
        self.jobs["migration queued"] = planned.id

    def record(self) -> dict[str, Any]:
        """Bring all of it about, and dump it."""
        fill(self.source.base, shared_layers(5, 1, shared=1, shared_size=4096, own_size=4096))
        large = shared_layers(5, 1, shared=1, shared_size=4096, own_size=3_000_000, seed="large")
        fill(self.source.base, large)
        worker = self.start("--pushes", "1", "--bulk", "0")
        self.final_jobs()
        self.slow.rate = 20_000
        self.migrations()
        self.slow.rate = 200_000
        self.running_jobs()
        worker.freeze()
        self.waiting_jobs()
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            found = dump(client, NAMESPACE)
        worker.thaw()
        # What Celery keeps of itself is no record, and bells may be lost.
        found["keys"] = {k: v for k, v in found["keys"].items() if not k.startswith("celery:")}
        return {"version": __version__, "jobs": self.jobs, **found}

    def tidied(self, found: dict[str, Any]) -> str:
        """As JSON, without what belongs to this machine."""
        text = json.dumps(found, indent=1, ensure_ascii=False)
        for number, address in enumerate(
            (self.source.address, self.target.address, self.slow.address, self.gone), 1
        ):
            text = text.replace(address, f"127.0.0.1:500{number}")
        text = text.replace(socket.gethostname(), "build-7")
        return re.sub(r"@build-7\.\d+", "@build-7.100", text) + "\n"


def main() -> None:
    """Record, and write the file."""
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        del os.environ[name]
    with ExitStack() as stack:
        recorder = Recorder(stack)
        text = recorder.tidied(recorder.record())
    (FOLDER / f"ledger-{__version__}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
