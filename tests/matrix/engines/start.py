"""Starting one engine of the matrix: this machine's Docker, or one in a stored root."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.matrix.outcomes import log_of
from tests.matrix.roots import stored_root
from tests.support.engines.kinds import EngineKind
from tests.support.engines.rooted import RootedEngine, private_entry, rooted_engine
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.podman import PodmanService
from tests.support.servers.root import Entry

#: A new number makes new roots.
_EDITION: Final = 1
_PACKAGES: Final = (
    *("docker.io", "docker-cli", "docker-buildx", "containerd", "ca-certificates"),
    *("podman", "crun", "netavark", "golang-github-containers-common", "skopeo"),
)

#: The release whose BuildKit client builds for this machine's own engine.
BUILDKIT_SUITE: Final = "trixie"

Engine = DockerDaemon | PodmanService | RootedEngine


def engine_of(kind: EngineKind) -> Engine:
    """The engine of this kind, not started yet; its root is made unless it is stored.

    Raises:
        OSError: The root could not be made.
    """
    return DockerDaemon() if kind.suite is None else rooted_engine(kind, root_of(kind.suite))


def buildkit_entry(engine: Engine) -> Entry:
    """A root whose ``docker buildx`` sees an engine's folder and socket."""
    if isinstance(engine, RootedEngine):
        return engine.entry
    return private_entry(root_of(BUILDKIT_SUITE), engine.folder)


def root_of(suite: str) -> Path:
    """The stored root of a release with its engines.

    Raises:
        OSError: The root could not be made.
    """
    log = log_of(f"engines-{suite}-install")
    with log.open("ab") as output:
        try:
            return stored_root(f"engines-{suite}-{_EDITION}", suite, _PACKAGES, output=output)
        except OSError as error:
            raise OSError(f"{error}; see {log}") from None
