"""A private container registry: ``docker-registry`` (distribution 2.8) on a loopback port."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import urllib3

from tests.support.processes import Server, free_port, program
from tests.support.servers.network import PrivateNetwork
from tests.support.servers.token_server import TokenServer

MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    )
)


class Registry(Server):
    """A registry in a temporary folder.

    Plain by default; ``users`` (name → password) turns Basic auth on, ``tokens`` token auth,
    ``tls`` (certificate, key) TLS, ``clients`` asks for certificates of this authority, and
    ``client`` is one (with its key) for this class's own questions. The engine trusts it on
    127.0.0.1 in each case; on the address of a ``network`` of its own it does not. Its API lies
    below ``prefix``, which this class's own questions leave out. With ``upstream``, the URL of
    another registry, it is a pull-through proxy of that one; ``data`` is the folder of another's
    data; ``words`` run another version.
    """

    title = "docker-registry"

    def __init__(
        self,
        *,
        users: Mapping[str, str] | None = None,
        tokens: TokenServer | None = None,
        tls: tuple[Path, Path] | None = None,
        clients: Path | None = None,
        client: tuple[Path, Path] | None = None,
        network: PrivateNetwork | None = None,
        maintenance_read_only: bool = False,
        prefix: str = "/",
        upstream: str | None = None,
        data: Path | None = None,
        words: Sequence[str] = (),
    ) -> None:
        self._words = list(words) or [program("docker-registry", "registry")]
        super().__init__()
        self.port = free_port()
        self.users = dict(users or {})
        self.tokens = tokens
        self.tls = tls
        self._clients, self._client, self._network = clients, client, network
        self._read_only = maintenance_read_only
        self._prefix, self._upstream = prefix, upstream
        self.data = data or self.folder / "data"
        self._config = self.folder / "config.yml"

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``: the first part of its images' names."""
        return f"{self._network.ADDRESS if self._network else '127.0.0.1'}:{self.port}"

    @property
    def base(self) -> str:
        """Its URL."""
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def command(self) -> Sequence[str]:
        # JSON is YAML.
        self._config.write_text(json.dumps(self._settings()))
        inside = self._network.words if self._network else []
        return [*inside, *self._words, "serve", str(self._config)]

    def answers(self) -> bool:
        return self._ask("GET", f"{self.base}{self._prefix}v2/").status_code in {200, 401}

    def digest(self, repository: str, tag: str) -> str | None:
        """What the tag points to, asked from the registry itself; ``None``: there is none."""
        answer = self.get(f"{repository}/manifests/{tag}", accept=MANIFEST_TYPES)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.headers["Docker-Content-Digest"]

    def manifest(self, repository: str, reference: str) -> dict[str, Any]:
        """A manifest by tag or digest."""
        answer = self.get(f"{repository}/manifests/{reference}", accept=MANIFEST_TYPES)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def blob(self, repository: str, digest: str) -> bytes:
        """A blob's bytes."""
        answer = self.get(f"{repository}/blobs/{digest}")
        answer.raise_for_status()
        return answer.content

    def list_tags(self, repository: str) -> list[str]:
        """The repository's tags, sorted; none when it does not exist."""
        answer = self.get(f"{repository}/tags/list")
        if answer.status_code == 404:
            return []
        answer.raise_for_status()
        return sorted(answer.json()["tags"] or [])

    def put_manifest(self, repository: str, tag: str, manifest: bytes, media_type: str) -> None:
        """Move a tag past the engine, as somebody else would."""
        url = f"{self.base}/v2/{repository}/manifests/{tag}"
        headers = {"Content-Type": media_type, **self._login(repository, "pull,push")}
        self._ask("PUT", url, data=manifest, headers=headers).raise_for_status()

    def get(self, path: str, *, accept: str = "*/*") -> requests.Response:
        """``GET /v2/PATH`` with the first user's rights."""
        repository = path.partition("/manifests/")[0].partition("/blobs/")[0]
        repository = repository.removesuffix("/tags/list")
        headers = {"Accept": accept, **self._login(repository, "pull")}
        return self._ask("GET", f"{self.base}/v2/{path}", headers=headers)

    def _login(self, repository: str, actions: str) -> dict[str, str]:
        if self.tokens:
            user = next(iter(self.tokens.users))
            # Not through HTTP, so that the requests counted are the engine's.
            token = self.tokens.token(user, [f"repository:{repository}:{actions}"])["token"]
            return {"Authorization": f"Bearer {token}"}
        if self.users:
            import base64

            login = ":".join(next(iter(self.users.items())))
            return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        return {}

    def _ask(self, method: str, url: str, **options: Any) -> requests.Response:
        if self._network is None:
            return _ask(method, url, cert=self._client, **options)
        return self._network.run(lambda: _ask(method, url, cert=self._client, **options))

    def _settings(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": self.address, "secret": "transship-tests"}
        if self.tls:
            http["tls"] = {"certificate": str(self.tls[0]), "key": str(self.tls[1])}
            if self._clients:
                http["tls"]["clientcas"] = [str(self._clients)]
        storage: dict[str, Any] = {
            "filesystem": {"rootdirectory": str(self.data)},
            "delete": {"enabled": True},
        }
        if self._read_only:
            storage["maintenance"] = {"readonly": {"enabled": True}}
        if self._prefix != "/":
            http["prefix"] = self._prefix
        settings: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": storage,
            "http": http,
        }
        if self.users:
            settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(self._htpasswd())}}
        if self.tokens:
            token = {
                "realm": self.tokens.realm,
                "service": self.tokens.SERVICE,
                "issuer": self.tokens.ISSUER,
                "rootcertbundle": str(self.tokens.certificate),
            }
            settings["auth"] = {"token": token}
        if self._upstream:
            settings["proxy"] = {"remoteurl": self._upstream}
        return settings

    def _htpasswd(self) -> Path:
        """The password file; the registry reads bcrypt only (cost 4: tests have no time)."""
        file = self.folder / "htpasswd"
        htpasswd = program("htpasswd")
        lines = [
            subprocess.run(
                [htpasswd, "-niB", "-C", "4", name],
                input=password.encode(),
                check=True,
                capture_output=True,
            ).stdout.strip()
            for name, password in self.users.items()
        ]
        file.write_bytes(b"\n".join(lines) + b"\n")
        return file


def _ask(method: str, url: str, **options: Any) -> requests.Response:
    """One request, whatever the certificate: its name is often not the loopback address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        return requests.request(method, url, timeout=10, verify=False, **options)
