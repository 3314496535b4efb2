"""One push as a worker makes it, without the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import docker
from pydantic import SecretStr

from tests.support.fixtures import PASSWORD, USER
from tests.support.images.engine_images import make_image
from tests.support.workers.recording_control import RecordingControl
from transship.model.jobs import Via
from transship.model.references import ImageReference
from transship_worker.credentials.access import Access, Credentials
from transship_worker.flavors.default import DefaultRegistry
from transship_worker.fleet.limits import Limits
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.handlers.push_registry import registry_of_push
from transship_worker.handlers.streaming import Streaming, StreamWay
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine_push import DockerPush
from transship_worker.transports.port import Pushed, PushTransport
from transship_worker.transports.rate_limited_push import GatedPush
from transship_worker.transports.registry_view import RegistryView

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
    #: Where streamed pushes are done; ``None``: the engine pushes.
    streams: StreamWay | None = None
    recall: Callable[..., str | None] | None = None
    via: Via = Via.AUTO
    #: Further options of the component.
    options: Mapping[str, Any] = field(default_factory=dict)
    platform: str | None = None
    require_all_platforms: bool = False

    @property
    def image(self) -> ImageReference:
        return ImageReference.parse(self.name)

    def run(self, gate: EngineGate | None = None) -> Pushed:
        """Push, through a gate if there is one, and return the outcome."""
        transport = DockerPush(
            self.engine,
            image_id=self.image_id,
            source=self.source,
            control=self.control,
            streamed=self._streamed() if self.streams is not None else None,
            registry=self._view() if self.streams is not None else None,
            platform=self.platform,
            require_all_platforms=self.require_all_platforms,
        )
        pushing: PushTransport = transport
        if gate is not None:
            pushing = GatedPush(transport, gate, Limits(), self.control)
        digest = pushing.push(self.image, credentials=self.credentials, access=self.access)
        assert transport.outcome is not None
        assert transport.outcome.digest == digest
        return transport.outcome

    def _component(self) -> DefaultRegistry:
        values = {"name": "lab", "uri": self.image.registry, **self.options}
        return DefaultRegistry.model_validate(values)

    def _streamed(self) -> Streaming:
        recall = self.recall or (lambda *_: None)
        return Streaming(
            lambda: self.streams, recall, self.engine, self._component(), self.control, self.via
        )

    def _view(self) -> RegistryView:
        return registry_of_push(lambda: self.streams, self._component(), self.control)


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
