"""The work of a push: prepare the registry, push through the Docker Engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from transship.errors import (
    EngineUnavailable,
    HandedBack,
    ImageNotFound,
    PushError,
    UnknownComponent,
)
from transship.model.push_request import PushRequest
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.options import Use
from transship_worker.fleet.pause_engine import EngineGate
from transship_worker.handlers.content import check_local_image, content_scope
from transship_worker.handlers.push_registry import registry_of_push
from transship_worker.handlers.streaming import Recall, Streaming, StreamWay
from transship_worker.jobs.claim_results import Claim
from transship_worker.jobs.control import Control
from transship_worker.jobs.handler import Accepted, Components, NotHere, Outcome
from transship_worker.jobs.rights import checked_rights
from transship_worker.transports.engine.client import Engine
from transship_worker.transports.engine.identity import ImageNames
from transship_worker.transports.engine_push import DockerPush
from transship_worker.transports.port import Pushed
from transship_worker.transports.rate_limited_push import GatedPush

#: When a job whose engine just went away is looked at again. By then the watch over the engine
#: knows. Unit: s.
AWAY_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class AcceptedPush(Accepted):
    """A push that this worker can run."""

    component: BaseContainerRegistry
    components: Components


@dataclass(frozen=True, slots=True)
class Pushing:
    """Implements ``Work`` for ``PushRequest``."""

    #: The newest good version of the catalogue.
    components: Callable[[], Components]
    engine: Engine
    #: Why the engine does not answer, as far as is known without asking it.
    engine_problem: Callable[[], str | None]
    #: Told why, when a job finds the engine away.
    engine_away: Callable[[str], None]
    #: Names of the engines that live workers push from, for error messages.
    engines: Callable[[], list[str]]
    #: The fleet's budgets and pauses.
    gate: EngineGate
    #: What streamed pushes need; ``None``: the worker stops.
    streams: Callable[[], StreamWay | None]
    #: What an image became when it was streamed.
    recall: Recall

    def accept(self, request: PushRequest, account: str) -> AcceptedPush:
        """Settle the component and see that the engine answers.

        Raises:
            NotHere: the component, the engine or the answer is missing here.
            NotAllowed: the account may not push there.
        """
        components = self.components()
        try:
            component = components.registry(request.registry)
        except UnknownComponent:
            raise NotHere(
                f"left to another worker: component {request.registry!r} is not known here"
            ) from None
        if request.engine is not None and request.engine != self.engine.name:
            raise NotHere(f"left to the workers of engine {request.engine!r}")
        rights = checked_rights(components, account, request, lambda _: component.registry_uri)
        # Known without asking: a hung engine must not keep this slot, and no job is claimed for one
        # that is known to be away.
        if problem := self.engine_problem():
            raise NotHere(f"waits: {problem}")
        return AcceptedPush(
            self.engine.name, component.FLAVOR, component.redacted, rights, component, components
        )

    def run(
        self, claim: Claim, request: PushRequest, accepted: AcceptedPush, control: Control
    ) -> Outcome:
        """Push the image that the first attempt settled.

        Raises:
            TransshipError: why it did not succeed.
        """
        image_id = claim.image_id or self._settled_image(request, control)
        self._check_image(image_id, accepted, control)
        component = accepted.component
        transport = DockerPush(
            self.engine,
            image_id=image_id,
            source=request.source,
            control=control,
            streamed=Streaming(
                self.streams,
                self.recall,
                self.engine,
                component,
                control,
                request.via,
                content_scope(accepted.rights, accepted.components),
            ),
            registry=registry_of_push(self.streams, component, control),
            platform=request.platform,
            require_all_platforms=request.require_all_platforms,
        )
        gated = GatedPush(transport, self.gate, component.quotas, control)
        # Before the flavor's own code, which may replace the whole way of a push.
        component.check_allows(Use.PUSH)
        # The way every push takes, so that a flavor that overrides it is honoured.
        digest = component.push_image(str(request.image), transport=gated)
        pushed = transport.outcome or Pushed(digest)
        line = f"{'skipped' if pushed.skipped else 'pushed'} {request.image.at(pushed.digest)}"
        return Outcome(pushed.digest, line, pushed.skipped)

    def _settled_image(self, request: PushRequest, control: Control) -> str:
        """Settle which image this job is about: what its name means now, it means for good."""
        name = request.source or str(request.image)
        try:
            with self._asking(control):
                image_id = self.engine.image_id(name, control.closing)
        except ImageNotFound:
            engines = self.engines()
            raise ImageNotFound(
                f"image {name} is not in engine {self.engine.name}; engines with "
                f"workers: {', '.join(engines)}"
                + ("; choose one with --engine" if len(engines) > 1 else "")
            ) from None
        control.settle_image(image_id)
        return image_id

    def _check_image(self, image_id: str, accepted: AcceptedPush, control: Control) -> None:
        """Return if the account may have this image: at each attempt, and before it is tagged.

        Raises:
            NotAllowed: it may not.
        """
        if accepted.rights.everything:
            return
        with self._asking(control), self.engine.line(control.closing) as line:
            names = ImageNames.of(self.engine.inspect(line, image_id))
        check_local_image(names, image_id, accepted.rights, accepted.components)

    @contextmanager
    def _asking(self, control: Control) -> Iterator[None]:
        """Ask the engine before anything was done.

        Raises:
            HandedBack: it went away just now, which is no attempt.
        """
        try:
            yield
        except EngineUnavailable as error:
            control.checkpoint()
            if not self._is_away():
                # It is there and cannot answer this: a failed attempt, like any other.
                raise
            raise HandedBack(f"waits: {error.message}", retry_after_s=AWAY_S) from None

    def _is_away(self) -> bool:
        try:
            self.engine.ping()
        except PushError as error:
            self.engine_away(error.message)
            return True
        return False
