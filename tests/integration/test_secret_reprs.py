"""No object of ours shows a secret when it is printed, and no error holds one in what it shows.

A traceback, a debugger's page and a log line print whatever stands in a variable. So everything
alive after real exchanges is printed here.
"""

from __future__ import annotations

import contextlib
import gc
import json
import traceback
from pathlib import Path
from typing import Any, ClassVar

import pytest
import redis
from pydantic import SecretStr
from yarl import URL

from tests.support.fixtures import PASSWORD, USER
from tests.support.scripted_servers.echo_registry import TOKEN, EchoRegistry
from tests.support.secrets.planted import Haystack, Planted
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer
from transship import Client
from transship.errors import RedisUnreachable
from transship.ledger.connection import reaching
from transship.ledger.notifications import Doorbell
from transship_config.errors import TransshipError
from transship_config.settings import Settings
from transship_worker import BaseContainerRegistry
from transship_worker.catalog.file import Document
from transship_worker.catalog.model import Components, build
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.credentials.access import Credentials
from transship_worker.credentials.secret_sources import Secret
from transship_worker.flavors.options import Use
from transship_worker.handlers.registries import Registries
from transship_worker.oci import tags
from transship_worker.oci.connections import Way
from transship_worker.oci.errors import Speaker
from transship_worker.oci.exchange import Request
from transship_worker.oci.pool import ClientPool
from transship_worker.oci.tokens import TokenAnswer

pytestmark = [pytest.mark.redis, pytest.mark.registry]

REDIS = "planted-redis-repr"
ECHOED = "planted-echo repr/+1"
OPTION = "planted-option repr/1"
PROXY = "planted-proxy-repr"
OURS = ("transship", "transship_config", "transship_worker")


class Telling(BaseContainerRegistry):
    """A flavor whose errors hold its secret."""

    FLAVOR: ClassVar[str] = "telling"
    key: Secret

    def prepare_image_push(self, image_name: str) -> None:
        key = self.resolve("key")
        try:
            raise KeyError(key)
        except KeyError as error:
            raise ValueError(f"{image_name} refused for {key}") from error


def print_all_of_ours(told: Haystack) -> int:
    """``repr`` and ``str`` of every living object of our classes; how many there are."""
    count = 0
    for found in gc.get_objects():
        kind = type(found)
        if str(getattr(kind, "__module__", "")).partition(".")[0] in OURS:
            # Another test's object may be half made.
            with contextlib.suppress(AttributeError):
                told.add(f"repr of {kind.__name__}", repr(found), str(found))
                count += 1
    return count


async def ask_everybody(components: Components, told: Haystack) -> ClientPool:
    """Have each component's registry answer, and fail, in some ways; the pool is still open."""
    pool = ClientPool({"https_proxy": f"http://u:{PROXY}@proxy.example.com:3128"})
    for name in components.registries:
        component = components.registry(name)
        client = pool.client(component.registry_endpoint, component.credentials())
        for repository in ("reprs/a", "denied/a", "redirecting/a", "plain/a", "broken/a"):
            try:
                [page async for page in tags.tags(client.repository(repository))]
            except TransshipError as error:
                told.add("errors", *chain(error))
    return pool


def test_nothing_that_lives_shows_a_secret(
    loop: BackgroundLoop,
    basic_registry: Registry,
    token_registry: Registry,
    token_server: TokenServer,
    tmp_path: Path,
) -> None:
    told = Haystack()
    login = {"flavor": "default", "username": USER}
    with (
        EchoRegistry() as echo,
        EchoRegistry(bearer=True) as bearer,
        RedisServer(password=REDIS) as server,
    ):
        places = {
            "basic": (basic_registry.address, PASSWORD),
            "token": (token_registry.address, PASSWORD),
            "echo": (echo.address, ECHOED),
            "bearer": (bearer.address, ECHOED),
        }
        entries = {name: {**login, "uri": u, "password": p} for name, (u, p) in places.items()}
        text = json.dumps({"registries": entries})
        components = build(Document.parse(tmp_path / "catalog.yaml", text))
        registries = Registries(components)
        opened = {name: registries.open(name, Use.COPY_FROM) for name in places}
        pool = loop.run(ask_everybody(components, told))
        settings = Settings.from_environment({"TRANSSHIP_URL": server.url})
        doorbell = Doorbell(settings, server.url)
        with Client(settings=settings) as client:
            client.jobs()
            wrong = server.url.replace(REDIS, f"wrong{REDIS}")
            with pytest.raises(RedisUnreachable) as caught, reaching(wrong):
                redis.Redis.from_url(wrong).ping()
            told.add("errors", *chain(caught.value))
            count = print_all_of_ours(told)
            # What Celery's own `inspect conf` and `report` tell of it.
            conf = doorbell._app.conf
            told.add("libraries", repr(client._redis), conf.humanize(), str(conf.table()))
        doorbell.close()
        loop.run(pool.close())
        assert set(opened) == set(places)

    assert count > 50
    assert "***" in told["errors"]
    assert told["repr of RegistryClient"]
    assert told["repr of Token"]
    planted = [
        Planted("the URL of Redis", REDIS),
        Planted("a component's password", PASSWORD, USER),
        Planted("what is echoed", ECHOED, USER),
        Planted("the echo's token", TOKEN),
        Planted("the proxy's password", PROXY, "u"),
        *(Planted("a token", token) for token in token_server.issued),
    ]
    assert told.leaks(planted) == []


def chain(error: BaseException | None) -> list[str]:
    """All that is printed of an error and of what it says led to it."""
    texts = ["".join(traceback.format_exception(error))] if error else []
    while error is not None:
        texts += [repr(error), str(error), repr(error.args), repr(getattr(error, "refusal", ""))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return texts


def test_what_a_flavor_raises_is_not_shown_beside_its_error() -> None:
    made: Any = Telling.model_validate(
        {"name": "t", "uri": "registry.example.com", "key": SecretStr(OPTION)}
    )
    with pytest.raises(TransshipError, match=r"refused for \*\*\*") as caught:
        made.prepared("registry.example.com/a:1")
    told = Haystack()
    told.add("the error", *chain(caught.value))
    told.add("the component", repr(made), str(made), made.model_dump_json(), repr(made.public))
    assert told.leaks([Planted("an option", OPTION)]) == []


@pytest.mark.parametrize(
    "made",
    [
        TokenAnswer(200, {}, OPTION.encode()),
        Request("GET", URL("https://h/"), headers={"Authorization": OPTION}, body=OPTION.encode()),
        Way(None, None, True, URL("http://proxy:1"), OPTION),  # type: ignore[arg-type] # not used
        Speaker("h", Credentials(USER, SecretStr(OPTION)), (OPTION,)),
    ],
    ids=lambda made: type(made).__name__,
)
def test_what_lives_for_an_exchange_only_shows_no_secret_either(made: object) -> None:
    told = Haystack()
    told.add("an object", repr(made), str(made))
    assert told["an object"]
    assert told.leaks([Planted("an exchange", OPTION, USER)]) == []
