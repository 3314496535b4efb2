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

from longshore import JobFailed, State, WaitTimeout
from longshore.cli import main
from longshore_config.celery_settings import celery_settings
from longshore_config.settings import Settings
from tests.acceptance.test_flower import Flower
from tests.support.aws import KEY_ID, REGION, REGISTRY_PASSWORD, REGISTRY_USER, SECRET, Moto
from tests.support.certificates import Authority
from tests.support.copies import image, noise, put_image, repository, with_pool
from tests.support.copysite import component, rule, spec
from tests.support.echo import TOKEN, EchoRegistry
from tests.support.images import make_image
from tests.support.processes import eventually
from tests.support.redis import RedisServer
from tests.support.registry import Registry
from tests.support.secrets import Haystack, Planted
from tests.support.tokens import TokenServer
from tests.support.worker import Site, WorkerProcess

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]

USER = "planted-user"
#: With characters that URLs, JSON and shells write otherwise.
REDIS = 'planted-redis/77 +%"x'
BASIC = "planted-basic/5f3c %&x"
BEARER = "planted-bearer+91 ?x"
WRONG = "planted-wrong/literal 5f3c"
IN_FILE = "planted-in-file 77aa/+"
ECHOED = "planted-echoed 31/&x"
CUSTOM = "planted-custom 8d %/x"
REFRESH = "planted-refresh-0f9b7c"
BROKEN = "planted-broken-catalogue-4c"

#: What the echoing registries do; an engine repeats the second group for minutes, by itself.
KINDS = ("denied", "hanging")
MORE_KINDS = ("plain", "redirecting", "dropping", "failing", "refused", "broken")
#: Rules of a migration: some of it works, a part cannot be read, a list is refused.
RULES = [
    rule("basic", "bearer", "seed"),
    rule("echo", "bearer", "denied/b"),
    rule("echobearer", "bearer", "plain/b"),
    rule("leaky", "bearer"),
]

#: A flavor that tells its secret in every way that it can.
LEAKY = """
import base64, logging, threading
from urllib.parse import quote
from longshore_config.errors import CredentialsMissing, PrepareFailed
from longshore_worker import BaseContainerRegistry
from longshore_worker.secret import Secret


class Leaky(BaseContainerRegistry):
    FLAVOR = "leaky"
    key: Secret
    mode: str = ""

    def _told(self):
        key = self.resolve("key")
        login = base64.b64encode(f"{self.username}:{key}".encode()).decode()
        own = base64.b64encode(key.encode()).decode()
        return f"{key} {quote(key, safe='')} https://u:{key}@host/?k={key} Basic {login} {own}"

    def prepare_image_push(self, image_name):
        told = self._told()
        self.note(f"noted {told}")
        logging.getLogger("acme.leaky").warning("logged %s", told)
        if "/thread" in image_name:
            def crash():
                raise RuntimeError(told)
            thread = threading.Thread(target=crash)
            thread.start()
            thread.join()
        if "/typed" in image_name:
            raise PrepareFailed(told)
        if "/chained" in image_name:
            try:
                raise KeyError(told)
            except KeyError as error:
                raise ValueError(f"refused: {told}") from error

    def credentials(self):
        if self.mode == "raising":
            raise RuntimeError(self._told())
        if self.mode == "typed":
            raise CredentialsMissing(self._told())
        return super().credentials()

    async def list_repositories(self, client):
        raise RuntimeError(self._told())
        yield []
"""


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


class Place:
    """The registries, and the fleet that knows them."""

    def __init__(self, folder: Path, docker_url: str, authority: Authority) -> None:
        self.stack = contextlib.ExitStack()
        enter = self.stack.enter_context
        self.tokens = enter(TokenServer(folder, {USER: BEARER}))
        self.tokens.refresh[REFRESH] = USER
        self.client = authority.issue("planted-client")
        tls = authority.issue("127.0.0.1")
        self.basic = enter(Registry(users={USER: BASIC}))
        self.bearer = enter(Registry(tokens=self.tokens))
        self.mutual = enter(Registry(tls=tls, clients=authority.ca, client=self.client))
        self.ecr = enter(Registry(users={REGISTRY_USER: REGISTRY_PASSWORD}))
        self.echo, self.echo_bearer = enter(EchoRegistry()), enter(EchoRegistry(bearer=True))
        self.moto = enter(Moto())
        self.redis = enter(RedisServer(password=REDIS, arguments=["--rdbcompression", "no"]))
        self.ca = authority.ca
        quick = {"LONGSHORE_BACKOFF": "0.1", "LONGSHORE_ATTEMPTS": "2", "LONGSHORE_STALL": "3"}
        self.site = Site(folder, self.redis.url, docker_url, LONGSHORE_LOG_LEVEL="debug", **quick)
        self.stack.callback(self.site.close)
        self.catalogue = self._catalogue(folder)
        self.write(self.catalogue)

    def write(self, registries: dict[str, Any]) -> None:
        """The catalogue, with its custom flavor."""
        folder = str(self.site.folder)
        self.site.write_catalog(registries, flavors=["leaky.Leaky"], flavor_paths=[folder])

    def _catalogue(self, folder: Path) -> dict[str, Any]:
        (folder / "leaky.py").write_text(LEAKY)
        (folder / "secret").write_text(IN_FILE + "\n")
        docker_config = folder / ".docker"
        docker_config.mkdir()
        logins = {self.bearer.address: {"identitytoken": REFRESH}}
        (docker_config / "config.json").write_text(json.dumps({"auths": logins}))
        user = {"username": USER}
        basic = user | {"password": {"env": "BASIC_PASSWORD"}}
        client = {"client_cert": str(self.client[0]), "client_key": str(self.client[1])}
        leaky = {"flavor": "leaky", "uri": self.basic.address, "key": CUSTOM, **basic}
        echo = user | {"password": {"env": "ECHO_PASSWORD"}}
        return {
            "basic": component(self.basic.address, **basic),
            "bearer": component(self.bearer.address, **user, password=BEARER),
            "refresh": component(f"{self.bearer.address}/refresh", credentials="docker-config"),
            "wrong": component(f"{self.basic.address}/wrong", **user, password=WRONG),
            "file": component(
                f"{self.bearer.address}/file", **user, password={"file": f"{folder}/secret"}
            ),
            "mutual": component(self.mutual.address, ca=str(self.ca), **client),
            "echo": component(self.echo.address, **echo),
            "echobearer": component(self.echo_bearer.address, **echo),
            "leaky": {**leaky, "uri": f"{self.basic.address}/leaky"},
            "raising": {**leaky, "uri": f"{self.basic.address}/raising", "mode": "raising"},
            "typed": {**leaky, "uri": f"{self.basic.address}/mistyped", "mode": "typed"},
            "ecr": {
                "flavor": "aws",
                "uri": self.ecr.address,
                "account": "123456789012",
                "region": REGION,
                "endpoint_url": self.moto.url,
                "access_key_id": KEY_ID,
                "secret_access_key": SECRET,
            },
        }

    def planted(self) -> list[Planted]:
        """Which secret was planted where."""
        return [
            Planted("the URL of Redis", REDIS),
            Planted("a variable of the worker", BASIC, USER),
            Planted("the catalogue, as a literal", BEARER, USER),
            Planted("the catalogue, as a literal that is wrong", WRONG, USER),
            Planted("a file of the worker, wrong", IN_FILE, USER),
            Planted("a variable, for a registry that echoes it", ECHOED, USER),
            Planted("an option of a custom flavor", CUSTOM, USER),
            Planted("Docker's config.json, a refresh token", REFRESH),
            Planted("a broken catalogue", BROKEN, USER),
            Planted("the token server of the echo", TOKEN),
            Planted("moto's login for ECR", REGISTRY_PASSWORD, REGISTRY_USER),
            Planted("the component's key for AWS", SECRET),
            *(Planted("a token server's answer", token) for token in set(self.tokens.issued)),
            *(
                Planted("a line of the client's key", line)
                for line in self.client[1].read_text().splitlines()[1:-1]
            ),
        ]

    def start_worker(self, **more: str) -> WorkerProcess:
        """A worker that holds the secrets; lines of a JSON log are looked through as well."""
        return self.site.start_worker(BASIC_PASSWORD=BASIC, ECHO_PASSWORD=ECHOED, **more)

    def targets(self) -> list[tuple[str, str]]:
        """Component and repository of each push and copy; few succeed."""
        basic, bearer = self.basic.address, self.bearer.address
        echoes = {"echo": self.echo.address, "echobearer": self.echo_bearer.address}
        leaks = ("typed", "chained", "thread")
        return [
            ("basic", f"{basic}/a"),
            ("bearer", f"{bearer}/a"),
            ("refresh", f"{bearer}/refresh/a"),
            ("ecr", f"{self.ecr.address}/pushed"),
            ("wrong", f"{basic}/wrong/a"),
            ("file", f"{bearer}/file/a"),
            *((name, f"{host}/{kind}/a") for name, host in echoes.items() for kind in KINDS),
            *(("leaky", f"{basic}/leaky/{kind}") for kind in leaks),
            ("raising", f"{basic}/raising/a"),
            ("typed", f"{basic}/mistyped/a"),
        ]

    def sources(self) -> list[tuple[str, str]]:
        """Component and image of each copy that is read from where it does not go well."""
        echoes = {"echo": self.echo.address, "echobearer": self.echo_bearer.address}
        kinds = (*KINDS, *MORE_KINDS)
        return [(name, f"{host}/{k}/b:1") for name, host in echoes.items() for k in kinds]


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
        told.add("the command line", *_run(site, ("jobs",), LONGSHORE_REDIS_URL=url))


def _run(site: Site, words: Sequence[str], **more: str) -> list[str]:
    """What a command says with all the secrets in its environment, as on a worker's machine."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        # At level debug an unexpected error would be raised instead of told.
        secrets = {"BASIC_PASSWORD": BASIC, "ECHO_PASSWORD": ECHOED, "LONGSHORE_LOG_LEVEL": "info"}
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
            as_json = place.start_worker(LONGSHORE_LOG_FORMAT="json")
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
