"""The registry of go-containerregistry: ``crane registry serve`` on a loopback port."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping, Sequence

from tests.support.processes import Server, free_port


class CraneRegistry(Server):
    """A registry that holds all in memory, without a login."""

    title = "crane registry serve"

    def __init__(self, words: Sequence[str]) -> None:
        """``words`` run ``crane``."""
        super().__init__()
        self.port = free_port()
        self._words = list(words)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        """Its URL."""
        return f"http://{self.address}"

    def command(self) -> Sequence[str]:
        return [*self._words, "registry", "serve", "--address", self.address]

    def environment(self) -> Mapping[str, str]:
        return {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}

    def answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.base}/v2/", timeout=10) as answer:
            return bool(answer.status == 200)
