"""The other tools, as their users run them: whole processes, from start to end."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import docker

from benchmarks.measure import Case
from benchmarks.servers import Place
from tests.support.images.corpus import Corpus, Image
from tests.support.servers.dockerd import DockerDaemon

DOCKER_PUSH: Final = "docker push"
DOCKER_SDK: Final = "Docker SDK"
SKOPEO_SYNC: Final = "skopeo sync"
SKOPEO_COPY: Final = "skopeo copy"
CURL: Final = "curl | curl"
#: Where `skopeo sync` puts repositories: it keeps the last part of their names only.
SYNCED: Final = "synced/"
_PLAIN: Final = ("--src-tls-verify=false", "--dest-tls-verify=false")


def missing(cases: Iterable[Case]) -> list[str]:
    """What these cases need and this machine or this user has not."""
    cases = list(cases)
    needed = dict.fromkeys(name for case in cases for name in case.programs)
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = [name for name in needed if shutil.which(name, path=folders) is None]
    if os.geteuid() != 0 and any(case.root for case in cases):
        found.append("root, for a private Docker Engine")
    return found


def docker_push(engine: DockerDaemon, name: str) -> float:
    """An image that has this name already. Unit: s."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # Nobody's logins, credential helpers or contexts.
        environment = os.environ | {"DOCKER_CONFIG": folder, "DOCKER_HOST": engine.url}
        return timed(["docker", "push", "--quiet", name], environment)


def sdk_push(client: docker.DockerClient, name: str) -> float:
    """The same through the Docker SDK, in a process that stands. Unit: s."""
    begin = time.perf_counter()
    events = client.api.push(name, stream=True, decode=True)
    problems = [event["error"] for event in events if "error" in event]
    took = time.perf_counter() - begin
    assert not problems, problems
    return took


def skopeo_sync(source: Place, corpus: Corpus, target: Place) -> float:
    """All tags of the corpus's repositories, named one by one in a YAML file. Unit: s."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        names = "".join(f"    {name}: []\n" for name in corpus.repositories)
        file = Path(folder) / "sync.yml"
        file.write_text(f'"{source.address}":\n  tls-verify: false\n  images:\n{names}')
        words = ["skopeo", "--insecure-policy", "sync", "--src", "yaml", "--dest", "docker"]
        return timed(
            [*words, "--dest-tls-verify=false", str(file), f"{target.address}/{SYNCED[:-1]}"]
        )


def skopeo_copy(source: Place, image: Image, target: Place) -> float:
    """One image. Unit: s."""
    names = [f"docker://{place.address}/{image.name}" for place in (source, target)]
    return timed(["skopeo", "--insecure-policy", "copy", *_PLAIN, *names])


def curl_to_curl(source: Place, image: Image, target: Place) -> float:
    """The image's only layer, piped; neither verifies it but the registry. Unit: s."""
    (layer,) = image.layers
    script = (
        'place=$(curl -sSf -D - -o /dev/null -X POST "$2" | '
        "sed -n 's/^[Ll]ocation: *//p' | tr -d '\\r')\n"
        'curl -sSf "$1" | curl -sSf -o /dev/null -T - '
        '-H "Content-Type: application/octet-stream" "$place&digest=$3"'
    )
    pull = f"{source.base}/v2/{image.repository}/blobs/{layer.digest}"
    push = f"{target.base}/v2/{image.repository}/blobs/uploads/"
    return timed(["sh", "-c", script, "sh", pull, push, layer.digest])


def timed(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """A whole process. Unit: s."""
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    assert done.returncode == 0, f"{' '.join(command[:4])} failed: {done.stderr[-2000:]}"
    return took
