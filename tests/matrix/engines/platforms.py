"""Cases of images with several platforms, of which an engine holds some or all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.matrix.engines.checks import (
    check_failed,
    check_succeeded,
    expect,
    stored,
)
from tests.matrix.engines.ground import Ground, Skipped
from tests.matrix.engines.transfers import check_arrived, target
from tests.support.engines import images
from tests.support.engines.images import PLATFORMS
from tests.support.servers.registry import Registry
from transship import JobRecord, State


def complete(ground: Ground, *, via: str) -> None:
    _require_indexes(ground)
    registry = ground.registry()
    _pull(ground, registry, PLATFORMS)
    image = stored(ground.kind, ground.client, target(registry))
    ground.publish(registry.address)
    record = ground.push(target(registry), "--via", via)
    check_succeeded(record)
    check_arrived(ground, registry, record, image, expected=image.id)


def partly(ground: Ground, *, via: str, held: int) -> None:
    """The engine decides: one manifest with a warning, or a refusal for good."""
    if held > 1:
        _require_indexes(ground)
    registry = ground.registry()
    digests = _pull(ground, registry, PLATFORMS[:held])
    image = stored(ground.kind, ground.client, target(registry))
    ground.publish(registry.address)
    record = ground.push(target(registry), "--via", via)
    if not ground.kind.stores_manifests:
        check_succeeded(record)
        check_arrived(ground, registry, record, image)
        return
    if record.state is not State.SUCCEEDED:
        _check_refused(ground, record)
        return
    check_succeeded(record)
    chosen = PLATFORMS[0]
    said = " ".join(record.warnings)
    for word in [digests[""], digests[chosen], *PLATFORMS[held:]]:
        expect(word in said, f"no warning names {word}: {record.warnings}")
    check_arrived(ground, registry, record, image, expected=digests[chosen], platform=chosen)


def foreign(ground: Ground) -> None:
    """Only a platform of another machine is held."""
    _require_indexes(ground)
    registry = ground.registry()
    digests = _pull(ground, registry, PLATFORMS[1:2])
    image = stored(ground.kind, ground.client, target(registry))
    ground.publish(registry.address)
    record = ground.push(target(registry))
    if record.state is not State.SUCCEEDED:
        _check_refused(ground, record)
        return
    check_succeeded(record)
    chosen = PLATFORMS[1]
    expect(digests[chosen] in " ".join(record.warnings), f"warnings: {record.warnings}")
    check_arrived(ground, registry, record, image, expected=digests[chosen], platform=chosen)


def required(ground: Ground) -> None:
    _require_indexes(ground)
    registry = ground.registry()
    _pull(ground, registry, PLATFORMS[:1])
    ground.publish(registry.address)
    record = ground.push(target(registry), "--require-all-platforms")
    expect(record.state is State.FAILED, f"the job {record.state}, not failed")
    assert record.error is not None
    check_failed(record, record.error.code)


def one_platform(ground: Ground) -> None:
    """One platform of a complete index, as ``docker push --platform`` sends it."""
    _require_indexes(ground)
    registry = ground.registry()
    digests = _pull(ground, registry, PLATFORMS)
    image = stored(ground.kind, ground.client, target(registry))
    ground.publish(registry.address)
    record = ground.push(target(registry), "--platform", PLATFORMS[1])
    if record.state is not State.SUCCEEDED and ground.kind.name.startswith("docker-26"):
        # Pushing one platform needs API 1.46 (Docker 27).
        assert record.error is not None
        check_failed(record, record.error.code, words="1.46")
        ground.notes.append("refused at once: it needs API 1.46 (Docker 27)")
        return
    check_succeeded(record)
    wanted = digests[PLATFORMS[1]]
    check_arrived(ground, registry, record, image, expected=wanted, platform=PLATFORMS[1])


def missing_platform(ground: Ground) -> None:
    _require_indexes(ground)
    registry = ground.registry()
    _pull(ground, registry, PLATFORMS)
    ground.publish(registry.address)
    record = ground.push(target(registry), "--platform", "linux/s390x")
    expect(record.state is State.FAILED, f"the job {record.state}, not failed")
    assert record.error is not None
    check_failed(record, record.error.code)


def _check_refused(ground: Ground, record: JobRecord) -> None:
    assert record.error is not None
    check_failed(record, record.error.code, words="--platform")
    ground.notes.append("the engine refuses a partly pulled index: the job fails at once")


def _require_indexes(ground: Ground) -> None:
    if not ground.kind.stores_manifests:
        raise Skipped("this store holds one platform of an index")


def _pull(ground: Ground, registry: Registry, platforms: Sequence[str]) -> Mapping[str, str]:
    """Pull some platforms of an index, and name it as the target; the digests of the index."""
    source = ground.registry()
    digests = images.publish_index(source, "base/image", "1")
    origin = f"{source.address}/base/image:1"
    for platform in platforms:
        images.pull(ground.client, origin, platform=platform)
    repository, _, tag = target(registry).rpartition(":")
    ground.client.api.tag(origin, repository, tag)
    return digests
