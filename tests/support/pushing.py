"""One push as a worker makes it, without the worker."""

from __future__ import annotations

from dataclasses import dataclass, field

import docker
from pydantic import SecretStr

from longshore_config.reference import ImageReference
from longshore_worker.transports.docker_push import DockerPush
from longshore_worker.transports.engine import Engine
from longshore_worker.transports.port import Access, Credentials, Pushed
from tests.support.control import RecordingControl
from tests.support.fixtures import PASSWORD, USER
from tests.support.images import make_image

LOGIN = Credentials(USER, SecretStr(PASSWORD))


@dataclass
class Push:
    """A push that may be run, watched and stopped; ``name`` is the target."""

    engine: Engine
    name: str
    image_id: str
    source: str | None = None
    credentials: Credentials | None = None
    access: Access = field(default_factory=Access)
    control: RecordingControl = field(default_factory=RecordingControl)

    @property
    def image(self) -> ImageReference:
        return ImageReference.parse(self.name)

    def run(self) -> Pushed:
        """Push, and return the outcome."""
        transport = DockerPush(
            self.engine, image_id=self.image_id, source=self.source, control=self.control
        )
        digest = transport.push(self.image, credentials=self.credentials, access=self.access)
        assert transport.outcome is not None
        assert transport.outcome.digest == digest
        return transport.outcome


def fresh(
    client: docker.DockerClient,
    engine: Engine,
    name: str,
    *,
    layers: tuple[int, ...] = (1000,),
    credentials: Credentials | None = None,
) -> Push:
    """A push of a new image that is tagged as its target already."""
    image_id = make_image(client, name, layers=layers)
    return Push(engine, name, image_id, credentials=credentials)
