"""Cases where something is wrong, or breaks in the middle of a push."""

from __future__ import annotations

import os
from typing import Final

from tests.matrix.engines.checks import (
    check_content,
    check_engine_pulls,
    check_failed,
    check_skopeo_pulls,
    check_succeeded,
    expect,
    stored,
)
from tests.matrix.engines.ground import COMMAND_S, PASSWORD, USER, WRONG, Ground
from tests.matrix.engines.transfers import REPOSITORY, TAG, check_arrived, target
from tests.support.engines import images
from tests.support.images.engine_images import make_image
from tests.support.processes import eventually
from tests.support.servers.registry import Registry
from transship import JobRecord, State

#: Layers of an image whose push takes seconds. Unit: bytes.
LAYERS: Final = (20_000_000, 15_000_000)
#: How fast they go. Unit: bytes a second.
RATE: Final = 6_000_000
#: How fast where a command has to come before the end. Unit: bytes a second.
SLOW_RATE: Final = 500_000


def rebuilt_and_pushed_again(ground: Ground) -> None:
    registry = ground.registry()
    name = target(registry)
    images.build(ground.client, name, [1000])
    ground.publish(registry.address)
    first = ground.push(name)
    check_succeeded(first)
    images.build(ground.client, name, [2000])
    image = stored(ground.kind, ground.client, name)
    second = ground.push(name)
    check_succeeded(second)
    expect(second.digest != first.digest, "the new image has the old digest")
    check_arrived(ground, registry, second, image)


def rebuilt_between(ground: Ground) -> None:
    """The image was fixed by the first attempt: a later one may not push another."""
    registry = ground.registry()
    name = target(registry)
    make_image(ground.client, name)
    make_image(ground.client, "rebuilt:1")
    registry.stop()
    ground.publish(registry.address)
    job_id = ground.submit(name)
    eventually(lambda: ground.record(job_id).state is State.RETRYING, within=120, what="a retry")
    repository, _, tag = name.rpartition(":")
    ground.client.api.tag("rebuilt:1", repository, tag)
    registry.start()
    record = ground.ended(job_id)
    expect(record.error is not None, f"the job {record.state}, not failed")
    assert record.error is not None
    expect(record.error.code == "digest_mismatch", f"{record.error}")


def right_login(ground: Ground) -> None:
    registry = ground.registry(users={USER: PASSWORD})
    name = target(registry)
    images.build(ground.client, name, [1000])
    image = stored(ground.kind, ground.client, name)
    ground.publish(registry.address, password=PASSWORD)
    record = ground.push(name)
    check_succeeded(record)
    expected = image.id if ground.kind.stores_manifests else ""
    check_content(registry, REPOSITORY, TAG, record, image, expected)
    check_skopeo_pulls(name, record, login=f"{USER}:{PASSWORD}")
    login = {"username": USER, "password": PASSWORD}
    check_engine_pulls(ground.client, image, name, record, login=login)


def wrong_login(ground: Ground) -> None:
    record = _refused(ground, WRONG)
    check_failed(record, "denied")
    expect(WRONG not in record.to_json(), "the record holds the password")


def missing_login(ground: Ground) -> None:
    check_failed(_refused(ground, ""), "denied")


def _refused(ground: Ground, password: str) -> JobRecord:
    registry = ground.registry(users={USER: PASSWORD})
    make_image(ground.client, target(registry))
    ground.publish(registry.address, password=password)
    return ground.push(target(registry))


def check_wrong_login(ground: Ground) -> None:
    registry = ground.registry(users={USER: PASSWORD})
    component = ground.publish(registry.address, password=WRONG)
    words = ["registry", "check", component]
    done = ground.site.run(*words, timeout=COMMAND_S, LAB_WRONG=WRONG)
    expect(done.returncode == 1, f"status {done.returncode}: {done.stdout}{done.stderr}")
    component = ground.publish(registry.address, password=PASSWORD)
    words = ["registry", "check", component]
    right = ground.site.run(*words, timeout=COMMAND_S, LAB_PASSWORD=PASSWORD)
    expect(right.returncode == 0, f"the right login: {right.stdout}{right.stderr}")


def missing_image(ground: Ground) -> None:
    registry = ground.registry()
    ground.publish(registry.address)
    check_failed(ground.push(target(registry)), "image_not_found")


def registry_killed(ground: Ground, *, via: str) -> None:
    registry, job_id = _mid_push(ground, via)
    registry.kill9()
    registry.start()
    _check_recovered(ground, registry, job_id)


def engine_killed(ground: Ground, *, via: str) -> None:
    registry, job_id = _mid_push(ground, via)
    ground.engine.kill9()
    ground.engine.start()
    _check_recovered(ground, registry, job_id)


def cancelled(ground: Ground, *, via: str) -> None:
    registry, job_id = _mid_push(ground, via, SLOW_RATE)
    done = ground.site.run("cancel", job_id, timeout=COMMAND_S)
    expect(done.returncode == 0, f"transship cancel: {done.stderr.strip()[-300:]}")
    record = ground.ended(job_id)
    expect(record.state is State.CANCELLED, f"the job {record.state}, not cancelled")
    expect(registry.digest(REPOSITORY, TAG) is None, "the tag was written")
    # The engine is free for the next one, past the slow connection.
    other = ground.registry()
    make_image(ground.client, target(other))
    ground.publish(other.address)
    check_succeeded(ground.push(target(other), "--via", via))
    expect(registry.digest(REPOSITORY, TAG) is None, "the tag was written later")


def _mid_push(ground: Ground, via: str, rate: float = RATE) -> tuple[Registry, str]:
    """A push over a slow connection, of which a part has arrived."""
    registry = ground.registry()
    proxy = ground.slow(registry, rate)
    name = target(registry, proxy.address)
    make_image(ground.client, name, layers=[os.urandom(size) for size in LAYERS])
    ground.publish(proxy.address)
    job_id = ground.submit(name, "--via", via)
    ground.uploading(registry, REPOSITORY)
    expect(ground.record(job_id).state is State.RUNNING, "the push was over too early")
    return registry, job_id


def _check_recovered(ground: Ground, registry: Registry, job_id: str) -> None:
    name = f"{ground.uri}/{REPOSITORY}:{TAG}"
    image = stored(ground.kind, ground.client, name)
    record = ground.ended(job_id)
    check_succeeded(record, attempts=None)
    expected = image.id if ground.kind.stores_manifests else ""
    check_content(registry, REPOSITORY, TAG, record, image, expected)
    check_skopeo_pulls(name, record)
    check_engine_pulls(ground.client, image, name, record)
