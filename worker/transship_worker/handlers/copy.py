"""The work of a copy: prepare the target, copy from registry to registry in the background loop."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass

from transship.errors import HandedBack, NotUnderRegistry
from transship.model.copy_request import CopyRequest
from transship.model.jobs import Step
from transship.model.migration.specification import OnConflict
from transship.model.references import ImageReference
from transship_worker.catalog.model import Components
from transship_worker.concurrency.loop import BackgroundLoop
from transship_worker.flavors.base import BaseContainerRegistry
from transship_worker.flavors.options import Use
from transship_worker.fleet.port import Leads
from transship_worker.handlers.content import content_scope
from transship_worker.handlers.copy_progress import CopyProgress, CopySlots
from transship_worker.handlers.leading import led_rule
from transship_worker.handlers.registries import Opened, Registries, Way
from transship_worker.jobs.claim_results import Claim
from transship_worker.jobs.control import Control
from transship_worker.jobs.handler import Accepted, NotHere, Outcome
from transship_worker.jobs.rights import checked_rights
from transship_worker.oci.led import led_by
from transship_worker.oci.manifest_memory import sharing
from transship_worker.oci.waiting import patient
from transship_worker.transports.copy.image import copy_image
from transship_worker.transports.copy.port import Copied, CopyTask


@dataclass(frozen=True, slots=True)
class AcceptedCopy(Accepted):
    """A copy that this worker can run."""

    registries: Registries
    target: BaseContainerRegistry


@dataclass(frozen=True, slots=True)
class Grounds:
    """What all copies of a process share; lives in the background loop."""

    way: Way
    leads: Leads
    slots: CopySlots


@dataclass(frozen=True, slots=True)
class Copying:
    """Implements ``Work`` for ``CopyRequest``."""

    #: The newest good version of the catalogue.
    components: Callable[[], Components]
    loop: BackgroundLoop
    grounds: Grounds

    def accept(self, request: CopyRequest, account: str) -> AcceptedCopy:
        """See that both sides are known here.

        Raises:
            NotHere: a component is not.
            NotAllowed: the account may not copy from there, or not to there.
        """
        components = self.components()
        registries = Registries(components)
        for name, use in (
            (request.registry, Use.COPY_TO),
            (request.source_registry, Use.COPY_FROM),
        ):
            if not registries.knows(name, use):
                raise NotHere(f"left to another worker: component {name!r} is not known here")
        rights = checked_rights(components, account, request, registries.uri)
        target = components.registry(request.registry)
        source = components.registries.get(request.source_registry)

        def redacted(text: str) -> str:
            text = target.redacted(text)
            return source.redacted(text) if source is not None else text

        return AcceptedCopy("", target.FLAVOR, redacted, rights, registries, target)

    def run(
        self, claim: Claim, request: CopyRequest, accepted: AcceptedCopy, control: Control
    ) -> Outcome:
        """Prepare the target, then copy.

        Raises:
            TransshipError: why it did not succeed.
        """
        control.mark(Step.PREPARING)
        target = accepted.registries.open(request.registry, Use.COPY_TO)
        source = accepted.registries.open(request.source_registry, Use.COPY_FROM)
        _check_sides(request, source)
        _prepare(request, accepted.target)
        control.checkpoint()
        control.mark(Step.COPYING)
        running = self.loop.start(self._copy(claim, request, accepted, source, target, control))
        try:
            with control.closing(running.cancel):
                copied = running.result()
        except concurrent.futures.CancelledError:
            control.checkpoint()
            raise HandedBack("the worker's event loop stopped") from None
        for tag in copied.kept:
            control.warn(f"the tag {tag} is another image at the target and was left alone")
        verb = "skipped" if copied.skipped else "copied"
        return Outcome(copied.digest, f"{verb} {request.display}", copied.skipped)

    async def _copy(
        self,
        claim: Claim,
        request: CopyRequest,
        accepted: AcceptedCopy,
        source: Opened,
        target: Opened,
        control: Control,
    ) -> Copied:
        grounds = self.grounds
        rights, components = accepted.rights, accepted.registries.components
        task = CopyTask(
            reference=request.source.digest or request.source.tag or "latest",
            tags=request.tags,
            platforms=request.platforms,
            referrers=request.referrers,
            foreign_layers=request.foreign_layers,
            # A second attempt finds what the first one left.
            fresh=request.creates
            and claim.fence == "1"
            and request.on_conflict is OnConflict.OVERWRITE,
            on_conflict=request.on_conflict,
            since=claim.since,
            scope=content_scope(rights, components),
        )
        async with grounds.slots.slot(control) as slot:
            progress = CopyProgress(control, slot)
            memory = grounds.way.pool.connections.manifest_memory
            try:
                with patient(control.patient), led_by(led_rule(rights, components)):
                    async with sharing(memory, progress.parked):
                        return await copy_image(
                            task,
                            await source.source(grounds.way, request.source.repository),
                            target.target(grounds.way, request.image.repository),
                            grounds.leads,
                            progress,
                            # Each attempt is another holder: what a dead one led is not this one's.
                            f"{claim.job}.{claim.token}",
                        )
            finally:
                progress.tell()


def _check_sides(request: CopyRequest, source: Opened) -> None:
    """A request may name nothing outside of its components.

    Raises:
        NotUnderRegistry: the source does; the target is checked when it is prepared.
    """
    if not request.source.lies_under(source.uri):
        raise NotUnderRegistry(
            f"{request.source} is not under {source.uri} ({source.name}); give the source that "
            "lies there, or its own component with --from"
        )


def _prepare(request: CopyRequest, target: BaseContainerRegistry) -> None:
    """Have the target's flavor check and prepare every name that will be written."""
    image = request.image
    if not request.tags:
        target.prepared(str(image), use=Use.COPY_TO)
    for tag in request.tags:
        name = ImageReference(image.host, image.port, image.repository, tag)
        target.prepared(str(name), use=Use.COPY_TO)
