"""What a planner answers: rows that can be reviewed, cut, kept and run later.

A plan is a file of JSON lines, one row a line. A row holds all that a worker needs to carry it
out, so that any part of a plan is a plan. Rows come back from files and from people: they are
checked like any request.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from transship.errors import InvalidReference, UnknownJob
from transship.model.jobs import JobId
from transship.model.migration.fields import (
    MODEL,
    Flag,
    Listed,
    Number,
    PlatformField,
    Repository,
    Tag,
    Text,
    Version,
)
from transship.model.migration.mistakes import Mistake, SpecError, explain, shown
from transship.model.migration.specification import (
    MOST_PLATFORMS,
    MOST_RULES,
    ComponentName,
    ForeignLayers,
    OnConflict,
    SourceName,
)
from transship.model.references import ImageReference
from transship.model.stored_text import ROW, problem_of

#: Rows of a plan that wait for their reader at most; until some are read, planning goes no further.
MOST_UNREAD: Final = 1_000
#: Bytes of a row as JSON.
LONGEST_ROW: Final = ROW.longest
#: Tags of one row; an image with more has several rows. The request of a copy with so many tags of
#: the longest kind has its place within ``stored_text.REQUEST``.
MOST_TAGS: Final = 400
#: Characters of a reason.
LONGEST_REASON: Final = 1_000
#: Bytes of an image, above which a number is a mistake. Unit: bytes.
MOST_BYTES: Final = 1 << 60

#: Characters of a migration's id that its jobs share: its time, to the second.
_SHARED: Final = 8
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # that of job ids


class Action(StrEnum):
    """What is to be done for a row."""

    #: The target does not have the image.
    COPY = "copy"
    #: The target repository has the image, but not under these tags.
    TAG = "tag"
    #: Nothing: the target has it, or its other image is left alone.
    SKIP = "skip"
    #: The target has other images under these tags, and the rule says ``fail``.
    CONFLICT = "conflict"


def _is_digest(value: str) -> str:
    try:
        found = ImageReference.parse(f"a.b/a@{value[:256]}")
    except InvalidReference:
        found = None
    if found is None or found.digest != value:
        raise ValueError(f"{shown(value)} is no digest; write sha256: and 64 hex digits")
    return value


def _is_migration(value: str) -> str:
    try:
        return JobId.parse(value)
    except UnknownJob:
        raise ValueError(f"{shown(value)} is no migration's id") from None


def _is_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line, without control characters")
    return value


def _is_digest_or_nothing(value: str) -> str:
    return _is_digest(value) if value else value


Digest = Annotated[Text, AfterValidator(_is_digest_or_nothing)]
MigrationId = Annotated[Text, AfterValidator(_is_migration)]
#: A line as it is read. (Within the row, ``bytes`` is a field.)
Raw = str | bytes
Count = Annotated[Number, Field(ge=0, le=MOST_BYTES)]


class RowSource(BaseModel):
    """The image that a row reads."""

    model_config = MODEL

    registry: SourceName = Field(description="the source's component")
    repository: Repository = Field(description="a repository of the source")
    #: Empty: nobody looked it up, because the target has its immutable tags.
    digest: Digest = Field("", description="the digest of the image's manifest or index")


class RowTarget(BaseModel):
    """The repository that a row writes to."""

    model_config = MODEL

    registry: ComponentName = Field(description="the target's component")
    repository: Repository = Field(description="a repository of the target")


class PlanRow(BaseModel):
    """One image, one target repository, and what is to be done there."""

    model_config = MODEL

    version: Version = Field(1, description="1")
    migration: MigrationId = Field(description="the id of the migration")
    #: Index of the rule that made it.
    rule: Annotated[Number, Field(ge=0, lt=MOST_RULES)] = Field(
        description="the index of the rule, from 0"
    )
    action: Action = Field(description="one of copy, tag, skip, conflict")
    source: RowSource = Field(description="{registry: NAME, repository: NAME, digest: DIGEST}")
    target: RowTarget = Field(description="{registry: NAME, repository: NAME}")
    #: Each tag at the target, with the tag of the source that it is made from.
    tags: Annotated[dict[Tag, Tag], Field(max_length=MOST_TAGS)] = Field(
        description="{TARGET-TAG: SOURCE-TAG}"
    )
    #: Of the manifests, configurations and layers, each counted once an image. Unit: bytes.
    bytes: Count = Field(0, description="a number of bytes")
    #: Media type of the manifest or index.
    media_type: Annotated[Text, Field(max_length=255), AfterValidator(_is_line)] = Field(
        "", description="a media type"
    )
    platforms: Annotated[Listed[PlatformField], Field(max_length=MOST_PLATFORMS)] = Field(
        (), description="a list of platforms, such as [linux/amd64, linux/arm64]"
    )
    referrers: Flag = Field(False, description="true or false")
    foreign_layers: ForeignLayers = Field(ForeignLayers.COPY, description="one of copy, reference")
    on_conflict: OnConflict = Field(
        OnConflict.OVERWRITE, description="one of skip, overwrite, fail"
    )
    #: The target does not have the repository yet.
    creates: Flag = Field(False, description="true or false")
    #: Manifests that must be read from Docker Hub, each of which counts as a pull.
    hub_pulls: Annotated[Number, Field(ge=0, le=1_000_000)] = Field(
        0, description="a number of pulls"
    )
    #: Why this action, in one line.
    reason: Annotated[Text, Field(max_length=LONGEST_REASON), AfterValidator(_is_line)] = Field(
        "", description="one line"
    )

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        if not self.tags and self.action in {Action.TAG, Action.CONFLICT}:
            raise ValueError(f"a row with the action {self.action} needs at least one tag")
        if not self.source.digest and self.action is not Action.SKIP:
            raise ValueError(
                f"a row with the action {self.action} needs the source's digest; "
                "write sha256: and 64 hex digits"
            )
        return self

    @classmethod
    def parse(cls, line: Raw, *, what: str = "") -> Self:
        """Read one line of a plan, as untrusted input.

        ``what`` names it in messages: ``line 3``.

        Raises:
            SpecError: every mistake, with the keys that lead to it.
        """
        if (problem := problem_of(line, ROW)) is not None:
            raise SpecError([Mistake((), problem)], what=what)
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            raise SpecError(explain(error, _MODELS), what=what) from None

    def to_json(self) -> str:
        """One line of JSON, without what is left at its default, but the version."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        fields["tags"] = dict(sorted(self.tags.items()))
        return json.dumps({"version": self.version} | fields, separators=(",", ":"))

    @property
    def id(self) -> JobId:
        """The id of this row's job: the same whenever the same copy is planned again.

        It depends on the migration and on what is to be at the target at the end, not on what
        the target holds already: a planner that begins anew gives a copied row the same id.
        After the migration's time, 60 bits tell its rows apart: among a million rows two are
        equal with a probability of 4 in 10 million.
        """
        content = [
            self.migration,
            [self.source.registry, self.source.repository, self.source.digest],
            [self.target.registry, self.target.repository],
            sorted(self.tags.items()),
            sorted(str(platform) for platform in self.platforms),
            self.referrers,
        ]
        text = json.dumps(content, separators=(",", ":"))
        number = int.from_bytes(hashlib.sha256(text.encode()).digest())
        rest = "".join(_ALPHABET[(number >> 5 * place) & 31] for place in range(20 - _SHARED))
        return JobId(self.migration[:_SHARED] + rest + self.migration[20:])


_MODELS: Final[dict[str, type[BaseModel]]] = {
    "": PlanRow,
    "source": RowSource,
    "target": RowTarget,
}
