"""A private Docker Engine: dockerd as a child, with no network and folders of its own."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import docker

from tests.support.processes import Server, missing, program
from tests.support.servers.network import PrivateNetwork


class DockerDaemon(Server):
    """dockerd on a unix socket in its own folder; ready in about a second.

    It can hold, tag, load, import and push images; it has no bridge, so a container would have
    no network. Its containerd is a child of its own that dies with it, also on ``kill9()``.
    It trusts registries on 127.0.0.0/8 without TLS, as every Docker Engine does. Two of them
    on one machine have the same name in ``docker info``.
    """

    title = "dockerd"

    def __init__(
        self,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        network: PrivateNetwork | None = None,
    ) -> None:
        """``environment`` is added to dockerd's, for example ``HTTPS_PROXY``, ``SSL_CERT_FILE``.

        In a ``network`` of its own it sees that network's ``/etc`` too.
        """
        self._program = program("dockerd")
        if os.geteuid() != 0:
            missing("a private dockerd needs root")
        super().__init__()
        self.socket = self.folder / "s"
        self._data = self.folder / "data"
        self._run = self.folder / "run"
        self._pid_file = self.folder / "pid"
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._network = network

    @property
    def url(self) -> str:
        """What ``DOCKER_HOST`` would be."""
        return f"unix://{self.socket}"

    def client(self) -> docker.DockerClient:
        """A new client of the Docker SDK; the caller closes it."""
        return docker.DockerClient(base_url=self.url, timeout=60)

    def command(self) -> Sequence[str]:
        folders = ["--data-root", str(self._data), "--exec-root", str(self._run)]
        inside = self._network.words if self._network else []
        words = [*inside, self._program, *folders, "-p", str(self._pid_file), "-H", self.url]
        words += ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        # A broken upload is to be seen in the engine's log.
        return [*words, "--log-level", "info", *self._arguments]

    def environment(self) -> Mapping[str, str]:
        own = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        return {**own, **self._environment}

    def start(self) -> DockerDaemon:
        # After SIGKILL the file is still there, and dockerd refuses to start when another
        # process has that number by now.
        self._pid_file.unlink(missing_ok=True)
        self._end_containerd()
        super().start()
        return self

    def answers(self) -> bool:
        return engine_answers(self.socket)

    def close(self) -> None:
        self.stop()
        self._end_containerd()
        for place in reversed(_mounts_under(self.folder)):
            with suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", "-l", place], check=True, capture_output=True)
        if not _mounts_under(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_containerd(self) -> None:
        """Forget the containerd of a dockerd that was killed.

        It dies with its parent. Where the machine's first process is slow to collect the dead,
        its number is still taken, and a new dockerd would wait for it in vain.
        """
        file = self._run / "containerd" / "containerd.pid"
        if not file.exists():
            return
        pid = int(file.read_text())
        command = Path(f"/proc/{pid}/cmdline")
        # The number may belong to somebody else by now; the folder in its command does not,
        # and a zombie has no command.
        with suppress(OSError):
            if str(self._run).encode() in command.read_bytes():
                os.kill(pid, signal.SIGKILL)
        file.unlink()


def engine_answers(path: Path) -> bool:
    """Whether an engine answers on a unix socket; an ``OSError`` means not yet."""
    with socket.socket(socket.AF_UNIX) as connected:
        connected.settimeout(5)
        connected.connect(str(path))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connected
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200


def _mounts_under(folder: Path) -> list[str]:
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return []
    places = [line.split()[1] for line in mounts.read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]
