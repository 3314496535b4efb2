"""What a chaos run looks at: each check can fail."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos import checks, leftovers
from tests.chaos.checks import Target
from tests.chaos.crew import Crew
from tests.chaos.load import Ask, Asked
from tests.support.fleet.upload_leases import new_keys
from tests.support.images.corpus import KIB, Image, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.processes import eventually
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from transship.ledger.keys import Keys

CORPUS = shared_layers(1, 2, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="chaos")
IMAGE = CORPUS.images[0]


@pytest.fixture
def filled() -> Iterator[Registry]:
    """A registry with two images."""
    with Registry() as registry:
        fill(registry.base, CORPUS)
        yield registry


def asked_for(*images: Image) -> Asked:
    """The wishes that would have brought these images."""
    asks = {image.name: Ask(image.name, image.digest, "") for image in images}
    return Asked(jobs=asks)


@pytest.mark.registry
def test_tags_that_were_asked_for_are_well(filled: Registry) -> None:
    target = Target(filled)

    assert set(target.tags) == {image.name for image in CORPUS.images}
    assert checks.of_tags(target, {}, asked_for(*CORPUS.images)) == []
    assert target.missing(IMAGE.name, IMAGE.digest) == []


@pytest.mark.registry
def test_a_tag_that_nobody_asked_for_is_told_of(filled: Registry) -> None:
    broken = checks.of_tags(Target(filled), {}, asked_for(IMAGE))

    other = CORPUS.images[1]
    assert broken == [f"{other.name} is {other.digest}, which nobody asked for"]


@pytest.mark.registry
def test_a_blob_that_is_not_there_is_told_of(filled: Registry) -> None:
    digest = IMAGE.layers[-1].digest.removeprefix("sha256:")
    shutil.rmtree(filled.data / "docker/registry/v2/blobs/sha256" / digest[:2] / digest)

    (wrong,) = Target(filled).missing(IMAGE.name, IMAGE.digest)

    assert wrong.startswith(f"blob sha256:{digest}: 404")


@pytest.mark.redis
@pytest.mark.parametrize(
    "left", ["leases", "due:push.*", "copy:somebody", "permits:registry:-", "unknown"]
)
def test_what_is_left_in_redis_is_told_of(redis_server: RedisServer, left: str) -> None:
    keys: Keys = new_keys()
    with redis_server.client() as client:
        client.zadd(f"{keys.prefix}{left}", {"somebody": 1})
        client.set(f"{keys.prefix}job:1", "is kept")
        client.set(f"{keys.prefix}reaper", "somebody", ex=60)
        client.set(f"{keys.prefix}lead:registry:sha256:1", "somebody dead", ex=60)

        (found,) = leftovers.in_redis(keys, redis_server.url, within=0)

    assert found.startswith(f"{left} ")


@pytest.mark.redis
def test_tokens_that_nobody_uses_are_told_of(redis_server: RedisServer) -> None:
    keys: Keys = new_keys()
    with redis_server.client() as client:
        for login, drawn in (("used", 1), ("unused", 2**52)):
            key = keys.rate("registry", login)
            client.hset(key, "requests", str(drawn))
            client.expire(key, 60)

        (found,) = leftovers.in_redis(keys, redis_server.url, within=0)

    assert found.startswith("rate:registry:unused ")


@pytest.mark.redis
@pytest.mark.engine
def test_a_worker_that_ends_by_itself_is_told_of_and_replaced(
    tmp_path: Path, redis_url: str, docker_url: str
) -> None:
    site = Site(tmp_path, redis_url, docker_url)
    try:
        with Crew(site, 1, lambda _: None) as crew:
            (hand,) = crew.hands
            eventually(lambda: hand.begun)
            hand.strike(signal.SIGKILL)
            eventually(lambda: len(hand.names) == 2 and hand.begun)
            assert crew.broken == []

            os.kill(hand.pid, signal.SIGKILL)
            eventually(lambda: len(hand.names) == 3 and hand.begun)

            (broken,) = crew.broken
            assert "ended with status -9 after no signal" in broken
    finally:
        site.close()
