"""Amazon ECR for tests: moto as the control plane, botocore's Stubber where moto is not enough.

moto dates its tokens 2015, knows no throttling and never says that a tag is immutable; what
AWS says in these cases is given to the Stubber as AWS documents it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import boto3
import pytest
from botocore.stub import Stubber
from moto.server import ThreadedMotoServer

#: moto's account, and any region.
ACCOUNT, REGION = "123456789012", "eu-central-1"
#: A login that moto accepts; it accepts all.
KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#: The login that moto's authorization tokens hold.
REGISTRY_USER, REGISTRY_PASSWORD = "AWS", f"{ACCOUNT}-auth-token"


class Moto:
    """moto's server on a loopback port: the ECR API, without a registry behind it."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    @property
    def url(self) -> str:
        """What ``endpoint_url`` would be."""
        host, port = self._server.get_host_and_port()
        return f"http://{host}:{port}"

    def client(self) -> Any:
        """boto3 on it, to look at what was created."""
        return boto3.client(
            "ecr",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def reset(self) -> None:
        """Forget every repository."""
        ecr = self.client()
        for page in ecr.get_paginator("describe_repositories").paginate():
            for repository in page["repositories"]:
                ecr.delete_repository(repositoryName=repository["repositoryName"], force=True)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


@contextmanager
def stubbed_ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """A Stubber in place of AWS; every answer it was given must have been asked for, in order."""
    client = boto3.client(
        "ecr", region_name=REGION, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET
    )
    monkeypatch.setattr(
        "transship_worker.flavors.aws.client.Clients.ecr", lambda self, identity, endpoint: client
    )
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@contextmanager
def no_aws_login(monkeypatch: pytest.MonkeyPatch, home: str) -> Iterator[None]:
    """No AWS variables, no files, and no instance metadata service to ask."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield
