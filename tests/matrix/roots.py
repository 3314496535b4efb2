"""Root file systems of Debian releases, and commands that run inside one."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tests.matrix import hostconfig
from tests.matrix.hostconfig import HOME
from tests.support.servers.root import Entry

#: A new number makes new archives.
_EDITION: Final = 1
#: An older archive is made again, so that its packages are not too far behind. Unit: s.
_ARCHIVE_AGE_S: Final = 30 * 86_400
_SCRIPTS: Final = Path("/usr/share/debootstrap/scripts")
#: No installation may take longer. Unit: s.
_INSTALL_S: Final = 45 * 60
#: Seconds between SIGKILL and the end of all processes of a root. Unit: s.
_END_S: Final = 30


def cache_folder() -> Path:
    """Where archives and logs are stored; outside the checkout."""
    named = os.environ.get("TRANSSHIP_DEV_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(named) if named else Path(base) / "transship-dev"


def missing_programs() -> list[str]:
    """What this machine lacks to make and enter a root."""
    programs = ("debootstrap", "unshare", "setpriv", "pivot_root", "tar", "git")
    return [name for name in programs if shutil.which(name) is None]


class Root:
    """A fresh root file system of one Debian release, with the host's package configuration."""

    def __init__(self, suite: str, folder: Path) -> None:
        self.suite = suite
        self.folder = folder
        self._host = hostconfig.read(suite)
        self._host.write(folder)
        (folder / HOME.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def copy_checkout(self, checkout: Path, target: str) -> None:
        """Put the files of the checkout's last commit into a folder of the root."""
        folder = self.folder / target.lstrip("/")
        folder.mkdir(parents=True)
        archive = ["git", "-C", str(checkout), "archive", "--format=tar", "HEAD"]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as git:
            subprocess.run(["tar", "-xf", "-", "-C", str(folder)], stdin=git.stdout, check=True)
        if git.returncode:
            raise subprocess.CalledProcessError(git.returncode, archive)

    def run(
        self,
        command: Sequence[str],
        *,
        folder: str,
        environment: Mapping[str, str],
        output: IO[bytes],
        timeout_s: float,
    ) -> int:
        """Run a command inside as root, with its output in a file; the exit status.

        Mounts and processes are in namespaces of their own and end with it, also when this
        process is killed.

        Raises:
            subprocess.TimeoutExpired: It took longer than ``timeout_s``.
        """
        entry = Entry(self.folder, read=self._host.folders)
        variables = {"HOME": HOME, **self._host.environment, **environment}
        process = subprocess.Popen(
            entry.words(command, environment=variables, folder=folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for this process, which then ends the other.
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(_END_S)

    def install(self, packages: Sequence[str], *, output: IO[bytes], timeout_s: float) -> None:
        """Install packages of the release, without those that they only recommend.

        Raises:
            OSError: They could not be installed; the output says why.
        """
        # invoke-rc.d(8): 101 forbids the action.
        policy = self.folder / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        script = (
            "apt-get update -q && "
            "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "
            f"{shlex.join(packages)} && apt-get clean"
        )
        status = self.run(
            ["sh", "-c", script], folder="/", environment={}, output=output, timeout_s=timeout_s
        )
        if status:
            raise OSError(f"{' '.join(packages)} could not be installed in {self.suite}")

    def store(self, folder: Path) -> None:
        """Move the root to another folder, without the host's package configuration."""
        self._host.erase(self.folder)
        self.folder.rename(folder)


def stored_root(name: str, suite: str, packages: Sequence[str], *, output: IO[bytes]) -> Path:
    """A root with these packages, made unless a recent one of this name is stored.

    Commands that enter it must not change it: it is shared.

    Raises:
        OSError: It could not be made; the output says why.
    """
    folder = cache_folder() / name
    if folder.exists() and time.time() - folder.stat().st_mtime < _ARCHIVE_AGE_S:
        return folder
    with fresh_root(suite) as root:
        root.install(packages, output=output, timeout_s=_INSTALL_S)
        if folder.exists():
            delete(folder)
        os.utime(root.folder)
        root.store(folder)
    return folder


@contextmanager
def fresh_root(suite: str, *, keep: bool = False) -> Iterator[Root]:
    """A root made by ``debootstrap --variant=minbase``; it is deleted at the end."""
    archive = _base_archive(suite)
    folder = Path(tempfile.mkdtemp(prefix=f"debian-{suite}-", dir=cache_folder()))
    try:
        # Programs inside drop root and must be able to enter "/".
        folder.chmod(0o755)
        subprocess.run(["tar", "-xpf", str(archive), "--numeric-owner", "-C", folder], check=True)
        yield Root(suite, folder)
    finally:
        if keep:
            sys.stdout.write(f"root: {folder}\n")
        else:
            delete(folder)


def delete(folder: Path) -> None:
    """Delete a root once the processes inside have ended; never anything mounted in it."""
    deadline = time.monotonic() + _END_S
    while True:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        inside = [line.split()[1] for line in mounts if f" {folder}" in line]
        if inside:
            raise OSError(f"{inside[0]} is mounted; {folder} was not deleted")
        # The last process of a namespace may end after its parent.
        shutil.rmtree(folder, ignore_errors=time.monotonic() < deadline)
        if not folder.exists():
            return
        time.sleep(0.2)


def _base_archive(suite: str) -> Path:
    """The archive of a minimal root, made with debootstrap unless a recent one is stored."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"debian-{suite}-{_EDITION}.tar"
    if archive.exists() and time.time() - archive.stat().st_mtime < _ARCHIVE_AGE_S:
        return archive
    host = hostconfig.read(suite)
    with tempfile.TemporaryDirectory(prefix=f"debootstrap-{suite}-", dir=cache) as name:
        root = Path(name) / "root"
        command = ["debootstrap", "--variant=minbase", suite, str(root)]
        if host.mirror:
            command.append(host.mirror)
            if not (_SCRIPTS / suite).exists():
                # A release newer than this debootstrap; all of Debian's have the same script.
                command.append(str(_SCRIPTS / "sid"))
        done = subprocess.run(
            command,
            env={**os.environ, **host.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise OSError(f"{shlex.join(command)} failed:\n{done.stdout[-3000:]}")
        new = Path(name) / "new.tar"
        words = ["tar", "-C", str(root), "--numeric-owner", "-cf", str(new), "."]
        subprocess.run(words, check=True)
        new.replace(archive)
    return archive
