"""This machine's own Podman as root, behind its Docker-compatible socket."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import docker

from tests.support.processes import Server, missing, program
from tests.support.servers.dockerd import engine_answers


class PodmanService(Server):
    """``podman system service`` with all data in its own folder; it trusts 127.0.0.1 without TLS.

    It can hold, tag, load, build and push images; without a network helper it runs no container.
    """

    title = "podman"

    def __init__(self) -> None:
        self._program = program("podman")
        if os.geteuid() != 0:
            missing("a private Podman needs root")
        super().__init__()
        self.socket = self.folder / "s"

    @property
    def url(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"unix://{self.socket}"

    def client(self) -> docker.DockerClient:
        """A new client of the Docker SDK; the caller closes it."""
        return docker.DockerClient(base_url=self.url, version="auto", timeout=60)

    def command(self) -> Sequence[str]:
        folders = ["--root", str(self.folder / "data"), "--runroot", str(self.folder / "run")]
        # Copies instead of mounts: nothing has to be unmounted, also after SIGKILL.
        words = [self._program, *folders, "--storage-driver=vfs", "--cgroup-manager=cgroupfs"]
        return [*words, "system", "service", "--time=0", self.url]

    def environment(self) -> Mapping[str, str]:
        registries = self.folder / "registries.conf"
        registries.write_text('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n')
        own = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        folder = str(self.folder)
        return {
            **own,
            "HOME": folder,
            "TMPDIR": folder,
            "CONTAINERS_REGISTRIES_CONF": str(registries),
        }

    def start(self) -> PodmanService:
        self.socket.unlink(missing_ok=True)
        super().start()
        return self

    def answers(self) -> bool:
        return engine_answers(self.socket)
