"""Pushes that a worker streams out of the engine's export, as whole fleets do them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from typing import Any

import docker
import pytest

from tests.support.processes import program
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]

MIB = 1024 * 1024


def build(client: docker.DockerClient, name: str, *layers: bytes) -> str:
    """An image with a layer of its own for each content; its id."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        lines = ["FROM scratch"]
        for content in layers:
            # Equal contents become equal layers.
            name_in_it = hashlib.sha256(content).hexdigest()[:12]
            info = tarfile.TarInfo(name_in_it)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            lines.append(f"COPY {name_in_it} /{name_in_it}")
        text = "\n".join(lines).encode()
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    context.seek(0)
    image, _ = client.images.build(fileobj=context, custom_context=True, tag=name, rm=True)
    return str(image.id)


def raw(name: str) -> dict[str, Any]:
    """The manifest under a name, read by another client."""
    words = [program("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    found = subprocess.run(words, capture_output=True, check=True, timeout=60)
    value: dict[str, Any] = json.loads(found.stdout)
    return value


def test_a_streamed_image_is_the_same_image(
    site: Site, docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    address = plain_registry.address
    name = f"{address}/ml/streamed:1"
    twice = os.urandom(5000)
    contents = [os.urandom(3 * MIB), twice, b"text " * MIB, b"", twice]
    image_id = build(docker_client, name, *contents)
    site.write_catalog({"lab": {"flavor": "default", "uri": address}})
    site.start_worker()

    record = site.client.push(name, registry="lab", via="stream").wait(60)

    assert record.digest == plain_registry.digest("ml/streamed", "1")
    manifest = raw(name)
    assert manifest["config"]["digest"] == image_id
    digests = [layer["digest"] for layer in manifest["layers"]]
    assert (len(digests), digests[1]) == (5, digests[4])
    # The same again is instant, and so is what the engine's own push finds there.
    again = site.client.push(name, registry="lab", labels={"run": "2"}).wait(60)
    assert (again.digest, again.skipped) == (record.digest, True)
    docker_client.images.remove(name, force=True)
    pulled = docker_client.images.pull(name)
    assert pulled.id == image_id


def test_the_way_can_be_chosen_on_the_command_line(
    site: Site, docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    address = plain_registry.address
    site.write_catalog({"lab": {"flavor": "default", "uri": address}})
    site.start_worker()
    found = {}
    for via in ("engine", "stream"):
        name = f"{address}/ml/{via}:1"
        build(docker_client, name, b"the same text " * 1000)
        done = site.run("push", name, "--registry", "lab", "--via", via, "--wait", "--json")
        assert done.returncode == 0, done.stderr
        found[via] = raw(name)
    # One image, compressed by two programs.
    assert found["engine"]["config"] == found["stream"]["config"]
    assert found["engine"]["layers"] != found["stream"]["layers"]
    wrong = site.run("push", name, "--via", "fax")
    assert wrong.returncode == 2
