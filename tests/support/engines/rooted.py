"""Engines that run inside the root file system of another release of Debian."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import docker

from tests.support.engines.kinds import EngineKind
from tests.support.processes import PATIENCE_S, Server, missing
from tests.support.servers.dockerd import engine_answers
from tests.support.servers.root import Entry

#: Folders of a root that each engine has for itself.
_PRIVATE: Final = ("/run", "/tmp", "/var/tmp", "/root", "/var/lib/containers", "/etc/docker")


def private_entry(root: Path, folder: Path) -> Entry:
    """Commands in a shared root that change nothing but ``folder``, the same path on the host."""
    for path in _PRIVATE:
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    return Entry(root, write=[folder], empty=_PRIVATE)


class RootedEngine(Server):
    """An engine in a root, on a unix socket of the host, with all data in its own folder.

    It trusts registries on 127.0.0.0/8 without TLS. Everything that it starts and mounts is in
    namespaces of its own and ends with it, also on ``kill9()``.
    """

    def __init__(self, kind: EngineKind, root: Path) -> None:
        if os.geteuid() != 0:
            missing("an engine in a root file system needs root")
        super().__init__()
        self.kind = kind
        self.title = kind.name
        self.socket = self.folder / "s"
        self._data = self.folder / "data"
        self._data.mkdir()
        #: How other programs of the root see this engine's folder.
        self.entry = private_entry(root, self.folder)

    @property
    def url(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"unix://{self.socket}"

    def client(self) -> docker.DockerClient:
        """A new client of the Docker SDK, at the engine's newest API; the caller closes it."""
        return docker.DockerClient(base_url=self.url, version="auto", timeout=300)

    def inside(self, *command: str, **environment: str) -> Sequence[str]:
        """The command line that runs a program of the same root, with this engine's folder."""
        home = {"HOME": str(self.folder), "DOCKER_HOST": self.url, "TMPDIR": str(self.folder)}
        return self.entry.words(command, environment={**home, **environment})

    @abstractmethod
    def service(self) -> Sequence[str]:
        """The engine's own command line, inside."""

    def service_environment(self) -> Mapping[str, str]:
        """The variables that the engine needs besides."""
        return {}

    def command(self) -> Sequence[str]:
        return self.inside(*self.service(), **self.service_environment())

    def answers(self) -> bool:
        return engine_answers(self.socket)

    @property
    def pid(self) -> int:
        """The engine's own process, below those that made its namespaces."""
        # setpriv becomes unshare; its child is the shell, whose child becomes the engine.
        return _child(_child(super().pid))

    def start(self) -> Self:
        # After SIGKILL these are still there. Their numbers are those of namespaces that ended: a
        # new dockerd would take another process for its containerd.
        for path in ("s", "pid", "run/containerd/containerd.pid"):
            (self.folder / path).unlink(missing_ok=True)
        return super().start()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_now(self, number: signal.Signals) -> None:
        """Send the signal to the engine; the rest of its namespaces ends with it."""
        process = self._process
        if process is not None and process.poll() is None:
            # It may be over by now, or not have begun.
            with suppress(OSError):
                engine = self.pid
                os.kill(engine, number)
                # A frozen process would keep SIGTERM pending.
                os.kill(engine, signal.SIGCONT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_S)
        super()._end_now(signal.SIGKILL)


class RootedDocker(RootedEngine):
    """dockerd with the classic store or the containerd image store, and no network."""

    def service(self) -> Sequence[str]:
        settings = {"features": {"containerd-snapshotter": self.kind.stores_manifests}}
        config = self.folder / "daemon.json"
        config.write_text(json.dumps(settings))
        words = ["dockerd", "--config-file", str(config), "-p", str(self.folder / "pid")]
        words += ["--data-root", str(self._data), "--exec-root", str(self.folder / "run")]
        words += ["-H", self.url, "--log-level", "info"]
        return [*words, "--iptables=false", "--ip6tables=false", "--bridge=none"]


class RootedPodman(RootedEngine):
    """``podman system service`` as root."""

    def service(self) -> Sequence[str]:
        return [*self._podman(), "system", "service", "--time=0", self.url]

    def service_environment(self) -> Mapping[str, str]:
        registries = self.folder / "registries.conf"
        # Podman trusts no registry without TLS unless it is told to.
        registries.write_text('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n')
        return {"CONTAINERS_REGISTRIES_CONF": str(registries)}

    def _podman(self) -> Sequence[str]:
        folders = ["--root", str(self._data), "--runroot", str(self.folder / "run")]
        return ["podman", *folders, "--cgroup-manager=cgroupfs"]


def rooted_engine(kind: EngineKind, root: Path) -> RootedEngine:
    """The engine of this kind, not started yet; ``root`` has its packages installed."""
    return RootedPodman(kind, root) if kind.is_podman else RootedDocker(kind, root)


def _child(pid: int) -> int:
    """The first child of a process.

    Raises:
        ProcessLookupError: it has none.
    """
    for status in Path("/proc").glob("[0-9]*/stat"):
        # The name in parentheses may hold anything; the parent is the second field behind it.
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                return int(status.parent.name)
    raise ProcessLookupError(f"process {pid} has no child")
