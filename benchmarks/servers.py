"""The ground that all sides stand on: fresh registries, a Redis, a worker; all on loopback."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import requests

from longshore import Client
from longshore_config.settings import Settings
from tests.support.corpus import Corpus, Layer
from tests.support.corpus_fill import fill
from tests.support.delay import DelayProxy
from tests.support.redis import RedisServer
from tests.support.registry import Registry
from tests.support.worker import QUICK, Site, WorkerProcess

#: Round trip of the cases with a long way. Unit: s.
FAR_S: Final = 0.05


class BenchRegistry(Registry):
    """Debian's registry with its data where the benchmark wants it, and a quiet log."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self.data = Path(tempfile.mkdtemp(prefix="bench-", dir=data))

    def close(self) -> None:
        """Stop it and delete what it holds."""
        super().close()
        shutil.rmtree(self.data, ignore_errors=True)

    def _settings(self) -> dict[str, Any]:
        quiet = {"level": "error", "accesslog": {"disabled": True}}
        return {**super()._settings(), "log": quiet}


@dataclass(frozen=True, slots=True)
class Place:
    """A registry, and the address at which everybody reaches it."""

    registry: BenchRegistry
    address: str

    @property
    def base(self) -> str:
        """Its URL, on the way that everybody takes."""
        return f"http://{self.address}"

    def check(self, corpus: Corpus, rename: str = "") -> None:
        """Fail unless the registry holds the corpus, digest by digest; asked directly."""
        for image in corpus.images:
            name = image.repository.rpartition("/")[2] if rename else image.repository
            found = self.registry.digest(f"{rename}{name}", image.tag)
            assert found == image.digest, f"{image.name}: {found} is not {image.digest}"

    def discard(self) -> None:
        """End the registry and free what it holds: nobody asks it again."""
        self.registry.close()

    def check_blob(self, repository: str, layer: Layer) -> None:
        """Fail unless the registry holds a layer; asked directly."""
        url = f"{self.registry.base}/v2/{repository}/blobs/{layer.digest}"
        answer = requests.head(url, timeout=10)
        found = answer.headers.get("Content-Length")
        assert (answer.status_code, found) == (200, str(layer.size)), f"{url}: {answer}, {found}"


@dataclass(frozen=True, slots=True)
class Ground:
    """Where data lies, and how far away registries are."""

    #: Folder for the registries' data, the same for all sides.
    data: Path
    #: Unit: s; 0: nothing stands before the registries.
    round_trip_s: float = 0.0

    def away(self, round_trip_s: float) -> Ground:
        """The same ground with registries so far away."""
        return Ground(self.data, round_trip_s)

    @contextmanager
    def registry(self, corpus: Corpus | None = None) -> Iterator[Place]:
        """A fresh registry; with a corpus, filled with it directly."""
        with ExitStack() as stack:
            registry = stack.enter_context(BenchRegistry(self.data))
            if corpus is not None:
                fill(registry.base, corpus)
            address = registry.address
            if self.round_trip_s:
                proxy = DelayProxy(registry.port, round_trip_s=self.round_trip_s)
                address = stack.enter_context(proxy).address
            yield Place(registry, address)


class Fleet:
    """A Redis and one worker with its defaults, which knows some registries by name."""

    def __init__(self, components: Mapping[str, Place], **settings: str) -> None:
        self._components = components
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            # What `longshore up` and the documentation ask for, not the tests' "always".
            redis = RedisServer(arguments=["--appendfsync", "everysec"])
            stack.enter_context(redis)
            self.site = Site(folder, redis.url, docker_url="", **self._settings)
            stack.callback(self.site.close)
            for name in QUICK:
                if name not in self._settings:
                    del self.site.environment[name]
            self.site.write_catalog(
                {
                    name: {"flavor": "default", "uri": place.address, "insecure": True}
                    for name, place in self._components.items()
                }
            )
            self.worker: WorkerProcess = self.site.start_worker("--no-engine")
            self.client = Client(settings=Settings.from_environment(self.site.environment))
            stack.callback(self.client.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def command(self, *arguments: str) -> float:
        """Run the command line, and give how long the whole process took. Unit: s."""
        begin = time.perf_counter()
        done = self.site.run(*arguments, timeout=3600)
        took = time.perf_counter() - begin
        assert done.returncode == 0, f"longshore {arguments[0]}: {done.stderr[-2000:]}"
        return took
