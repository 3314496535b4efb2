"""A fleet full of planted secrets, and registries and a flavor that tell them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from tests.support.scripted_servers.echo_registry import TOKEN, EchoRegistry
from tests.support.secrets.planted import Planted
from tests.support.servers.certificates import Authority
from tests.support.servers.ecr import KEY_ID, REGION, REGISTRY_PASSWORD, REGISTRY_USER, SECRET, Moto
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer
from tests.support.workers.copy_site import component, rule
from tests.support.workers.process import Site, WorkerProcess

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
from transship_worker import CredentialsMissing, PrepareFailed
from transship_worker import BaseContainerRegistry
from transship_worker.credentials.secret_sources import Secret


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
        quick = {"TRANSSHIP_BACKOFF": "0.1", "TRANSSHIP_ATTEMPTS": "2", "TRANSSHIP_STALL": "3"}
        self.site = Site(folder, self.redis.url, docker_url, TRANSSHIP_LOG_LEVEL="debug", **quick)
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
