"""What producers may know of components and workers: the public view."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from transship.errors import UnknownComponent
from transship.model.engines import EngineInfo
from transship.model.references import ImageReference, RegistryUri
from transship_config.errors import UsageError
from transship_config.text import did_you_mean


class PublicComponent(BaseModel):
    """A registry component without its options and secrets."""

    model_config = ConfigDict(frozen=True)

    name: str
    flavor: str
    uri: str

    def covers(self, image: ImageReference) -> bool:
        """Whether the image lies under this component's URI."""
        return image.lies_under(RegistryUri.parse(self.uri))


class WorkerView(BaseModel):
    """What a live worker says of itself, under a key that expires."""

    model_config = ConfigDict(frozen=True)

    #: Unique among live workers: ``transship@host.pid``-like, as Celery and Flower show it.
    name: str
    #: The Docker Engine it pushes from; ``None`` while no engine answers.
    engine: str | None
    components: list[PublicComponent] = Field(default_factory=list)
    #: What is wrong with the newest catalogue, while the last good one is used.
    catalog_error: str | None = None
    #: Why no engine answers.
    engine_error: str | None = None
    #: What the engine is; ``None`` until it was asked.
    engine_info: EngineInfo | None = None
    #: Components whose secrets cannot be read on this worker, with why (an unset variable, an
    #: absent file). Whether a registry accepts them shows only when it is asked.
    credential_errors: dict[str, str] = Field(default_factory=dict)
    interactive_slots: int = 0
    bulk_slots: int = 0
    copy_slots: int = 0
    #: Why it has fewer slots than it was told to have; empty: it has all.
    slots_lowered: str = ""
    running: int = 0
    draining: bool = False
    #: Hosts (``host[:port]``) that it reads without a component and without credentials.
    anonymous_sources: list[str] = Field(default_factory=list)
    #: Which rights of accounts its catalogue gives; empty: it has no section ``accounts``, and
    #: everything is allowed.
    rights_version: str = ""
    version: str = ""
    started_at: datetime
    seen_at: datetime

    @property
    def lacks_engine(self) -> bool:
        """Whether it is to push, and has no engine that answers."""
        pushes = self.interactive_slots + self.bulk_slots > 0
        return bool(self.engine_error) or (self.engine is None and pushes)


class Fleet(BaseModel):
    """All live workers, and the union of what they publish."""

    model_config = ConfigDict(frozen=True)

    workers: list[WorkerView]

    @property
    def engines(self) -> list[str]:
        """Names of the Docker Engines that live workers push from, sorted."""
        return sorted({w.engine for w in self.workers if w.engine})

    @property
    def components(self) -> list[PublicComponent]:
        """Distinct components, sorted by name; a name with two URIs appears twice."""
        found = {(c.name, c.flavor, c.uri): c for w in self.workers for c in w.components}
        return [found[key] for key in sorted(found)]

    @property
    def conflicts(self) -> dict[str, list[str]]:
        """Component names under which workers publish different URIs, with those URIs."""
        uris: dict[str, set[str]] = {}
        for component in self.components:
            uris.setdefault(component.name, set()).add(component.uri)
        return {name: sorted(found) for name, found in uris.items() if len(found) > 1}

    @property
    def anonymous_sources(self) -> list[str]:
        """Hosts that any live worker reads without a component, sorted."""
        return sorted({host for w in self.workers for host in w.anonymous_sources})

    @property
    def rights_versions(self) -> list[str]:
        """Versions of the rights that live workers go by, sorted; empty text: no rights needed."""
        return sorted({w.rights_version for w in self.workers})

    def component(self, name: str) -> PublicComponent:
        """The published component of this name.

        Raises:
            UnknownComponent: nobody publishes it; the message says what is near.
            UsageError: workers disagree about its URI.
        """
        if name in self.conflicts:
            raise UsageError(
                f"workers publish component {name!r} with different URIs: "
                f"{', '.join(self.conflicts[name])}; make their catalogues agree"
            )
        for component in self.components:
            if component.name == name:
                return component
        raise unknown_component(name, (c.name for c in self.components))

    def covering(self, image: ImageReference) -> PublicComponent:
        """The one published component whose URI covers the image.

        Raises:
            UnknownComponent: none does.
            UsageError: several do.
        """
        found = [c for c in self.components if c.covers(image)]
        names = sorted({c.name for c in found})
        if not names and len(self.components) == 1:
            raise UnknownComponent(not_under_registry(str(image), self.components[0]))
        if not names:
            known = ", ".join(f"{c.name} ({c.uri})" for c in self.components)
            raise UnknownComponent(
                f"no component covers {image}; "
                + (f"known: {known}" if known else "none is known: `transship registry register`")
            )
        if len(names) > 1:
            raise UsageError(
                f"{image} lies under {' and '.join(names)}; choose one with --registry"
            )
        return self.component(names[0])


def unknown_component(name: str, known: Iterable[str]) -> UnknownComponent:
    """``no component 'prd'; did you mean 'prod'? known: prod, staging``."""
    return UnknownComponent(f"no component {name!r};{did_you_mean(name, sorted(set(known)))}")


def not_under_registry(text: str, component: PublicComponent) -> str:
    """Why an image cannot go to a component, and the command that would be right."""
    image = ImageReference.parse(text)
    means = f" means {image}, which" if text != str(image) else ""
    last = image.repository.rpartition("/")[2]
    right = f"{component.uri}/{last}:{image.tagged.tag or 'TAG'}"
    return (
        f"{text!r}{means} is not under {component.uri} ({component.name}); write: "
        f"transship push {right} --source {text} --registry {component.name}"
    )
