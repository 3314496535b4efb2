"""ECR from end to end: moto as the control plane, an authenticated registry as the data plane.

The component is the one that a user would write where ECR has another name: a host that is
not ECR's, with account, region and the API's address.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.support.images.engine_images import make_image
from tests.support.scripted_servers.registry import ScriptedRegistry, error
from tests.support.servers.ecr import (
    ACCOUNT,
    KEY_ID,
    REGION,
    REGISTRY_PASSWORD,
    REGISTRY_USER,
    SECRET,
    Moto,
)
from tests.support.servers.registry import Registry
from tests.support.workers.recording_control import RecordingControl
from transship.errors import ImmutableTag, RepositoryMissing
from transship_worker.catalog import Catalog
from transship_worker.credentials.cache import TokenCache
from transship_worker.flavors.aws import AwsRegistry
from transship_worker.flavors.notes import collected_notes
from transship_worker.transports.engine.client import Engine, find_engine
from transship_worker.transports.engine_push import DockerPush

pytestmark = [pytest.mark.engine, pytest.mark.registry]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    with Moto() as server:
        yield server


@pytest.fixture(scope="module")
def data_plane() -> Iterator[Registry]:
    """Lets in the login that moto's token holds, and no other."""
    with Registry(users={REGISTRY_USER: REGISTRY_PASSWORD}) as registry:
        yield registry


@pytest.fixture(scope="module")
def engine(docker_url: str) -> Engine:
    return find_engine({"DOCKER_HOST": docker_url})


@pytest.fixture(autouse=True)
def fresh_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TokenCache(margin=timedelta(minutes=15))
    monkeypatch.setattr("transship_worker.flavors.aws.registry._TOKENS", cache)


@pytest.fixture
def repository() -> str:
    """A repository that does not exist yet."""
    return f"ml/train-{next(_numbers)}"


def component(
    tmp_path: Path,
    moto: Moto,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    **options: Any,
) -> AwsRegistry:
    """The component as a worker reads it from its catalogue."""
    monkeypatch.setenv("ECR_TEST_SECRET", SECRET)
    entry = {
        "flavor": "aws",
        "uri": f"{address}/ml",
        "account": ACCOUNT,
        "region": REGION,
        "endpoint_url": moto.url,
        "access_key_id": KEY_ID,
        "secret_access_key": {"env": "ECR_TEST_SECRET"},
        **options,
    }
    file = tmp_path / "catalog.yaml"
    file.write_text(json.dumps({"registries": {"ecr": entry}}))
    found = Catalog.open(file).registry("ecr")
    assert isinstance(found, AwsRegistry)
    return found


def push(registry: AwsRegistry, engine: Engine, name: str, image_id: str) -> DockerPush:
    transport = DockerPush(engine, image_id=image_id, source=None, control=RecordingControl())
    registry.push_image(name, transport=transport)
    return transport


def test_the_repository_is_created_and_the_image_arrives_and_comes_back_equal(
    tmp_path: Path,
    moto: Moto,
    data_plane: Registry,
    engine: Engine,
    docker_client: docker.DockerClient,
    repository: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = component(
        tmp_path,
        moto,
        data_plane.address,
        monkeypatch,
        mutability="immutable",
        scan_on_push=True,
        tags={"team": "ml"},
    )
    name = f"{data_plane.address}/{repository}:42"
    image_id = make_image(docker_client, name, layers=(5000, 5000))
    with collected_notes() as notes:
        transport = push(registry, engine, name, image_id)
    assert notes == [f"created repository {repository} in account {ACCOUNT}, {REGION}"]
    [created] = moto.client().describe_repositories(repositoryNames=[repository])["repositories"]
    assert created["imageTagMutability"] == "IMMUTABLE"
    assert created["imageScanningConfiguration"] == {"scanOnPush": True}
    tags = moto.client().list_tags_for_resource(resourceArn=created["repositoryArn"])["tags"]
    assert tags == [{"Key": "team", "Value": "ml"}]

    assert transport.outcome is not None
    assert transport.outcome.digest == data_plane.digest(repository, "42")
    docker_client.images.remove(image_id, force=True)
    login = {"username": REGISTRY_USER, "password": REGISTRY_PASSWORD}
    pulled = docker_client.images.pull(name, auth_config=login)
    assert pulled.id == image_id

    with collected_notes() as notes:
        again = push(registry, engine, name, image_id)
    assert again.outcome is not None
    assert again.outcome.skipped
    assert notes == [], "the repository is there; nothing is created twice"


def test_an_existing_repository_is_found_among_many(
    tmp_path: Path,
    moto: Moto,
    data_plane: Registry,
    repository: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More repositories than a page of ECR's list holds, and names that only begin alike."""
    ecr = moto.client()
    for number in range(101):
        ecr.create_repository(repositoryName=f"{repository}-{number}")
    registry = component(tmp_path, moto, data_plane.address, monkeypatch, create=False)
    with pytest.raises(RepositoryMissing):
        registry.prepare_image_push(f"{data_plane.address}/{repository}:1")
    registry.prepare_image_push(f"{data_plane.address}/{repository}-100:1")


def test_a_lifecycle_policy_is_there_after_the_creation(
    tmp_path: Path,
    moto: Moto,
    data_plane: Registry,
    repository: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = {
        "rules": [
            {
                "rulePriority": 1,
                "selection": {
                    "tagStatus": "untagged",
                    "countType": "imageCountMoreThan",
                    "countNumber": 3,
                },
                "action": {"type": "expire"},
            }
        ]
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    registry = component(
        tmp_path, moto, data_plane.address, monkeypatch, lifecycle_policy="policy.json"
    )
    registry.prepare_image_push(f"{data_plane.address}/{repository}:1")
    found = moto.client().get_lifecycle_policy(repositoryName=repository)
    assert json.loads(found["lifecyclePolicyText"]) == policy


def test_an_immutable_tag_of_another_image_is_told_with_what_it_holds(
    tmp_path: Path,
    moto: Moto,
    engine: Engine,
    docker_client: docker.DockerClient,
    repository: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The registry refuses the manifest in ECR's words (aws/containers-roadmap#862)."""
    media_type = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": {}, "layers": []}
    ecr = moto.client()
    ecr.create_repository(repositoryName=repository, imageTagMutability="IMMUTABLE")
    ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag="42")
    [held] = ecr.describe_images(repositoryName=repository)["imageDetails"]
    with ScriptedRegistry() as data_plane:
        data_plane.script["PUT manifest"] = error(
            400,
            "TAG_INVALID",
            f"The image tag '42' already exists in the '{repository}' repository and cannot be "
            "overwritten because the repository is immutable.",
        )
        registry = component(tmp_path, moto, data_plane.address, monkeypatch)
        name = f"{data_plane.address}/{repository}:42"
        with pytest.raises(ImmutableTag) as caught:
            push(registry, engine, name, make_image(docker_client, name))
    assert f"{name} is immutable and holds another image, {held['imageDigest']}" in (
        caught.value.message
    )
