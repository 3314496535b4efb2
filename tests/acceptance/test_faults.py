"""What dies, hangs or is told to stop while a push runs, and what becomes of the job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.support.images.engine_images import make_image
from tests.support.processes import eventually
from tests.support.proxies.tcp import TcpProxy
from tests.support.servers.dockerd import DockerDaemon
from tests.support.servers.redis import RedisServer
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site, moves, reaches
from transship import Client, Job, JobFailed, State
from transship_config.settings import Settings

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]

#: Slow enough that a push of this size is still under way when something happens to it.
SLOW, SIZE = 400_000, 2_000_000


@pytest.fixture
def link(plain_registry: Registry) -> Iterator[TcpProxy]:
    """A slow link to the plain registry."""
    with TcpProxy(plain_registry.port) as proxy:
        proxy.rate = SLOW
        yield proxy


@pytest.fixture
def lab(site: Site, link: TcpProxy) -> str:
    """The component ``lab``, behind the slow link."""
    site.write_catalog({"lab": {"flavor": "default", "uri": link.address}})
    return link.address


def begun(site: Site, client: docker.DockerClient, image: str) -> Job:
    """Push a new image; return once some bytes are sent."""
    make_image(client, image, layers=[SIZE])
    job = site.client.push(image, registry="lab")
    moves(job)
    return job


def accepted_finishes(site: Site, job: str) -> int:
    """How often a job became final, by its own history."""
    return sum(
        e.kind == "state" and e.state.final for e in site.client.job(job).events(progress=False)
    )


def test_cancel_while_queued_is_immediate(site: Site, lab: str) -> None:
    job = site.client.push(f"{lab}/ml/queued:1", registry="lab")

    record = job.cancel()

    assert record.state is State.CANCELLED
    with pytest.raises(JobFailed):
        job.wait(5)


def test_cancel_while_pushing_stops_the_upload(
    site: Site, lab: str, docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    site.start_worker()
    job = begun(site, docker_client, f"{lab}/ml/cancel:1")

    job.cancel()

    record = reaches(job, State.CANCELLED, within=10)
    assert record.error is not None
    assert record.error.code == "cancelled"
    assert plain_registry.digest("ml/cancel", "1") is None


def test_cancel_on_a_stalled_stream_is_heard(
    site: Site, lab: str, link: TcpProxy, docker_client: docker.DockerClient
) -> None:
    site.start_worker()
    job = begun(site, docker_client, f"{lab}/ml/stalled:1")
    link.hang()

    job.cancel()

    reaches(job, State.CANCELLED, within=10)


def test_a_push_without_progress_is_given_up_and_tried_again(
    site: Site, lab: str, link: TcpProxy, docker_client: docker.DockerClient
) -> None:
    site.start_worker(TRANSSHIP_STALL="2")
    job = begun(site, docker_client, f"{lab}/ml/hang:1")
    link.hang()

    record = reaches(job, State.RETRYING, within=15)
    assert record.error is not None
    assert record.error.code == "stalled"
    link.rate = None
    link.resume()

    assert job.wait(60).attempts >= 2


def test_a_deadline_ends_a_push(
    site: Site, lab: str, link: TcpProxy, docker_client: docker.DockerClient
) -> None:
    site.start_worker()
    make_image(docker_client, f"{lab}/ml/late:1", layers=[SIZE])
    link.rate = 50_000
    job = site.client.push(f"{lab}/ml/late:1", registry="lab", deadline=2)

    record = reaches(job, State.FAILED, within=15)

    assert record.error is not None
    assert (record.error.code, record.error.retryable) == ("deadline_exceeded", False)


def test_a_tag_rebuilt_and_pushed_again_during_the_first_push_ends_at_the_second(
    site: Site, lab: str, docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    site.start_worker()
    name = f"{lab}/ml/rebuilt:1"
    first = begun(site, docker_client, name)
    make_image(docker_client, name, layers=[1000])

    second = site.client.push(name, registry="lab")

    assert not second.deduplicated
    one, two = first.wait(60), second.wait(60)
    assert one.digest != two.digest
    assert plain_registry.digest("ml/rebuilt", "1") == two.digest
    assert one.finished_at is not None
    assert two.started_at is not None
    assert two.started_at >= one.finished_at


def test_two_sources_for_one_target_each_report_their_own_digest(
    site: Site, lab: str, docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    site.start_worker()
    make_image(docker_client, "one:1", layers=[1000])
    make_image(docker_client, "two:1", layers=[1000])

    jobs = [
        site.client.push(f"{lab}/ml/sources:1", registry="lab", source=source)
        for source in ("one:1", "two:1", "one:1", "two:1")
    ]
    digests = [job.wait(60).digest for job in jobs]

    assert digests[0] != digests[1]
    assert plain_registry.digest("ml/sources", "1") == digests[3]
    assert {digests[1], digests[3]} == {digests[1]}


def test_a_worker_killed_mid_push_is_replaced_by_another(
    site: Site, lab: str, link: TcpProxy, docker_client: docker.DockerClient
) -> None:
    first = site.start_worker()
    job = begun(site, docker_client, f"{lab}/ml/killed:1")
    second = site.start_worker()

    first.kill9()
    link.rate = None

    record = job.wait(30)
    assert (record.attempts, record.worker) == (2, second.name)
    assert accepted_finishes(site, job.id) == 1


def test_a_frozen_worker_that_wakes_up_cannot_finish_a_job_it_lost(
    site: Site, lab: str, link: TcpProxy, docker_client: docker.DockerClient
) -> None:
    first = site.start_worker()
    job = begun(site, docker_client, f"{lab}/ml/frozen:1")
    second = site.start_worker()

    first.freeze()
    link.rate = None
    record = job.wait(30)
    first.thaw()

    assert record.worker == second.name
    eventually(lambda: "another worker" in first.log_text() or "lease ended" in first.log_text())
    assert job.record().worker == second.name
    assert accepted_finishes(site, job.id) == 1


def test_sigterm_mid_push_hands_the_job_back_within_the_grace(
    site: Site, lab: str, link: TcpProxy, docker_client: docker.DockerClient
) -> None:
    worker = site.start_worker()
    make_image(docker_client, f"{lab}/ml/drained:1", layers=[SIZE])
    link.rate = 50_000
    job = site.client.push(f"{lab}/ml/drained:1", registry="lab")
    moves(job)

    assert worker.end(signal.SIGTERM, within=15) == 0

    record = job.record()
    assert record.state is State.QUEUED
    assert site.client.fleet().workers == []
    link.rate = None
    site.start_worker()
    assert job.wait(30).attempts == 1


def test_sigterm_lets_a_push_that_is_nearly_done_finish(
    site: Site, lab: str, docker_client: docker.DockerClient
) -> None:
    worker = site.start_worker(TRANSSHIP_GRACE="30")
    job = begun(site, docker_client, f"{lab}/ml/graced:1")

    assert worker.end(signal.SIGTERM) == 0

    assert job.record().state is State.SUCCEEDED


def test_redis_restarted_mid_push_costs_nothing(
    tmp_path: Path, link: TcpProxy, docker_url: str, docker_client: docker.DockerClient
) -> None:
    with RedisServer() as redis_server:
        site = Site(tmp_path, redis_server.url, docker_url)
        try:
            site.write_catalog({"lab": {"flavor": "default", "uri": link.address}})
            worker = site.start_worker()
            job = begun(site, docker_client, f"{link.address}/ml/redis:1")
            redis_server.kill9()
            redis_server.start()

            client = Client(settings=Settings.from_environment(site.environment))
            record = client.job(job.id).wait(60)

            assert record.attempts == 1
            assert worker.running
            assert accepted_finishes(site, job.id) == 1
            make_image(docker_client, f"{link.address}/ml/redis:2")
            client.push(f"{link.address}/ml/redis:2", registry="lab").wait(60)
            client.close()
        finally:
            site.close()


def test_a_registry_that_dies_mid_push_and_comes_back_gets_the_image(
    site: Site, docker_client: docker.DockerClient
) -> None:
    with Registry() as registry, TcpProxy(registry.port) as link:
        link.rate = SLOW
        site.write_catalog({"lab": {"flavor": "default", "uri": link.address}})
        site.start_worker()
        job = begun(site, docker_client, f"{link.address}/ml/back:1")

        registry.kill9()
        link.rate = None
        registry.start()

        # The engine by itself tries again for up to 50 s; then the ledger does.
        assert job.wait(120).digest == registry.digest("ml/back", "1")


def test_a_daemon_killed_mid_push_is_waited_for(
    tmp_path: Path, redis_url: str, link: TcpProxy, plain_registry: Registry
) -> None:
    with DockerDaemon() as daemon:
        site = Site(tmp_path, redis_url, daemon.url)
        try:
            site.write_catalog({"lab": {"flavor": "default", "uri": link.address}})
            site.start_worker("--engine-name", "fragile")
            client = daemon.client()
            make_image(client, f"{link.address}/ml/daemon:1", layers=[SIZE])
            client.close()
            job = site.client.push(f"{link.address}/ml/daemon:1", registry="lab")
            moves(job)
            daemon.kill9()

            record = reaches(job, State.RETRYING, within=20)
            assert record.error is not None
            assert record.error.code == "engine_unavailable"
            link.rate = None
            daemon.start()

            assert job.wait(60).digest == plain_registry.digest("ml/daemon", "1")
        finally:
            site.close()


def test_sigterm_while_redis_hangs_ends_the_worker_all_the_same(
    tmp_path: Path, link: TcpProxy, docker_url: str, docker_client: docker.DockerClient
) -> None:
    with RedisServer() as redis_server:
        site = Site(tmp_path, redis_server.url, docker_url)
        try:
            site.write_catalog({"lab": {"flavor": "default", "uri": link.address}})
            worker = site.start_worker()
            make_image(docker_client, f"{link.address}/ml/hung:1", layers=[SIZE])
            link.rate = 20_000
            job = site.client.push(f"{link.address}/ml/hung:1", registry="lab")
            moves(job)
            redis_server.freeze()

            # 75 is EX_TEMPFAIL: it could not say goodbye.
            assert worker.end(signal.SIGTERM, within=40) in {0, 75}

            redis_server.thaw()
            link.rate = None
            site.start_worker()
            assert site.client.job(job.id).wait(60).attempts == 2
        finally:
            site.close()


def test_a_push_waits_while_the_fleet_leaves_its_registry_alone(
    site: Site, docker_client: docker.DockerClient, plain_registry: Registry
) -> None:
    site.write_catalog({"lab": {"flavor": "default", "uri": plain_registry.address}})
    name = f"{plain_registry.address}/ml/paused:1"
    make_image(docker_client, name)
    # What another worker writes when the registry answers 429.
    redis, key = site.client._redis, site.keys.pause(plain_registry.address, "-")
    until = int(redis.time()[0]) + 3600
    redis.set(key, f"{until * 1000} it answered 429", ex=3600)
    site.start_worker()

    job = site.client.push(name, registry="lab")

    record = reaches(job, State.RETRYING)
    assert record.error is not None
    assert record.error.code == "registry_paused"
    assert record.next_attempt_at is not None
    # Lifted by hand, and rung for: the job goes on, and no attempt was spent.
    redis.delete(key)
    redis.hset(site.keys.job(job.id), "next_at", "1")
    redis.zadd(site.keys.waiting(f"push.{record.engine}"), {job.id: 1})
    assert job.wait(60).attempts == 1
