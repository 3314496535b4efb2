"""Slots, engines, doorbells: who gets which job, and what a bell can and cannot do."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest

from tests.support.images.engine_images import make_image
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site, reaches
from transship import Push, State, UsageError
from transship.ledger.notifications import Bell, Doorbell
from transship.model.jobs import JobId
from transship_config.lanes import queue_name
from transship_config.settings import Settings
from transship_worker.jobs.claims import Claims

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]


@pytest.fixture
def hung(plain_registry: Registry) -> Iterator[TcpProxy]:
    """A link to the plain registry on which nothing moves: bulk work that takes for ever."""
    with TcpProxy(plain_registry.port) as proxy:
        proxy.hang()
        yield proxy
        proxy.resume()


@pytest.fixture
def doorbell(site: Site) -> Iterator[Doorbell]:
    settings = Settings.from_environment(site.environment)
    bell = Doorbell(settings, settings.url.get_secret_value())
    yield bell
    bell.close()


def lab(site: Site, address: str) -> dict[str, str]:
    return {"flavor": "default", "uri": address}


def test_an_interactive_push_starts_at_once_while_bulk_work_fills_its_slots(
    site: Site, hung: TcpProxy, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    plain = plain_registry.address
    site.write_catalog({"slow": lab(site, hung.address), "lab": lab(site, plain)})
    site.start_worker("--pushes", "1", "--bulk", "2")
    names = [f"{hung.address}/ml/bulk-{n}:1" for n in range(12)]
    make_image(docker_client, *names, f"{plain}/ml/now:1")
    bulk = site.client.push_many(Push(name, registry="slow", bulk=True) for name in names)
    eventually(lambda: len(site.client.jobs(state=State.RUNNING)) == 2)

    record = site.client.push(f"{plain}/ml/now:1", registry="lab").wait(30)

    assert record.started_at is not None
    assert (record.started_at - record.created_at).total_seconds() < 1
    assert len(site.client.jobs(state=State.RUNNING)) == 2
    assert len(site.client.jobs(state=State.QUEUED)) == 10
    for job in bulk:
        job.cancel()


def test_a_worker_without_bulk_slots_leaves_bulk_work_alone(
    site: Site, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    plain = plain_registry.address
    site.write_catalog({"lab": lab(site, plain)})
    site.start_worker("--bulk", "0")
    make_image(docker_client, f"{plain}/ml/b:1", f"{plain}/ml/i:1")
    bulk = site.client.push(f"{plain}/ml/b:1", registry="lab", bulk=True)

    site.client.push(f"{plain}/ml/i:1", registry="lab").wait(30)

    assert bulk.record().state is State.QUEUED
    site.start_worker("--bulk", "1")
    bulk.wait(30)


def test_jobs_go_to_the_engine_that_has_the_image(
    site: Site, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    plain = plain_registry.address
    site.write_catalog({"lab": lab(site, plain)})
    with DockerDaemon() as other:
        client = other.client()
        make_image(client, f"{plain}/ml/gpu:1")
        client.close()
        site.start_worker("--engine-name", "build-7")
        site.start_worker("--engine-name", "gpu-2", DOCKER_HOST=other.url)

        with pytest.raises(UsageError, match=r"several engines: build-7, gpu-2; .* --engine"):
            site.client.push(f"{plain}/ml/gpu:1", registry="lab")
        with pytest.raises(UsageError, match="no live worker pushes from engine 'gpu-3'"):
            site.client.push(f"{plain}/ml/gpu:1", registry="lab", engine="gpu-3")
        there = site.client.push(f"{plain}/ml/gpu:1", registry="lab", engine="gpu-2").wait(30)
        elsewhere = site.client.push(f"{plain}/ml/gpu:1", registry="lab", engine="build-7")

        record = reaches(elsewhere, State.FAILED)
        assert there.engine == "gpu-2"
        assert record.error is not None
        assert record.error.message == (
            f"image {plain}/ml/gpu:1 is not in engine build-7; engines with workers: "
            "build-7, gpu-2; choose one with --engine"
        )


def test_a_worker_claims_only_jobs_whose_component_it_knows(
    site: Site, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    plain = plain_registry.address
    site.write_catalog({"lab": lab(site, plain)})
    other = site.folder / "other.yaml"
    other.write_text("registries: {}\n")
    other.chmod(0o600)
    make_image(docker_client, f"{plain}/ml/known:1")
    ignorant = site.start_worker("--catalog", str(other))
    knowing = site.start_worker()

    jobs = site.client.push_many(
        Push(f"{plain}/ml/known:1", registry="lab", labels={"n": str(n)}) for n in range(4)
    )

    assert {j.wait(60).worker for j in jobs} == {knowing.name}
    assert ignorant.running


def test_a_repeated_bell_does_nothing(
    site: Site,
    plain_registry: Registry,
    docker_client: docker.DockerClient,
    doorbell: Doorbell,
) -> None:
    plain = plain_registry.address
    site.write_catalog({"lab": lab(site, plain)})
    worker = site.start_worker()
    make_image(docker_client, f"{plain}/ml/bell:1")
    job = site.client.push(f"{plain}/ml/bell:1", registry="lab")
    before = job.wait(30)

    doorbell.ring([Bell(job.id, queue_name(bulk=False, engine=None), "again", again=True)] * 5)
    site.client.push(f"{plain}/ml/bell:1", registry="lab").wait(30)

    assert job.record() == before
    assert worker.running


@pytest.mark.parametrize("job", ["", "not-a-job", "../../etc/passwd", "0" * 20, "0" * 20 + "-x"])
def test_a_forged_bell_is_refused_and_counted(
    site: Site,
    plain_registry: Registry,
    docker_client: docker.DockerClient,
    doorbell: Doorbell,
    job: str,
) -> None:
    plain = plain_registry.address
    site.write_catalog({"lab": lab(site, plain)})
    worker = site.start_worker()

    bell = Bell(JobId(job), queue_name(bulk=False, engine=None), "\x1b[31mforged")
    doorbell.ring([bell])

    ledger = site.client._redis
    refused = eventually(lambda: ledger.hgetall(site.keys.refused))
    assert sum(map(int, refused.values())) == 1
    assert site.client.jobs() == []
    assert worker.running


def test_a_forged_request_is_validated_by_the_worker_and_fails(
    site: Site, plain_registry: Registry, doorbell: Doorbell
) -> None:
    site.write_catalog({"lab": lab(site, plain_registry.address)})
    site.start_worker()
    job = JobId.new()
    site.client._redis.set(
        site.keys.request(job),
        '{"version":1,"image":"x:1","registry":"lab","flavor":"os.system"}',
    )

    doorbell.ring([Bell(job, queue_name(bulk=False, engine=None), "forged")])

    record = reaches(site.client.job(job), State.FAILED)
    assert record.error is not None
    assert record.error.code == "invalid_request"
    assert "flavor" in record.error.message


def test_a_job_whose_bell_was_lost_is_rung_again(
    site: Site, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    plain = plain_registry.address
    site.write_catalog({"lab": lab(site, plain)})
    make_image(docker_client, f"{plain}/ml/lost:1")
    job = site.client.push(f"{plain}/ml/lost:1", registry="lab")
    redis = site.client._redis
    assert redis.delete(site.keys.queue(queue_name(bulk=False, engine=None))) == 1
    # As if the ten seconds until the first ring were over.
    redis.zadd(site.keys.due("default", queue_name(bulk=False, engine=None)), {job.id: 1})

    site.start_worker()

    assert job.wait(30).attempts == 1


def test_many_jobs_that_rightly_wait_are_not_rung_again(
    site: Site, hung: TcpProxy, docker_client: docker.DockerClient
) -> None:
    site.write_catalog({"slow": lab(site, hung.address)})
    name = f"{hung.address}/ml/wait:1"
    make_image(docker_client, name)
    requests = [
        Push(f"{hung.address}/ml/wait-{n}:1", registry="slow", bulk=True) for n in range(2_000)
    ]
    make_image(docker_client, requests[0].image)
    jobs = site.client.push_many(requests)
    redis = site.client._redis
    queue = queue_name(bulk=True, engine=None)
    redis.zadd(site.keys.due("default", queue), {job.id: 1 for job in jobs})

    site.start_worker("--bulk", "1")
    eventually(lambda: redis.get(site.keys.reaper))
    eventually(lambda: len(site.client.jobs(state=State.RUNNING)) == 1)
    # One hangs at its registry and holds the only slot: each of the others has its bell.
    settings = Settings.from_environment(site.environment)
    swept = Claims(redis, site.keys, settings, "another-worker").sweep()

    assert swept.ring == []
    assert redis.llen(site.keys.queue(queue)) == len(jobs) - 1
