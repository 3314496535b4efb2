"""What a producer asks for when an image is to be pushed."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    field_validator,
    model_validator,
)

from transship.forks import loading
from transship.model.jobs import Kind, Via
from transship.model.references import ImageReference
from transship.model.request_fields import (
    DEFAULT_DEADLINE_S,
    DEFAULT_EXPIRES_S,
    LONGEST_S,
    MOST_LABELS,
    ForOthers,
    LabelKey,
    LabelValue,
    Name,
    Reference,
    parse_reference,
)
from transship.model.rights import Access, Verb
from transship_config.lanes import queue_name

#: Version of the request format; a worker leaves a newer one to a newer worker (``newer``).
REQUEST_VERSION: Final = 1
#: The version of a request that says something about platforms.
PLATFORM_VERSION: Final = 2
#: The version of a request on behalf of another account.
ON_BEHALF_OF_VERSION: Final = 3
#: Why both fields about platforms cannot be set.
ONE_OR_ALL_PLATFORMS: Final = "choose one: platform or require_all_platforms"
_PLATFORM_FIELDS: Final = ("platform", "require_all_platforms")
#: Fields that older versions do not have.
_NEWER_FIELDS: Final = (*_PLATFORM_FIELDS, "on_behalf_of")


def one_platform(value: object) -> str:
    """A platform as ``docker --platform`` writes it, normalized (``Platform``).

    Raises:
        ValueError: it is not a platform; the message says what would be right.
    """
    # Few pushes name one, and the others do not wait for the import.
    with loading():
        from transship.model.migration.platforms import Platform

    if not isinstance(value, str):
        raise ValueError("a platform is text; write os/arch, such as linux/amd64")  # noqa: TRY004
    return str(Platform.parse(value))


class PushRequest(BaseModel):
    """What a producer asks for. It never changes once it is written.

    It names a component and never says how that component is reached: no URL, no secret and
    no import path travels in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    version: Literal[1, 2, 3] = REQUEST_VERSION
    #: The target reference, with a tag.
    image: Reference
    #: The registry component's name.
    registry: Name
    #: A local image (name or id) that is tagged as ``image`` first.
    source: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    #: The Docker Engine whose workers push; ``None``: any.
    engine: Name | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MOST_LABELS)] = Field(
        default_factory=dict
    )
    #: Bulk work has slots of its own and never delays an interactive push.
    bulk: bool = False
    #: Which way it takes.
    via: Via = Via.AUTO
    #: The one platform of the image that is pushed; ``None``: all that the engine has.
    platform: Annotated[str, BeforeValidator(one_platform)] | None = None
    #: Fail if the engine does not have every platform of the image's index.
    require_all_platforms: StrictBool = False
    on_behalf_of: ForOthers = None
    #: Seconds one attempt may run. Unit: s.
    deadline_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = DEFAULT_DEADLINE_S
    #: Seconds the job may wait for its first start. Unit: s.
    expires_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = DEFAULT_EXPIRES_S

    _parse_image = field_validator("image", mode="before")(parse_reference)

    @model_validator(mode="before")
    @classmethod
    def _version_of_the_fields(cls, fields: Any) -> Any:
        """Give a request that a worker of version 1 cannot read the version that says so."""
        if isinstance(fields, dict) and fields.get("on_behalf_of") is not None:
            return {"version": ON_BEHALF_OF_VERSION} | fields
        if isinstance(fields, dict) and any(fields.get(name) for name in _PLATFORM_FIELDS):
            return {"version": PLATFORM_VERSION} | fields
        return fields

    @model_validator(mode="after")
    def _one_or_all_platforms(self) -> Self:
        if self.platform is not None and self.require_all_platforms:
            raise ValueError(ONE_OR_ALL_PLATFORMS)
        return self

    @field_validator("image")
    @classmethod
    def _has_a_tag(cls, value: ImageReference) -> ImageReference:
        if value.digest is not None:
            raise ValueError(
                f"'{value}' names a digest; a push needs a tag: write {value.name}:TAG"
            )
        return value.tagged

    @field_validator("source")
    @classmethod
    def _source_is_one_word(cls, value: str | None) -> str | None:
        if value is not None and (not value.isprintable() or any(c.isspace() for c in value)):
            raise ValueError("source is an image's name or id, with no white space")
        return value

    def fingerprint(self) -> str:
        """Equal for requests that ask for the same; 32 hex digits.

        A request of version 1 has the one that older producers give it.
        """
        unused = {name for name in _NEWER_FIELDS if not getattr(self, name)}
        return hashlib.sha256(self.model_dump_json(exclude=unused).encode()).hexdigest()[:32]

    def to_stored(self) -> str:
        """The JSON that the ledger holds: without what is left at its default, but the version."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps({"version": self.version} | fields, separators=(",", ":"))

    @property
    def kind(self) -> Kind:
        """What sort of work it is."""
        return Kind.PUSH

    @property
    def queue(self) -> str:
        """The queue that it waits in."""
        return queue_name(bulk=self.bulk, engine=self.engine)

    def target(self, job: str) -> str:  # noqa: ARG002 - of a migration it is the job itself
        """What only one job at a time may write."""
        return str(self.image)

    @property
    def accesses(self) -> tuple[Access, ...]:
        """What its account must have the right to do."""
        return (Access(Verb.PUSH, self.registry, self.image),)

    def facts(self) -> dict[str, Any]:
        """What the record says of the request itself."""
        return {
            "image": str(self.image),
            "registry": self.registry,
            "source": self.source,
            "engine": self.engine,
            "labels": dict(self.labels),
            "bulk": self.bulk,
            "platform": self.platform,
            "require_all_platforms": self.require_all_platforms,
        }

    @property
    def display(self) -> str:
        """One line for people, shown in Flower: ``image (platform) → component``."""
        platform = f" ({self.platform})" if self.platform else ""
        return f"{self.image}{platform} → {self.registry}"
