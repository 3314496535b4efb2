"""A fleet with the Redis accounts that are shipped."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from tests.support.images.corpus import KIB, shared_layers
from tests.support.images.corpus_fill import fill
from tests.support.images.engine_images import make_image
from tests.support.servers.redis_accounts import OTHER, GuardedRedis
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from transship import Client, State
from transship_config.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]


@pytest.mark.parametrize("bulk", [False, True], ids=["interactive", "bulk"])
def test_a_narrow_producer_and_a_narrow_worker_bring_an_image_to_its_registry(
    tmp_path: Path,
    docker_url: str,
    docker_client: docker.DockerClient,
    plain_registry: Registry,
    bulk: bool,
) -> None:
    image = f"{plain_registry.address}/ml/accounts:{bulk}".lower()
    make_image(docker_client, image)
    server = GuardedRedis()
    site = Site(tmp_path, server.url_of("worker"), docker_url)
    server.namespace = site.namespace
    with server, server.refusing_nothing():
        site.write_catalog({"lab": {"flavor": "default", "uri": plain_registry.address}})
        try:
            site.start_worker()
            with Client(settings=_settings(site, server, "producer")) as client:
                record = client.push(image, registry="lab", bulk=bulk).wait(60)
        finally:
            site.close()

    assert record.digest == plain_registry.digest("ml/accounts", str(bulk).lower())
    assert record.submitted_by == "producer"


def _settings(site: Site, server: GuardedRedis, account: str) -> Settings:
    return Settings.from_environment(site.environment | {"TRANSSHIP_URL": server.url_of(account)})


def test_a_narrow_producer_has_images_migrated_and_reports_them(
    tmp_path: Path, docker_url: str
) -> None:
    corpus = shared_layers(2, 2, shared=1, shared_size=4 * KIB, own_size=4 * KIB, seed="accounts")
    server = GuardedRedis()
    site = Site(tmp_path, server.url_of("worker"), docker_url)
    server.namespace = site.namespace
    with server, server.refusing_nothing(), Registry() as source, Registry() as target:
        fill(source.base, corpus)
        site.write_catalog(
            {
                "old": {"flavor": "default", "uri": source.address},
                "new": {"flavor": "default", "uri": target.address},
            }
        )
        names = sorted({image.repository for image in corpus.images})
        rule = {"from": {"registry": "old", "repositories": names}, "to": {"registry": "new"}}
        spec = {"version": 1, "name": "narrow", "rules": [rule]}
        try:
            site.start_worker("--no-engine")
            # An account that was added as the file says.
            with Client(settings=_settings(site, server, OTHER)) as client:
                rows = list(client.plan(spec).rows())
                migration = client.migrate(rows)
                record = migration.wait(60)
                report = migration.report()
        finally:
            site.close()

        assert [target.digest(i.repository, i.tag) for i in corpus.images] == [
            image.digest for image in corpus.images
        ]
    assert (record.name, record.submitted_by, record.images.succeeded) == ("narrow", "ci", 4)
    assert {image.state for image in report.images} == {State.SUCCEEDED}
    assert all(image.job.endswith("-ci") for image in report.images)
