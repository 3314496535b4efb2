"""What the ``aws`` flavor remembers of repositories, against botocore's Stubber."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from tests.support.servers.ecr import ACCOUNT, REGION
from transship.errors import RepositoryMissing
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.flavors.aws import AwsRegistry
from transship_worker.flavors.aws.known import Known
from transship_worker.flavors.options import Use

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
IMAGE = f"{HOST}/ml/train"
FOUND = {"repositories": [{"repositoryName": "ml/train", "imageTagMutability": "MUTABLE"}]}


def registry(**options: Any) -> AwsRegistry:
    values = {"name": "prod", "uri": f"{HOST}/ml", "username": "AWS", "password": "x", **options}
    return AwsRegistry.model_validate(values)


class Refusing:
    """A transport that finds no repository."""

    def push(
        self, image: ImageReference, *, credentials: Credentials | None, access: Access
    ) -> str:
        raise RepositoryMissing("gone")


def test_a_repository_that_was_there_is_not_looked_up_for_each_image(ecr: Stubber) -> None:
    ecr.add_response("describe_repositories", FOUND)
    made = registry()
    for number in range(3):
        made.prepared(f"{IMAGE}:{number}", use=Use.COPY_TO)
    made.prepared(f"{IMAGE}@sha256:{'a' * 64}", use=Use.COPY_TO)


def test_a_repository_that_was_created_is_there(ecr: Stubber) -> None:
    ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
    ecr.add_response("create_repository", {})
    made = registry()
    made.prepare_image_push(f"{IMAGE}:1")
    made.prepare_image_push(f"{IMAGE}:2")


def test_a_repository_that_is_missing_is_looked_up_each_time(ecr: Stubber) -> None:
    made = registry(create=False)
    for _ in range(2):
        ecr.add_client_error("describe_repositories", "RepositoryNotFoundException")
        with pytest.raises(RepositoryMissing):
            made.prepare_image_push(f"{IMAGE}:1")
    ecr.add_response("describe_repositories", FOUND)
    made.prepare_image_push(f"{IMAGE}:1")


def test_a_repository_that_a_push_did_not_find_is_looked_up_again(ecr: Stubber) -> None:
    made = registry()
    for _ in range(2):
        ecr.add_response("describe_repositories", FOUND)
        with pytest.raises(RepositoryMissing, match="gone"):
            made.push_image(f"{IMAGE}:1", transport=Refusing())


def test_a_name_is_forgotten_after_its_time_and_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    known = Known(300)
    known.add("a")
    now += 200
    known.add("b")
    assert "a" in known
    now += 101
    assert "a" not in known
    assert "b" in known
    known.add("c")
    assert list(known._until) == ["b", "c"]
    known.drop("b")
    assert "b" not in known
