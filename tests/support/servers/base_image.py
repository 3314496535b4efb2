"""A base image made from the distribution's own packages, where no image can be pulled.

It stands in for the images that docker-compose.yml names: Python, Redis and the registry.
Making it takes about a minute, so its archive is kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import docker
from packaging.markers import Marker

from tests.support.processes import missing, program

#: The environment and the cache folder of the person who runs the tests, noted while the
#: tests are collected: a fixture gives all tests another home.
_ENVIRONMENT = dict(os.environ)
_CACHE = Path(
    os.environ.get("TRANSSHIP_DEV_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transship-dev"
)

#: A new number makes a new archive.
_EDITION = 1
_PACKAGES = ("python3", "python3-venv", "redis-server", "docker-registry")

_REGISTRY_CONFIG = """\
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000"}
"""

BASE = "standin/base:1"
REGISTRY = "standin/registry:1"


def load_standin(client: docker.DockerClient) -> str:
    """Bring ``BASE`` (Python, Redis) and ``REGISTRY`` into the engine; the version of Python."""
    client.api.import_image_from_file(str(base_archive()), repository="standin/base", tag="1")
    changes = ["CMD docker-registry serve /etc/registry.yml"]
    container = client.containers.create(BASE, ["true"])
    container.commit("standin/registry", "1", changes=changes)
    container.remove()
    ask = ["python3", "-c", "import platform; print(platform.python_version())"]
    return str(client.containers.run(BASE, ask, remove=True).decode().strip())


def base_archive() -> Path:
    """The base image's root file system as a tar archive, made at the first call."""
    site, suite = _apt_source()
    name = hashlib.sha256(f"{_EDITION} {suite} {_PACKAGES}".encode()).hexdigest()[:12]
    archive = _CACHE / f"standin-{suite}-{name}.tar"
    if archive.exists():
        return archive
    debootstrap = program("debootstrap")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ts-base-") as folder:
        root = Path(folder) / "root"
        packages = f"--include={','.join(_PACKAGES)}"
        run([debootstrap, "--variant=minbase", packages, suite, str(root), site], proxy=True)
        run(["chroot", str(root), "install", "-d", "-o", "redis", "-g", "redis", "/data"])
        (root / "etc" / "registry.yml").write_text(_REGISTRY_CONFIG)
        for leftover in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(root / leftover, ignore_errors=True)
        new = archive.with_suffix(f".{os.getpid()}")
        # Device nodes are made by the engine.
        run(["tar", "-C", str(root), "--exclude=./dev/*", "-cf", str(new), "."])
        new.replace(archive)
    return archive


def wheels(python: str, *locks: Path) -> Path:
    """A folder with the wheels of these hashed files, for this version of Python."""
    content = "".join(file.read_text() for file in locks)
    folder = _CACHE / f"wheels-{hashlib.sha256(f'{python} {content}'.encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(prefix="ts-wheels-") as new:
        wanted = Path(new) / "requirements.txt"
        wanted.write_text("\n".join(_wanted(content, python)))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes"]
        command += ["--no-deps", "--only-binary=:all:", "--python-version", python]
        run([*command, "-d", new, "-r", str(wanted)])
        wanted.unlink()
        copy = folder.with_suffix(f".{os.getpid()}")
        shutil.copytree(new, copy)
        copy.replace(folder)
    return folder


def _wanted(lock: str, python: str) -> Iterator[str]:
    """The lines that count for this Python, without their conditions.

    ``pip download --python-version`` tries the conditions on the Python that it runs in.
    """
    there = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    for line in lock.replace("\\\n", "").splitlines():
        requirement, hashes, values = line.partition(" --hash")
        name, _, condition = requirement.partition(";")
        if not name.strip() or name.startswith("#"):
            continue
        if not condition or Marker(condition.strip()).evaluate(there):
            yield f"{name} {hashes}{values}"


def run(command: Sequence[str], *, proxy: bool = False) -> str:
    """Run it in the person's own environment (package index, proxies); its output."""
    environment = {**_ENVIRONMENT, **(_apt_proxies() if proxy else {})}
    done = subprocess.run(
        list(command), env=environment, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, (
        f"{shlex.join(command)} ended with status {done.returncode}:\n"
        f"{(done.stdout + done.stderr)[-3000:]}"
    )
    return done.stdout


def _apt_source() -> tuple[str, str]:
    """The first site and suite of this machine's package sources."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        missing("the stand-in image needs Debian's packages, and root")
    targets = run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages"]
    )
    site, _, suite = targets.splitlines()[0].partition(" ")
    return site, suite


def _apt_proxies() -> Mapping[str, str]:
    """What apt is told about proxies, for a program that asks the environment."""
    found = run(["apt-config", "shell", "P", "Acquire::http::Proxy"]).strip()
    value = shlex.split(found)[0].partition("=")[2] if found else ""
    return {"http_proxy": value} if value else {}
