"""A secret is nowhere but where it was planted, whatever goes right or wrong.

``planted()`` is the table of what was planted where; the haystack says what was looked through.
"""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import docker
import pytest
import requests
from celery import Celery

from tests.acceptance.test_flower import Flower
from tests.support.images.engine_images import make_image
from tests.support.images.registry_images import image, noise, put_image, repository, with_pool
from tests.support.processes import eventually
from tests.support.secrets.planted import Haystack
from tests.support.secrets.planted_fleet import BASIC, BROKEN, ECHOED, REDIS, RULES, Place
from tests.support.servers.certificates import Authority
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import component, spec
from tests.support.workers.process import Site
from transship import JobFailed, State, WaitTimeout
from transship.cli import main
from transship_config.celery_settings import celery_settings
from transship_config.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]


class Events:
    """What a Celery worker tells of itself, as anybody hears it who may read the broker."""

    def __init__(self, site: Site, url: str) -> None:
        app = Celery(set_as_current=False)
        settings = Settings.from_environment(site.environment)
        app.conf.update(celery_settings(settings, url))
        self._connection = app.connection_for_read()
        self._receiver = app.events.Receiver(self._connection, handlers={"*": self._hear})
        self._thread = threading.Thread(target=self._receiver.capture, daemon=True)
        self.heard: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join(10)
        self._connection.release()

    def _hear(self, event: dict[str, Any]) -> None:
        self.heard.append(repr(event))


class KeepingFlower(Flower):
    """Flower with its database file."""

    def command(self) -> Sequence[str]:
        return [*super().command(), "--persistent=True", f"--db={self.folder / 'flower.db'}"]


@pytest.fixture
def place(
    tmp_path_factory: pytest.TempPathFactory, docker_url: str, authority: Authority
) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("site"), docker_url, authority)
    with made.stack:
        yield made


def run_jobs(place: Place, client: docker.DockerClient, told: Haystack) -> set[str]:
    """Push and copy to everywhere, and wait for all the ends; the states that came about."""
    site = place.site
    jobs = []
    for name, repo in place.targets():
        make_image(client, f"{repo}:p")
        jobs.append(site.client.push(f"{repo}:p", registry=name))
    seed = f"{place.basic.address}/seed:1"
    targets = [*place.targets(), ("mutual", f"{place.mutual.address}/a")]
    for name, repo in targets:
        more: dict[str, Any] = {"source_registry": "basic", "target_registry": name}
        jobs.append(site.client.copy(seed, f"{repo}:c", **more))
    for number, (name, source) in enumerate(place.sources()):
        target = f"{place.basic.address}/into:{number}"
        jobs.append(site.client.copy(source, target, source_registry=name, target_registry="basic"))
    states = set()
    for job in jobs:
        try:
            states.add(str(job.wait(90).state))
        except (JobFailed, WaitTimeout) as error:
            told.add("errors of the client", repr(error), str(error), repr(error.__cause__))
        record = job.record()
        states.add(str(record.state))
        told.add("records", repr(record), record.model_dump_json(), repr(job))
        told.add("events of jobs", *(repr(one) for one in job.events(timeout=5)))
    return states


def run_migrations(place: Place, told: Haystack, folder: Path) -> None:
    """Plan and run, with parts that fail; reports in every format."""
    site = place.site
    file = folder / "spec.yaml"
    file.write_text(json.dumps(spec(*RULES)))
    plan = folder / "plan.jsonl"
    for words in (
        ("migrate", "plan", str(file), "-o", str(plan)),
        ("migrate", "run", str(file), "--wait"),
        ("migrate", "list", "--json"),
    ):
        told.add("the command line", *_run(site, words))
    for migration in site.client.migrations():
        record = site.client.migration(migration.id).record()
        told.add("records", repr(record), record.model_dump_json())
        for kind in ("text", "json", "csv", "html"):
            words = ("migrate", "report", record.id, "--format", kind)
            told.add("the command line", *_run(site, words))
        told.add("the command line", *_run(site, ("watch", record.id, "--json")))
    if plan.exists():
        told.add("the command line", plan.read_text())


def run_commands(place: Place, told: Haystack) -> None:
    """Every command that shows anything, and those that complain."""
    site = place.site
    register = ("registry", "register", "x", "--flavor", "default", "--uri")
    for words in (
        ("jobs", "--json"),
        ("jobs",),
        ("registry", "list", "--json"),
        ("registry", "flavor", "list", "--json"),
        ("workers", "--json"),
        ("doctor", "--json"),
        ("doctor",),
        (*register, "r.example.com", "--set", f"password={BROKEN}", "--set", "username=u"),
        (*register, f"u:{BROKEN}@r.example.com"),
    ):
        told.add("the command line", *_run(site, words))
    for name in place.catalogue:
        told.add("the command line", *_run(site, ("registry", "describe", name, "--json")))
    for name in (
        "basic",
        "wrong",
        "file",
        "echo",
        "echobearer",
        "leaky",
        "raising",
        "typed",
        "ecr",
    ):
        told.add("the command line", *_run(site, ("registry", "check", name)))
        told.add("the command line", *_run(site, ("registry", "check", name, "--no-engine")))
    for kind in ("typed", "chained"):
        words = ("registry", "prepare", "leaky", f"{place.basic.address}/leaky/{kind}:1")
        told.add("the command line", *_run(site, words))
    failed = next(iter(site.client.jobs(state=State.FAILED)))
    for command in ("status", "watch"):
        told.add("the command line", *_run(site, (command, failed.id, "--json")))
    login = f"redis://{quote(REDIS, safe='')}"
    for url in (
        f"{login}@h/0",
        f"redis://a b:{quote(REDIS)}@h/0",
        f"redis://:{quote(REDIS)}@h:x/0",
        f"redis://:{REDIS}@h/0",
        f"redis://h/0?password={quote(REDIS)}",
        f"redis://:wrong{quote(REDIS, safe='')}@127.0.0.1:{place.redis.port}/0",
    ):
        told.add("the command line", *_run(site, ("jobs",), TRANSSHIP_URL=url))


def _run(site: Site, words: Sequence[str], **more: str) -> list[str]:
    """What a command says with all the secrets in its environment, as on a worker's machine."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        # At level debug an unexpected error would be raised instead of told.
        secrets = {"BASIC_PASSWORD": BASIC, "ECHO_PASSWORD": ECHOED, "TRANSSHIP_LOG_LEVEL": "info"}
        for name, value in (site.environment | secrets | more).items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(words))
    return [out.getvalue(), err.getvalue()]


#: Catalogues with a mistake beside a secret; the mistake is told with its line.
MISTAKES = (
    "registries: {a: {flavor: default, uri: x.example.com, username: u, password: [S, b]}}",
    "registries: {a: {flavor: default, uri: x.example.com, username: u, password: {en: S}}}",
    "registries: {a: {flavor: default, uri: x.example.com, username: u, password: {env: S/x}}}",
    "registries: {a: {flavor: default, uri: x.example.com, username: u, pasword: S}}",
    "registries: {a: {flavor: default, uri: 'u:S@x.example.com', username: u}}",
    "registries: {a: {flavor: default, uri: 'https://u:S@x.example.com/'}}",
    "registries: {a: {flavor: default, uri: x.example.com, endpoint: 'https://u:S@x/'}}",
    "registries: {a: {flavor: default, uri: x.example.com, auth_realms: ['u:S@x/']}}",
    "registries: {a: {flavor: default, uri: x.example.com, password: S, password: S}}",
    "registries:\n  a:\n    flavor: default\n    password S\n    uri: x\n",
    'registries:\n  a:\n    password: "S\n',
    "registries:\n  a:\n    password: !!python/name:S {}\n",
    "registries:\n  a:\n    password: &S x\n    b: *T\n",
    "registries:\n  a:\n    password: @S\n",
    "registries:\n  a:\n\tpassword: S\n",
    "registries: {a: {flavor: leaky, uri: x.example.com, key: {file: S}}}",
    "anonymous_sources: ['u:S@x.example.com']",
    "registries: {a: {flavor: aws, uri: x.example.com, secret_access_key: S, region: 7}}",
)


def break_the_catalogue(place: Place, told: Haystack) -> None:
    """Worker and command line tell mistakes; none with the line that has the secret."""
    site = place.site
    own = site.folder / "broken.yaml"
    for text in MISTAKES:
        own.write_text(text.replace("S", BROKEN) + "\n")
        words = ("registry", "check", "a", "--catalog", str(own))
        out, err = _run(site, words)
        assert str(own) in err, (text, err)
        told.add("mistakes in a catalogue", out, err)
    site.catalog.write_text(MISTAKES[0].replace("S", BROKEN))
    eventually(
        lambda: any(w.catalog_error for w in site.client.fleet().workers), what="a catalogue error"
    )
    told.add(
        "the command line", *_run(site, ("doctor", "--json")), *_run(site, ("workers", "--json"))
    )
    place.write(place.catalogue)


def look_at_redis(place: Place, told: Haystack) -> None:
    """Every key's value, and later the files."""
    with contextlib.closing(place.redis.client()) as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        for key in client.scan_iter(count=1000):
            told.add("keys of Redis", key, client.dump(key) or b"")
        client.save()


def look_at_flower(flower: Flower, told: Haystack) -> None:
    """Its pages, its API and its metrics."""
    tasks = flower.tasks()
    workers = requests.get(flower.base + "/api/workers", timeout=10).json()
    paths = ["/api/tasks", "/api/workers?refresh=1", "/metrics", "/workers", "/tasks", "/broker"]
    paths += ["/api/queues/length", *(f"/task/{one}" for one in tasks)]
    paths += [f"/worker/{name}" for name in workers]
    for path in paths:
        told.add("Flower's pages", requests.get(flower.base + path, timeout=10).text)


def look_at_processes(told: Haystack, *servers: Any) -> None:
    """Command lines, of children as well."""
    for server in servers:
        pids = [server.pid]
        while pids:
            pid = pids.pop()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pids += map(int, children)
            told.add("command lines", Path(f"/proc/{pid}/cmdline").read_bytes())


def test_no_secret_leaves_the_worker_whatever_happens(
    place: Place, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    async def seed(pool: Any) -> None:
        layer = noise(3_000, "seed")
        await put_image(
            repository(pool, plain.address, "seed"), image(layer), layer, b"{}", tag="1"
        )

    site, told = place.site, Haystack()
    with Registry() as plain:
        with_pool(seed)
        site.write_catalog({"plain": component(plain.address)})
        place.write({**place.catalogue, "plain": component(plain.address)})
        with KeepingFlower(site) as flower, Events(site, place.redis.url) as events:
            text = place.start_worker()
            as_json = place.start_worker(TRANSSHIP_LOG_FORMAT="json")
            names = f"{plain.address}/seed:1", f"{place.basic.address}/seed:1"
            more: dict[str, Any] = {"source_registry": "plain", "target_registry": "basic"}
            assert site.client.copy(*names, **more).wait(60).state == "succeeded"
            states = run_jobs(place, docker_client, told)
            run_migrations(place, told, tmp_path)
            run_commands(place, told)
            break_the_catalogue(place, told)
            look_at_flower(flower, told)
            look_at_processes(told, text, as_json, flower)
            look_at_redis(place, told)
            told.add("Celery's events", *events.heard)
            told.add("workers' logs, as text", text.log_text())
            told.add("workers' logs, as JSON", as_json.log_text())
            flower.stop()
            told.add("Flower's log", flower.log_text())
            # The library adds an ending or none, as its backend does.
            found = [file.read_bytes() for file in flower.folder.glob("flower.db*")]
            told.add("Flower's file", *found)
    site.close()
    place.redis.stop()
    for file in place.redis.folder.rglob("*"):
        if file.is_file():
            told.add("files of Redis", file.read_bytes())

    assert states == {"succeeded", "failed"}
    for name in ("Flower's file", "Celery's events", "keys of Redis", "files of Redis"):
        assert "seed:1" in told[name], name
    assert "***" in told["records"]
    assert len(place.tokens.issued) > 5
    leaks = told.leaks(place.planted())
    assert not leaks, f"{len(leaks)} leaks in {told.places}\n" + "\n".join(sorted(set(leaks)))
