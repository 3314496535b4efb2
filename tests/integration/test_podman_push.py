"""Pushes through the socket of Podman, which is scripted here, to real registries.

Its answers are those that Podman 5.4 and 5.8 were seen to give. The real ones are part of
``./dev test matrix engines``.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.oci_exports import Export
from tests.support.scripted_servers.podman_images import LOCAL, PodmanImages, failed, pushed
from tests.support.servers.registry import Registry
from tests.support.workers.single_push import LOGIN, Push
from tests.support.workers.streaming import stream_way
from transship.errors import (
    Denied,
    DigestMismatch,
    EngineMisconfigured,
    EngineUnavailable,
    ImageNotFound,
    RegistryUnreachable,
)
from transship.ledger.keys import Keys
from transship.model.jobs import Step, Via
from transship_worker.credentials.access import Access, Credentials
from transship_worker.handlers.streaming import StreamWay
from transship_worker.transports.engine import liveness
from transship_worker.transports.engine.client import find_engine

pytestmark = [pytest.mark.registry, pytest.mark.redis]

MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def way(redis_url: str) -> Iterator[StreamWay]:
    with stream_way(redis_url, Keys(f"podman-{uuid.uuid4().hex[:8]}")) as found:
        yield found


class Stage:
    """An image in Podman, and a registry that it pushes to."""

    def __init__(self, podman: PodmanImages, export: Export, registry: Registry) -> None:
        self.podman = podman
        self.export = export
        self.registry = registry
        self.repository = f"podman/{uuid.uuid4().hex[:8]}"

    def put(self, digest: str, tag: str = "1") -> None:
        """Put a manifest with its blobs, as Podman would."""
        value = json.loads(self.export.blobs[digest])
        for part in (value["config"], *value["layers"]):
            content = self.export.blobs[part["digest"]]
            base = f"{self.registry.base}/v2/{self.repository}/blobs/uploads/"
            login = (USER, PASSWORD) if self.registry.users else None
            place = requests.post(base, auth=login, timeout=10).headers["Location"]
            url = f"{place}&digest={part['digest']}"
            requests.put(url, data=content, auth=login, timeout=10).raise_for_status()
        manifest = self.export.blobs[digest]
        self.registry.put_manifest(self.repository, tag, manifest, MANIFEST)

    def pushes(self, digest: str, *, line: str | None = None) -> None:
        """Let Podman push this, and name ``line`` (or nothing) as its digest."""

        def push() -> tuple[int, list[dict[str, Any]]]:
            self.put(digest)
            return pushed("1", line) if line is not None else (200, [])

        self.podman.push = push


@pytest.fixture
def stage(plain_registry: Registry) -> Iterator[Stage]:
    export = Export()
    config = json.loads(export.blobs[export.image(b"one", b"two")])["config"]["digest"]
    with PodmanImages(config, list(export.diff_ids)) as podman:
        yield Stage(podman, export, plain_registry)


@pytest.fixture
def push_of(way: StreamWay) -> Callable[..., Push]:
    def make(stage: Stage, **options: Any) -> Push:
        engine = find_engine({"DOCKER_HOST": stage.podman.url, "HOME": "/nowhere"}, name="pod")
        name = f"{stage.registry.address}/{stage.repository}:1"
        image_id = str(stage.podman.inspected["Id"])
        return Push(engine, name, image_id, streams=way, via=Via.ENGINE, **options)

    return make


PushOf = Callable[..., Push]


def test_a_push_succeeds_at_the_first_attempt_and_again_is_skipped(
    stage: Stage, push_of: PushOf
) -> None:
    digest = stage.export.root
    stage.pushes(digest, line=digest)
    push = push_of(stage)
    outcome = push.run()
    assert (outcome.digest, outcome.skipped) == (digest, False)
    assert push.control.warnings == []
    assert push.control.steps == [Step.PUSHING, Step.UPLOADING_UNREPORTED, Step.VERIFYING]
    again = push_of(stage).run()
    assert (again.digest, again.skipped) == (digest, True)
    assert sum("push" in asked for asked in stage.podman.asked) == 1
    assert not any(LOCAL in asked for asked in stage.podman.asked)


def test_a_push_that_names_no_digest_is_decided_by_the_registry(
    stage: Stage, push_of: PushOf
) -> None:
    stage.pushes(stage.export.root)
    push = push_of(stage)
    assert push.run().digest == stage.export.root
    assert push.control.warnings == []


def test_a_push_of_which_nothing_arrived_is_no_success(stage: Stage, push_of: PushOf) -> None:
    stage.podman.push = lambda: (200, [])
    with pytest.raises(EngineUnavailable, match="the registry does not have the tag"):
        push_of(stage).run()


def test_another_image_under_the_tag_is_no_success(stage: Stage, push_of: PushOf) -> None:
    other = stage.export.image(b"another", b"image")
    stage.pushes(other, line=other)
    with pytest.raises(DigestMismatch, match="was tagged anew"):
        push_of(stage).run()


_REUSE = "trying to reuse blob sha256:0a at destination: "


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (
            f"{_REUSE}checking whether a blob sha256:0a exists in H/N: authentication required",
            Denied,
            "authentication required",
        ),
        (
            f"{_REUSE}pinging container registry H: Get http://H/v2/: dial tcp: connection refused",
            RegistryUnreachable,
            "connection refused",
        ),
        (
            f"{_REUSE}pinging registry H: http: server gave HTTP response to HTTPS client",
            EngineMisconfigured,
            "registries.conf",
        ),
    ],
)
def test_a_failed_push_keeps_podmans_words_and_their_kind(
    stage: Stage, push_of: PushOf, message: str, kind: type[Exception], words: str
) -> None:
    stage.podman.push = lambda: failed(message)
    with pytest.raises(kind, match=words):
        push_of(stage).run()


def test_an_image_that_is_gone_is_not_found(stage: Stage, push_of: PushOf) -> None:
    text = "failed to find image a/b:1: image not known"
    stage.podman.push = lambda: (
        404,
        [{"cause": "image not known", "message": text, "response": 404}],
    )
    with pytest.raises(ImageNotFound):
        push_of(stage).run()


def test_a_login_that_may_not_read_is_a_warning_and_no_silent_success(
    stage: Stage, push_of: PushOf, basic_registry: Registry
) -> None:
    stage.registry = basic_registry
    stage.pushes(stage.export.root, line=stage.export.root)
    wrong = Credentials(USER, SecretStr("wr0ng-s3cret"))
    push = push_of(stage, credentials=wrong)
    assert push.run().digest == stage.export.root
    unconfirmed, unasked = push.control.warnings
    assert "it could not be confirmed" in unconfirmed
    assert "could not be asked to confirm it" in unasked
    assert "wr0ng-s3cret" not in "".join(push.control.warnings)
    right = push_of(stage, credentials=LOGIN)
    assert right.run().skipped


def test_an_insecure_registry_that_podman_does_not_list_is_named_before_the_push(
    stage: Stage, push_of: PushOf
) -> None:
    push = push_of(stage, access=Access(insecure=True))
    with pytest.raises(EngineMisconfigured, match=r"Podman's registries\.conf"):
        push.run()


def test_a_silent_push_is_alive_as_long_as_podman_answers(
    stage: Stage, push_of: PushOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "EVERY_S", 0.01)
    alive = threading.Semaphore(0)
    digest = stage.export.root

    def push() -> tuple[int, list[dict[str, Any]]]:
        stage.put(digest)
        # It says nothing until it ends.
        assert all(alive.acquire(timeout=10) for _ in range(3))
        return pushed("1", digest)

    stage.podman.push = push
    running = push_of(stage)
    running.control.alive = alive.release  # type: ignore[method-assign]
    assert running.run().digest == digest
    assert "GET /_ping" in stage.podman.asked


def test_an_engine_that_is_too_old_is_refused_with_what_is_needed(
    stage: Stage, push_of: PushOf
) -> None:
    stage.podman.api = "1.40"
    with pytest.raises(EngineMisconfigured, match=r"version 1\.40 .* 1\.41 or newer is needed"):
        push_of(stage).run()


def test_an_engine_that_answers_only_newer_versions_of_the_api_is_spoken_to_in_its_own(
    stage: Stage, push_of: PushOf
) -> None:
    # Docker Engine 29 answers 1.44 and newer.
    stage.podman.api, stage.podman.oldest = "1.54", "1.44"
    stage.pushes(stage.export.root, line=stage.export.root)
    assert push_of(stage).run().digest == stage.export.root
