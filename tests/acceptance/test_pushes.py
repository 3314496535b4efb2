"""A queued push reaches a real registry, or says why it cannot."""

from __future__ import annotations

import docker
import pytest

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.engine_images import make_image
from tests.support.processes import free_port
from tests.support.servers.registry import Registry
from tests.support.workers.process import Site
from transship import JobFailed, State, UsageError

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.registry]


@pytest.fixture
def plain(site: Site, plain_registry: Registry) -> str:
    """Address of a plain registry that a worker knows as ``lab``."""
    site.write_catalog({"lab": {"flavor": "default", "uri": plain_registry.address}})
    site.start_worker()
    return plain_registry.address


def test_a_push_arrives_and_its_digest_is_the_registrys(
    site: Site, plain: str, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    make_image(docker_client, f"{plain}/ml/train:1", layers=[50_000, 20_000])

    record = site.client.push(f"{plain}/ml/train:1", registry="lab").wait(60)

    assert record.state is State.SUCCEEDED
    assert record.digest == plain_registry.digest("ml/train", "1")
    assert record.skipped is False
    assert (record.flavor, record.attempts, record.engine) == (
        "default",
        1,
        docker_client.info()["Name"],
    )
    assert record.progress.layers_done == record.progress.layers_total == 2
    assert record.progress.bytes_done == record.progress.bytes_total > 0


def test_the_component_is_found_by_the_image_where_only_one_covers_it(
    site: Site, plain: str, docker_client: docker.DockerClient
) -> None:
    make_image(docker_client, f"{plain}/ml/found:1")

    assert site.client.push(f"{plain}/ml/found:1").wait(60).registry == "lab"


def test_a_local_image_is_tagged_and_pushed(
    site: Site, plain: str, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    image_id = make_image(docker_client, "train:42")

    record = site.client.push(f"{plain}/ml/train:42", registry="lab", source="train:42").wait(60)

    assert record.digest == plain_registry.digest("ml/train", "42")
    assert docker_client.images.get(f"{plain}/ml/train:42").id == image_id


def test_one_platform_is_pushed_if_the_image_has_it(
    site: Site, plain: str, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    make_image(docker_client, f"{plain}/ml/platform:1")
    words = ("push", f"{plain}/ml/platform:1", "--wait", "--platform")

    other = site.run(*words, "linux/arm64")
    assert (other.returncode, plain_registry.digest("ml/platform", "1")) == (1, None)
    assert "has no linux/arm64" in other.stderr
    assert "it has linux/amd64" in other.stderr

    own = site.run(*words, "linux/x86_64", "-q")
    digest = plain_registry.digest("ml/platform", "1")
    assert own.stdout.strip() == f"{plain}/ml/platform@{digest}"
    newest = site.client.jobs(limit=1)[0]
    assert (newest.platform, newest.attempts) == ("linux/amd64", 1)


def test_the_same_image_again_sends_nothing_and_says_so(
    site: Site, plain: str, docker_client: docker.DockerClient
) -> None:
    make_image(docker_client, f"{plain}/ml/again:1")
    first = site.client.push(f"{plain}/ml/again:1", registry="lab").wait(60)

    second = site.client.push(f"{plain}/ml/again:1", registry="lab").wait(60)

    assert (second.skipped, second.digest) == (True, first.digest)
    assert second.id != first.id


def test_events_tell_every_change_in_order(
    site: Site, plain: str, docker_client: docker.DockerClient
) -> None:
    make_image(docker_client, f"{plain}/ml/events:1", layers=[3_000_000])

    events = list(site.client.push(f"{plain}/ml/events:1", registry="lab").events(timeout=60))

    kept = [(e.kind, e.step or e.state) for e in events if e.kind != "progress"]
    assert kept == [
        ("state", "preparing"),
        ("step", "pushing"),
        ("step", "verifying"),
        ("state", "succeeded"),
    ]


def test_an_image_that_is_not_in_the_engine_fails_and_names_the_engine(
    site: Site, plain: str
) -> None:
    job = site.client.push(f"{plain}/ml/nothing:1", registry="lab")

    with pytest.raises(JobFailed, match=r"image_not_found: image .*/ml/nothing:1 is not in engine"):
        job.wait(60)
    record = job.record()
    assert record.error is not None
    assert record.error.retryable is False
    assert "engines with workers:" in record.error.message


def test_an_image_that_is_not_the_components_is_refused_before_it_is_queued(
    site: Site, plain: str
) -> None:
    with pytest.raises(UsageError, match=r"'train:42' means docker.io/library/train:42") as caught:
        site.client.push("train:42", registry="lab")

    assert f"transship push {plain}/train:42 --source train:42 --registry lab" in str(caught.value)
    assert site.client.jobs() == []


def test_an_unknown_component_is_known_at_once(site: Site, plain: str) -> None:
    with pytest.raises(UsageError, match=r"no component 'lap'; did you mean 'lab'\? known: lab"):
        site.client.push(f"{plain}/x:1", registry="lap")


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_a_push_logs_in_with_the_components_own_credentials(
    site: Site,
    docker_client: docker.DockerClient,
    request: pytest.FixtureRequest,
    auth: str,
) -> None:
    registry: Registry = request.getfixturevalue(f"{auth}_registry")
    login = {"username": USER, "password": {"env": "LAB_PASSWORD"}}
    site.write_catalog({"lab": {"flavor": "default", "uri": registry.address, **login}})
    site.start_worker(LAB_PASSWORD=PASSWORD)
    make_image(docker_client, f"{registry.address}/ml/{auth}:1")

    record = site.client.push(f"{registry.address}/ml/{auth}:1", registry="lab").wait(60)

    assert record.digest == registry.digest(f"ml/{auth}", "1")


@pytest.mark.parametrize(
    ("login", "code"),
    [
        ({"username": USER, "password": {"env": "LAB_PASSWORD"}}, "denied"),
        ({}, "denied"),
        ({"username": USER, "password": {"env": "NOT_SET"}}, "credentials_missing"),
    ],
    ids=["wrong", "none", "unset"],
)
def test_a_login_that_is_wrong_or_missing_fails_once_and_for_good(
    site: Site,
    basic_registry: Registry,
    docker_client: docker.DockerClient,
    login: dict[str, object],
    code: str,
) -> None:
    address = basic_registry.address
    site.write_catalog({"lab": {"flavor": "default", "uri": address, **login}})
    site.start_worker(LAB_PASSWORD="hunter2-is-wrong")
    make_image(docker_client, f"{address}/ml/denied:1")
    job = site.client.push(f"{address}/ml/denied:1", registry="lab")

    with pytest.raises(JobFailed):
        job.wait(60)

    record = job.record()
    assert record.error is not None
    assert (record.error.code, record.error.retryable, record.attempts) == (code, False, 1)
    assert "hunter2" not in record.to_json()


def test_an_unreachable_registry_is_tried_again_and_then_given_up(
    site: Site, docker_client: docker.DockerClient
) -> None:
    address = f"127.0.0.1:{free_port()}"
    site.write_catalog({"lab": {"flavor": "default", "uri": address}})
    site.start_worker(TRANSSHIP_ATTEMPTS="2")
    make_image(docker_client, f"{address}/ml/away:1")
    job = site.client.push(f"{address}/ml/away:1", registry="lab")

    with pytest.raises(JobFailed, match="given up after 2 attempts"):
        job.wait(120)

    states = [e.state for e in site.client.job(job.id).events() if e.kind == "state"]
    assert states == ["running", "retrying", "running", "failed"]
    record = job.record()
    assert record.error is not None
    assert record.error.code == "registry_unreachable"


def test_many_pushes_are_enqueued_at_once_and_all_arrive(
    site: Site, plain: str, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    from transship import Push

    names = [f"{plain}/ml/many-{n}:1" for n in range(20)]
    make_image(docker_client, *names)

    jobs = site.client.push_many(Push(name, registry="lab", bulk=True) for name in names)

    digests = {job.wait(120).digest for job in jobs}
    assert len(digests) == 1
    assert digests == {plain_registry.digest(f"ml/many-{n}", "1") for n in range(20)}


def test_a_changed_catalogue_counts_without_a_restart(
    site: Site, plain: str, docker_client: docker.DockerClient
) -> None:
    make_image(docker_client, f"{plain}/ml/changed:1")
    job = site.client.push(f"{plain}/ml/changed:1", registry="lab")
    job.wait(60)

    site.write_catalog({"renamed": {"flavor": "default", "uri": plain}})
    # Producers hear of it with the worker's next publication; an accepted job waits for it.
    from tests.support.processes import eventually

    eventually(lambda: [c.name for c in site.client.fleet().components] == ["renamed"])
    record = site.client.push(f"{plain}/ml/changed:1", registry="renamed").wait(60)

    assert record.skipped


def test_a_broken_catalogue_is_reported_and_the_last_good_one_stays(
    site: Site, plain: str, docker_client: docker.DockerClient
) -> None:
    from tests.support.processes import eventually

    make_image(docker_client, f"{plain}/ml/broken:1")
    site.catalog.write_text("registries: [")

    shown = eventually(lambda: site.client.fleet().workers[0].catalog_error)

    assert "catalog.yaml:1" in str(shown)
    site.client.push(f"{plain}/ml/broken:1", registry="lab").wait(60)


def test_without_a_live_worker_a_push_is_accepted_with_a_warning(
    site: Site, plain_registry: Registry, docker_client: docker.DockerClient
) -> None:
    address = plain_registry.address
    make_image(docker_client, f"{address}/ml/early:1")

    job = site.client.push(f"{address}/ml/early:1", registry="lab")

    assert "no worker is alive" in job.warnings[0]
    site.write_catalog({"lab": {"flavor": "default", "uri": address}})
    site.start_worker()
    assert job.wait(60).digest == plain_registry.digest("ml/early", "1")
