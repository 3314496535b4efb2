"""Migrations into a second implementation: strict, awkward where that is allowed, and watchful."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images.corpus import KIB, Corpus, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.registry import Registry
from tests.support.servers.token_server import TokenServer
from tests.support.strict_registry.registry import Rules, StrictRegistry, TokenRules
from tests.support.workers.copy_site import CopySite, component, counted, rule, spec
from transship.model.jobs import State
from transship_config.lanes import BULK_COPY_QUEUE

pytestmark = [pytest.mark.redis, pytest.mark.registry]

USER, PASSWORD = "mover", "open sesame, please"
LOGIN = {"username": USER, "password": PASSWORD}

#: Mounts only what a manifest references, as Amazon ECR does.
LIKE_ECR = """
from typing import ClassVar

from transship_worker import BaseContainerRegistry


class LikeEcr(BaseContainerRegistry):
    FLAVOR: ClassVar[str] = "like-ecr"
    MOUNTS_NEED_MANIFEST: ClassVar[bool] = True
"""


@pytest.fixture
def site(tmp_path: Path, redis_url: str) -> Iterator[CopySite]:
    site = CopySite(tmp_path, redis_url)
    yield site
    site.close()


def small(repositories: int, tags: int, seed: str, *, shared: int = 2) -> Corpus:
    """Images of a few blobs."""
    return shared_layers(
        repositories, tags, shared=shared, shared_size=16 * KIB, own_size=4 * KIB, seed=seed
    )


def missing(corpus: Corpus, target: Registry | StrictRegistry) -> list[str]:
    """Images whose tag at the target is not the source's image, or which lack a blob there."""
    return [
        image.name
        for image in corpus.images
        if target.digest(image.repository, image.tag) != image.digest
        or any(
            len(target.blob(image.repository, layer.digest)) != layer.size for layer in image.layers
        )
    ]


def test_a_strict_registry_that_refuses_some_requests_gets_all_and_costs_no_attempt(
    site: CopySite, plain_registry: Registry
) -> None:
    corpus = small(4, 3, "pauses")
    fill(plain_registry.base, corpus)
    rules = Rules(mounts=False, redirect=True, chunks=False, lengths=True, throttle_every=40)
    with StrictRegistry(rules) as target:
        site.write_catalog(
            {"old": component(plain_registry.address), "new": component(target.address)}
        )
        site.start_copier()

        wanted = rule("old", "new", *corpus.repositories)
        migration = site.client.migrate(spec(wanted))
        record = migration.wait(timeout=90)

        assert missing(corpus, target) == []
        assert counted(record.images) == {"planned": 12, "succeeded": 12}
        assert target.counts.throttled > 0
        jobs = list(migration.jobs())
        # Requests waited, and no job went back to the queue.
        ids = [migration.id, *(job.id for job in jobs)]
        assert [one for name in ids for one in site.pauses(name)] == []
        assert {job.attempts for job in jobs} == {1}
        assert site.client.job(migration.id).record().attempts == 1
        # Nothing is mounted there, so each repository gets each blob, and gets it once.
        expected = dict.fromkeys(corpus.blobs, 0)
        for name in corpus.repositories:
            for digest in Corpus(name, tuple(corpus.of(name))).blobs:
                expected[digest] += corpus.blobs[digest]
        # Of an upload that was refused, a part had come.
        more = {name: size - expected[name] for name, size in target.counts.uploaded.items()}
        assert more.keys() == expected.keys()
        assert min(more.values()) >= 0
        refused = [name for name, size in more.items() if size]
        assert len(refused) <= target.counts.throttled
        assert all(more[name] <= target.counts.throttled * expected[name] for name in refused)
        assert record.bytes.settled == record.bytes.planned


def test_a_job_that_waits_for_its_registry_says_so_and_what_it_sent_counts_as_sent(
    site: CopySite, plain_registry: Registry
) -> None:
    corpus = small(1, 1, "waits")
    fill(plain_registry.base, corpus)
    # All blobs are there when the manifest is put off.
    with StrictRegistry(Rules(throttle_manifests=1, retry_after_s=600)) as target:
        site.write_catalog(
            {"old": component(plain_registry.address), "new": component(target.address)}
        )
        site.start_copier()

        migration = site.client.migrate(spec(rule("old", "new", *corpus.repositories)))
        eventually(lambda: migration.record().images.retrying == 1)
        (waiting,) = migration.jobs()
        redis = site.client._redis

        def done() -> bool:
            """Lift the pause by hand, also for a worker that looked at it just before."""
            if migration.record().images.retrying:
                redis.delete(site.keys.pause(target.address, "-"))
                redis.hset(site.keys.job(waiting.id), "next_at", "1")
                redis.zadd(site.keys.waiting(BULK_COPY_QUEUE), {waiting.id: 1})
            return migration.record().images.succeeded == 1

        eventually(done, what="a copy that went on")
        record = migration.wait(timeout=60)

        assert waiting.state is State.RETRYING
        assert waiting.error is not None
        assert (waiting.error.code, waiting.error.retryable) == ("registry_paused", True)
        assert waiting.next_attempt_at is not None
        (job,) = migration.jobs()
        assert job.attempts == 1
        assert site.pauses(job.id)
        assert missing(corpus, target) == []
        sizes = record.bytes
        assert (sizes.moved, sizes.mounted, sizes.present) == (corpus.unique_bytes, 0, 0)
        assert target.counts.received == corpus.unique_bytes


def test_where_mounts_need_a_manifest_two_workers_send_each_shared_blob_once(
    site: CopySite, plain_registry: Registry
) -> None:
    corpus = small(8, 3, "ecr", shared=5)
    fill(plain_registry.base, corpus)
    (site.folder / "like_ecr.py").write_text(LIKE_ECR)
    with StrictRegistry(Rules(mounts_need_manifest=True, chunks=False)) as target:
        site.write_catalog(
            {
                "old": component(plain_registry.address),
                "new": component(target.address, flavor="like-ecr"),
            },
            flavors=["like_ecr.LikeEcr"],
            flavor_paths=[str(site.folder)],
        )
        for _ in range(2):
            # With the usual slots one of them could take all there is.
            site.start_copier(TRANSSHIP_COPIES="2")

        migration = site.client.migrate(spec(rule("old", "new", *corpus.repositories)))
        record = migration.wait(timeout=90)

        assert missing(corpus, target) == []
        assert counted(record.images) == {"planned": 24, "succeeded": 24}
        assert dict(target.counts.uploaded) == corpus.blobs
        assert target.counts.received == record.bytes.moved == corpus.unique_bytes
        # Asked for too early, a mount is answered with an upload.
        assert target.counts.refused_mounts == 0
        assert {job.worker for job in migration.jobs()} == {one.name for one in site.workers}


def test_tokens_that_die_after_a_few_requests_are_renewed_on_both_sides(site: CopySite) -> None:
    corpus = small(2, 12, "tokens")
    with StrictRegistry() as source, StrictRegistry() as target:
        fill(source.base, corpus)
        # They claim to live on: only the refusal tells. One copy at a time asks for less at once
        # than a token is good for, so a fresh one is never spent by others.
        tokens = TokenRules(users={USER: PASSWORD}, requests=12)
        source.rules = Rules(redirect=True, tokens=tokens)
        target.rules = Rules(tokens=tokens)
        site.write_catalog(
            {
                "old": component(source.address, **LOGIN),
                "new": component(target.address, **LOGIN),
            }
        )
        site.start_copier(TRANSSHIP_COPIES="1")

        migration = site.client.migrate(spec(rule("old", "new")))
        record = migration.wait(timeout=90)

        assert missing(corpus, target) == []
        assert counted(record.images) == {"planned": 24, "succeeded": 24}
        assert {job.attempts for job in migration.jobs()} == {1}
        assert dict(target.counts.uploaded) == corpus.blobs
        # Three would do on each side if they did not die.
        assert min(source.counts.tokens, target.counts.tokens) > 5
        # An upload that was refused in its middle reads its blob once more.
        assert source.counts.requests["GET", "storage"] >= len(corpus.blobs)


@pytest.mark.parametrize("claimed_s", [None, 300], ids=["honest", "claims to live on"])
def test_tokens_of_a_real_registry_die_while_a_layer_travels(
    site: CopySite, plain_registry: Registry, tmp_path: Path, claimed_s: float | None
) -> None:
    corpus = shared_layers(
        1, 1, shared=1, shared_size=512 * KIB, own_size=512 * KIB, seed=f"dying{claimed_s or 0}"
    )
    (image,) = corpus.images
    fill(plain_registry.base, corpus)
    with (
        TokenServer(tmp_path, {USER: PASSWORD}, lifetime_s=1) as tokens,
        Registry(tokens=tokens) as target,
    ):
        tokens.claimed_s = claimed_s
        way = TcpProxy(target.port)
        # The blobs take longer than a token lives.
        way.rate = 384 * KIB
        site.write_catalog(
            {
                "old": component(plain_registry.address),
                "new": component(way.address, auth_realms=[tokens.realm.split("/")[2]], **LOGIN),
            }
        )
        site.start_copier()

        source, goal = (f"{side.address}/{image.name}" for side in (plain_registry, way))
        record = site.client.copy(source, goal).wait(60)
        way.close()

        assert (record.state, record.attempts) == (State.SUCCEEDED, 1)
        assert record.digest == image.digest == target.digest(image.repository, image.tag)
        assert record.progress.bytes_moved == corpus.unique_bytes
        assert sum("push" in scope for _, scope in tokens.requests) > 1
