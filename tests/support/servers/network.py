"""A network and an ``/etc`` of their own, for what the loopback hides.

A Docker Engine takes every registry in 127.0.0.0/8 for one that need not be trusted. Here are an
address that is not there, and a ``/etc/docker/certs.d`` that is not this machine's.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from tests.support.processes import Server, missing, program

T = TypeVar("T")

#: ``CLONE_NEWNET`` of ``sched.h``.
_NEW_NETWORK: Final = 0x4000_0000
#: What programs inside need of ``/etc``: names, users, and the system's authorities.
_KEPT: Final = ("hosts", "resolv.conf", "nsswitch.conf", "passwd", "group", "ssl", "ld.so.cache")
_SET_UP: Final = """
set -e
mount --make-rprivate /
mount --bind "$1" /etc
ip link set lo up
ip address add "$2/32" dev lo
touch "$3"
exec sleep infinity
"""


def _unreadable(_: str, names: list[str]) -> set[str]:
    return {"private"} & set(names)


class PrivateNetwork(Server):
    """A process that holds a network and a mount namespace; other processes enter them.

    In them ``/etc`` is a copy of some of it, in ``etc`` of this object's folder.
    """

    title = "private network"
    #: Of the documentation's networks (RFC 5737); no host of any network has it.
    ADDRESS: Final = "198.51.100.1"

    def __init__(self) -> None:
        self._unshare, self._nsenter = program("unshare"), program("nsenter")
        program("ip")
        if os.geteuid() != 0:
            missing("a network of its own needs root")
        probe = subprocess.run([self._unshare, "--net", "--mount", "true"], capture_output=True)
        if probe.returncode:
            missing("this machine gives no network of its own: " + probe.stderr.decode().strip())
        super().__init__()
        self.etc = self.folder / "etc"
        self.etc.mkdir()
        for name in _KEPT:
            self._copy(Path("/etc") / name)
        self.certificates = self.etc / "docker" / "certs.d"
        self._ready = self.folder / "ready"

    def _copy(self, source: Path) -> None:
        target = self.etc / source.name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=_unreadable)
        elif source.exists():
            shutil.copy(source, target)

    def command(self) -> Sequence[str]:
        words = [self._unshare, "--net", "--mount", "sh", "-c", _SET_UP, "sh"]
        return [*words, str(self.etc), self.ADDRESS, str(self._ready)]

    def answers(self) -> bool:
        return self._ready.exists()

    @property
    def words(self) -> Sequence[str]:
        """What stands before a command that is to run inside; it becomes that command."""
        return [self._nsenter, "--target", str(self.pid), "--net", "--mount"]

    def trust(self, registry: str, **files: Path) -> None:
        """Give the engines inside files for one registry, by their names without suffixes.

        For example ``ca=…`` (``ca.crt``), ``cert=…`` and ``key=…`` (``client.cert``,
        ``client.key``); without any, they forget all.
        """
        names = {"ca": "ca.crt", "cert": "client.cert", "key": "client.key"}
        folder = self.certificates / registry
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for kind, file in files.items():
            shutil.copy(file, folder / names[kind])

    def run(self, work: Callable[[], T]) -> T:
        """Do something that needs the network only; in a thread, which alone enters it."""
        answers: list[T] = []
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                with Path(f"/proc/{self.pid}/ns/net").open() as network:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(network.fileno(), _NEW_NETWORK):
                        raise OSError(ctypes.get_errno(), "setns")
                answers.append(work())
            except BaseException as error:  # noqa: BLE001 - raised to the caller below
                errors.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return answers[0]
