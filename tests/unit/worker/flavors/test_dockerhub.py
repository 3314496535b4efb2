"""The ``dockerhub`` flavor: names that Docker Hub can take, and the login it always wants."""

from __future__ import annotations

from typing import Any

import pytest

from transship.errors import CredentialsMissing, PrepareFailed
from transship_worker.flavors.dockerhub import DockerHubRegistry


def hub(uri: str = "docker.io", **options: Any) -> DockerHubRegistry:
    return DockerHubRegistry.model_validate({"name": "hub", "uri": uri, **options})


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("docker.io", "docker.io"),
        ("index.docker.io/acme/", "docker.io/acme"),
        ("registry-1.docker.io/acme", "docker.io/acme"),
        ("docker.io/acme-corp", "docker.io/acme-corp"),
    ],
)
def test_docker_hubs_other_names_are_written_as_one(given: str, canonical: str) -> None:
    assert hub(given).uri == canonical


@pytest.mark.parametrize("image", ["acme/train:1", "docker.io/acme/train.v2:1", "a1/x_y:1"])
def test_a_namespace_and_a_name_are_prepared(image: str) -> None:
    prepared = hub().prepared(image)
    assert prepared.repository.count("/") == 1


@pytest.mark.parametrize(
    ("image", "right"),
    [
        ("train:42", "write docker.io/NAMESPACE/train:42 with your namespace"),
        ("library/train:42", "would be one of Docker's own images"),
        ("acme/team/train:42", "it has one namespace and one name: docker.io/acme/train:42"),
        ("a.b.c/x:1", None),
        (f"{'a' * 31}/x:1", "is not a Docker Hub namespace"),
        ("ac.me--x/y", None),
    ],
)
def test_names_that_docker_hub_cannot_take_are_refused_before_a_byte_moves(
    image: str, right: str | None
) -> None:
    if right is None:
        # A dot in the first part makes it a host: another registry's image.
        with pytest.raises(ValueError, match="is not under docker"):
            hub().prepared(image)
        return
    with pytest.raises(PrepareFailed) as caught:
        hub().prepared(image)
    assert right in caught.value.message


def test_a_component_without_a_login_is_told_that_docker_hub_wants_one() -> None:
    with pytest.raises(CredentialsMissing, match="Docker Hub takes no push without one"):
        hub("docker.io/acme").credentials()
