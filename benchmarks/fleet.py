"""A Redis and workers with their defaults, as `transship up` and the documents set them up."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from benchmarks.servers import Place
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.workers.process import QUICK, Site, WorkerProcess
from transship import Client
from transship_config.settings import Settings

#: What `transship up` and the documentation ask for, not the tests' "always".
REDIS: Final = ("--appendfsync", "everysec")

#: A registry, or a component as the catalogue has it.
Component: TypeAlias = Place | Mapping[str, Any]


class Fleet:
    """Workers that know some components by name, and a client.

    ``endpoints``: one worker for each, with the base URLs at which it alone reaches components.
    ``sections``: of the catalogue, besides its registries.
    """

    def __init__(
        self,
        components: Mapping[str, Component],
        *,
        engine: DockerDaemon | None = None,
        endpoints: Sequence[Mapping[str, str]] = ({},),
        sections: Mapping[str, Any] | None = None,
        **settings: str,
    ) -> None:
        self._components = components
        self._engine = engine
        self._endpoints = endpoints
        self._sections = dict(sections or {})
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            self.redis = stack.enter_context(RedisServer(arguments=REDIS))
            url = self._engine.url if self._engine else ""
            self.site = Site(folder, self.redis.url, docker_url=url, **self._settings)
            stack.callback(self.site.close)
            for name in QUICK:
                if name not in self._settings:
                    del self.site.environment[name]
            self.workers = [self._worker(*one) for one in enumerate(self._endpoints)]
            self.client = Client(settings=Settings.from_environment(self.site.environment))
            stack.callback(self.client.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def worker(self) -> WorkerProcess:
        """The only one."""
        (worker,) = self.workers
        return worker

    def _worker(self, number: int, endpoints: Mapping[str, str]) -> WorkerProcess:
        registries = {
            name: _options(component, endpoints.get(name))
            for name, component in self._components.items()
        }
        # A worker reads its catalogue anew when it changes: each has a file of its own.
        self.site.catalog = self.site.folder / f"catalog{number}.yaml"
        self.site.write_catalog(registries, **self._sections)
        where = {"TRANSSHIP_CATALOG": str(self.site.catalog)}
        self.site.environment |= where
        words = () if self._engine else ("--no-engine",)
        return self.site.start_worker(*words, **where)

    def command(self, *arguments: str) -> float:
        """Run the command line, and give how long the whole process took. Unit: s."""
        begin = time.perf_counter()
        done = self.site.run(*arguments, timeout=3600)
        took = time.perf_counter() - begin
        assert done.returncode == 0, f"transship {arguments[0]}: {done.stderr[-2000:]}"
        return took


def _options(component: Component, endpoint: str | None) -> dict[str, Any]:
    if not isinstance(component, Place):
        return dict(component)
    options = {"flavor": "default", "uri": component.address, "insecure": True}
    return options if endpoint is None else options | {"endpoint": endpoint}
