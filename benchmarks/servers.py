"""The ground that all sides stand on: fresh registries, each on a loopback port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import requests

from tests.support.images.corpus import Corpus, Layer
from tests.support.images.corpus_fill import fill
from tests.support.proxies.delay import DelayProxy
from tests.support.servers.registry import Registry

#: Round trip of the cases with a long way. Unit: s.
FAR_S: Final = 0.05

T = TypeVar("T")


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
    """Where data lies, how far away registries are, and how large the work is."""

    #: Folder for the registries' data, the same for all sides.
    data: Path
    #: Unit: s; 0: nothing stands before the registries.
    round_trip_s: float = 0.0
    #: Sizes at which no figure means anything: to see that a case works.
    tiny: bool = False
    #: Also what takes very long.
    long: bool = False

    def away(self, round_trip_s: float) -> Ground:
        """The same ground with registries so far away."""
        return replace(self, round_trip_s=round_trip_s)

    def on_disk(self) -> Ground:
        """The same ground for what is too much for a file system in memory."""
        return replace(self, data=Path(tempfile.gettempdir()))

    def choose(self, usual: T, tiny: T) -> T:
        """How large the work is."""
        return tiny if self.tiny else usual

    @contextmanager
    def registry(
        self, corpus: Corpus | None = None, *, like: Place | None = None
    ) -> Iterator[Place]:
        """A fresh registry; filled directly with a corpus, or with what another one holds."""
        with ExitStack() as stack:
            registry = stack.enter_context(BenchRegistry(self.data))
            if corpus is not None:
                fill(registry.base, corpus)
            if like is not None:
                subprocess.run(["cp", "-a", f"{like.registry.data}/.", registry.data], check=True)
            address = registry.address
            if self.round_trip_s:
                proxy = DelayProxy(registry.port, round_trip_s=self.round_trip_s)
                address = stack.enter_context(proxy).address
            yield Place(registry, address)
