"""What a producer, or a migration, asks for when an image is to go from registry to registry."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from transship.model.jobs import Kind
from transship.model.migration.fields import Flag, Listed, PlatformField, Tag
from transship.model.migration.plan import MOST_BYTES, MOST_TAGS, MigrationId
from transship.model.migration.specification import (
    MOST_PLATFORMS,
    ForeignLayers,
    OnConflict,
    SourceName,
)
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
from transship_config.lanes import BULK_COPY_QUEUE, COPY_QUEUE

#: A job of a migration may wait for its start for as long as the migration lasts. Unit: s.
MIGRATION_EXPIRES_S: Final = LONGEST_S
#: The version of a request on behalf of another account.
ON_BEHALF_OF_VERSION: Final = 2


class CopyRequest(BaseModel):
    """One image that is to be copied. It never changes once it is written.

    Both sides are registry components of the workers' catalogue (the source may be a host that
    the catalogue lets be read without one). Layout folders are named like registries, by
    ``COMPONENT.layout/repository:tag``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    kind: Literal["copy"] = "copy"
    version: Literal[1, 2] = 1
    #: The target reference, with a tag; without any tag, with the digest that is copied.
    image: Reference
    #: The target's component.
    registry: Name
    #: The source reference, with a tag or a digest.
    source: Reference
    #: The source's component, or a host that may be read without one.
    source_registry: SourceName
    #: Tags of the target repository besides the image's own.
    more_tags: Annotated[Listed[Tag], Field(max_length=MOST_TAGS)] = ()
    #: Empty: all that the image has.
    platforms: Annotated[Listed[PlatformField], Field(max_length=MOST_PLATFORMS)] = ()
    referrers: Flag = False
    foreign_layers: ForeignLayers = ForeignLayers.COPY
    on_conflict: OnConflict = OnConflict.OVERWRITE
    #: The migration that it belongs to.
    migration: MigrationId | None = None
    #: The target repository was not there when this was planned just now: the first attempt need
    #: not look for what it might hold.
    creates: Flag = False
    #: As planned; 0: not known. Unit: bytes.
    size: Annotated[int, Field(ge=0, le=MOST_BYTES)] = 0
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=MOST_LABELS)] = Field(
        default_factory=dict
    )
    on_behalf_of: ForOthers = None
    #: Seconds one attempt may run. Unit: s.
    deadline_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = DEFAULT_DEADLINE_S
    #: Seconds the job may wait for its first start. Unit: s.
    expires_s: Annotated[int, Field(ge=1, le=LONGEST_S)] = DEFAULT_EXPIRES_S

    _parse_image = field_validator("image", mode="before")(parse_reference)
    _parse_source = field_validator("source", mode="before")(parse_reference)

    @model_validator(mode="before")
    @classmethod
    def _version_of_the_fields(cls, fields: Any) -> Any:
        """Give a request that a worker of version 1 cannot read the version that says so."""
        if isinstance(fields, dict) and fields.get("on_behalf_of") is not None:
            return {"version": ON_BEHALF_OF_VERSION} | fields
        return fields

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.image.digest is not None and self.image.tag is not None:
            raise ValueError(f"'{self.image}' names a tag and a digest; a target has one of them")
        if self.source.digest is None and self.image.digest is not None:
            raise ValueError(
                f"the target '{self.image}' names a digest and the source none; give it a tag"
            )
        if self.image.digest is not None and self.more_tags:
            raise ValueError("a target without a tag of its own has no more tags")
        return self

    @property
    def queue(self) -> str:
        """The queue that it waits in."""
        return COPY_QUEUE if self.migration is None else BULK_COPY_QUEUE

    def target(self, job: str) -> str:  # noqa: ARG002 - of a migration it is the job itself
        """What only one job at a time may write: the image's own tag stands for all of them."""
        return str(self.image)

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags that the image gets at the target, each once."""
        own = (self.image.tag,) if self.image.tag else ()
        return tuple(dict.fromkeys((*own, *self.more_tags)))

    def fingerprint(self) -> str:
        """Equal for requests that ask for the same; 32 hex digits.

        A request of version 1 has the one that older producers give it.
        """
        unused = {"on_behalf_of"} if self.on_behalf_of is None else None
        return hashlib.sha256(self.model_dump_json(exclude=unused).encode()).hexdigest()[:32]

    def to_stored(self) -> str:
        """The JSON that the ledger holds: without what is left at its default, but the kind."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(
            {"kind": self.kind, "version": self.version} | fields, separators=(",", ":")
        )

    @property
    def accesses(self) -> tuple[Access, ...]:
        """What its account must have the right to do; further tags are in the same repository."""
        return (
            Access(Verb.COPY_FROM, self.source_registry, self.source),
            Access(Verb.COPY_TO, self.registry, self.image),
        )

    def facts(self) -> dict[str, Any]:
        """What the record says of the request itself."""
        return {
            "kind": Kind.COPY,
            "image": str(self.image),
            "registry": self.registry,
            "source": str(self.source),
            "source_registry": self.source_registry,
            "tags": list(self.tags),
            "labels": dict(self.labels),
            "migration": self.migration,
            "bulk": self.migration is not None,
        }

    @property
    def display(self) -> str:
        """One line for people, shown in Flower: ``source → image``."""
        return f"{self.source} → {self.image}"
