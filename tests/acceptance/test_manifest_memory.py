"""Manifests of any shape take a bounded amount of a worker's memory, and stop no other copy."""

from __future__ import annotations

import hashlib
import itertools
import json
import string
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.images.registry_client import EMPTY, EMPTY_DIGEST, GOOD
from tests.support.processes import eventually
from tests.support.scripted_servers.hostile import HostileServer, Reply, Seen
from tests.support.servers.registry import Registry
from tests.support.workers.copy_site import CopySite, component
from tests.support.workers.process import reaches
from transship.model.jobs import State
from transship_worker.oci.descriptors import MANIFEST_LIMIT, OCI_INDEX, OCI_MANIFEST

pytestmark = [pytest.mark.redis, pytest.mark.registry]

COPIES, CHILDREN = 32, 7
#: The most that a worker may hold at any time. Unit: bytes.
MOST = 300 * 2**20


def digest_of(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def manifest(number: int, annotations: Mapping[str, str], size: int = MANIFEST_LIMIT) -> bytes:
    """A manifest with these annotations, padded to a size. Unit: bytes."""
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY_DIGEST, "size": 2}
    data: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config}
    data |= {"layers": [], "annotations": {"number": str(number), **annotations}}
    body = json.dumps(data, separators=(",", ":")).encode()
    assert len(body) <= size
    return body.ljust(size)


def index(children: list[bytes]) -> bytes:
    entries = [
        {"mediaType": OCI_MANIFEST, "digest": digest_of(one), "size": len(one)} for one in children
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def many_annotations() -> dict[str, str]:
    """400,000 of them, with short names."""
    names = itertools.product(string.ascii_letters, repeat=4)
    return {"".join(name): "" for name in itertools.islice(names, 400_000)}


class Source:
    """Serves one image of large manifests, and a small one."""

    def __init__(self, server: HostileServer, annotations: Mapping[str, str]) -> None:
        children = [manifest(number, annotations) for number in range(CHILDREN)]
        root = index(children)
        self._bodies = {digest_of(one): one for one in children}
        self._bodies["large"] = self._bodies[digest_of(root)] = root
        self.digest = digest_of(root)
        self._lock = threading.Lock()
        #: Large manifests that were asked for.
        self.asked = 0
        server.follow("/v2/", self._answer)

    def _answer(self, seen: Seen) -> Reply:
        reference = seen.target.rpartition("/")[2]
        if reference == "small" or reference == GOOD_DIGEST:
            return GOOD
        if reference == EMPTY_DIGEST:
            return Reply(200, EMPTY)
        body = self._bodies.get(reference)
        if body is None:
            return Reply(200 if seen.target == "/v2/" else 404, b"{}")
        with self._lock:
            self.asked += len(body) == MANIFEST_LIMIT
        kind = OCI_INDEX if digest_of(body) == self.digest else OCI_MANIFEST
        return Reply(200, body, {"Content-Type": kind})


GOOD_DIGEST = digest_of(GOOD.body)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as made:
        yield made


@pytest.fixture
def target() -> Iterator[Registry]:
    with Registry() as made:
        yield made


@pytest.fixture
def site(
    tmp_path: Path, redis_url: str, server: HostileServer, target: Registry
) -> Iterator[CopySite]:
    found = CopySite(tmp_path / "site", redis_url)
    found.write_catalog(
        {
            "old": component(server.address, endpoint=server.base),
            "new": component(target.address),
        }
    )
    yield found
    found.close()


def peak_of(pid: int) -> int:
    """The most memory that a process had at once. Unit: bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def test_manifests_with_very_many_annotations_are_refused_and_others_are_copied(
    site: CopySite, server: HostileServer, target: Registry
) -> None:
    source = Source(server, many_annotations())
    worker = site.start_copier()
    jobs = [
        site.client.copy(f"{server.address}/evil:large", f"{target.address}/evil{number}:1")
        for number in range(COPIES)
    ]
    eventually(lambda: source.asked, what="a large manifest that is read")
    healthy = site.client.copy(f"{server.address}/good:small", f"{target.address}/good:1")
    reaches(healthy, State.SUCCEEDED)
    for job in jobs:
        error = reaches(job, State.FAILED, within=120).error
        assert error is not None
        assert error.code == "manifest_unsupported"
    assert peak_of(worker.pid) < MOST


def test_large_manifests_are_copied_within_the_same_bound(
    site: CopySite, server: HostileServer, target: Registry
) -> None:
    source = Source(server, {str(n): "x" * 40_000 for n in range(100)})
    worker = site.start_copier()
    jobs = [
        site.client.copy(f"{server.address}/large:large", f"{target.address}/large{number}:1")
        for number in range(COPIES)
    ]
    eventually(lambda: source.asked, what="a large manifest that is read")
    healthy = site.client.copy(f"{server.address}/good:small", f"{target.address}/good:1")
    reaches(healthy, State.SUCCEEDED)
    for job in jobs:
        assert reaches(job, State.SUCCEEDED, within=240).digest == source.digest
    assert peak_of(worker.pid) < MOST
